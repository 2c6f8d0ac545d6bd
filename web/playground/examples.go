package playground

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed examples
var exampleFiles embed.FS

// Example is an operation that the page offers in a tab.
type Example struct {
	Name      string          // the file's, such as "01-viewer"
	Query     string          // one named operation
	Variables json.RawMessage // an object; nil where the operation has no variables
}

var relativeDay = regexp.MustCompile(`\{\{(-?\d+) days\}\}`)

// Examples is every example in the order of the tabs. Variables may say `{{-7 days}}` for an instant relative to now;
// the page fills these in, and so does this.
func Examples(now time.Time) ([]Example, error) {
	paths, err := fs.Glob(exampleFiles, "examples/*.graphql")
	if err != nil {
		return nil, fmt.Errorf("list examples: %w", err)
	}
	examples := make([]Example, 0, len(paths))
	for _, path := range paths {
		query, err := fs.ReadFile(exampleFiles, path)
		if err != nil {
			return nil, fmt.Errorf("read example: %w", err)
		}
		stem := strings.TrimSuffix(path, ".graphql")
		example := Example{Name: strings.TrimPrefix(stem, "examples/"), Query: string(query)}
		variables, err := fs.ReadFile(exampleFiles, stem+".json")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read example: %w", err)
		}
		if err == nil {
			example.Variables = fillDates(variables, now)
		}
		examples = append(examples, example)
	}
	return examples, nil
}

func fillDates(variables []byte, now time.Time) json.RawMessage {
	return relativeDay.ReplaceAllFunc(variables, func(match []byte) []byte {
		days, _ := strconv.Atoi(string(relativeDay.FindSubmatch(match)[1])) // digits, by the pattern
		return now.UTC().AddDate(0, 0, days).AppendFormat(nil, "2006-01-02T15:04:05.000Z07:00")
	})
}
