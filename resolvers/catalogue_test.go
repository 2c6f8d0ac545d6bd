package resolvers_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/internal/testdb"
)

// typeOf is the type in which a table's rows are in the graph.
var typeOf = map[string]string{
	"users": "User", "threads": "Thread", "messages": "Message", "runs": "Run", "run_events": "RunStatusChange", "references": "Reference",
	"supply_catalog": "SupplyItem", "api_keys": "ApiKey", "audit_logs": "AuditLog",
}

// TestCatalogue holds the whole specification to the graph: a column is a field of its table's type, a link, or stands in docs/schema.md
// with the reason why it is not.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/schema.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(page), "\n## Not in the graph\n")
	require.True(t, ok)
	section, _, _ = strings.Cut(section, "\n## ")
	unreachable := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| .{10,} \\|$").FindAllStringSubmatch(section, -1) {
		unreachable[row[1]] = true
	}

	rows, err := testdb.NewPostgres(t).Owner(t).QueryContext(t.Context(), `SELECT table_name, column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name IN (SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE') ORDER BY 1, ordinal_position`)
	require.NoError(t, err)
	defer rows.Close()
	schema := graph.NewExecutableSchema(graph.Config{}).Schema()
	seen := 0
	for rows.Next() {
		var table, column string
		require.NoError(t, rows.Scan(&table, &column))
		seen++
		if unreachable[table] {
			require.NotContains(t, typeOf, table)
			continue
		}
		require.Contains(t, typeOf, table, "a table that is neither in the graph nor in docs/schema.md")
		fields := schema.Types[typeOf[table]].Fields
		reachable := fields.ForName(camel(column)) != nil
		if column == "id" {
			reachable = fields.ForName("databaseId") != nil
		} else if link, isLink := strings.CutSuffix(column, "_id"); isLink && fields.ForName(link) != nil {
			reachable = true
		}
		listed := unreachable[table+"."+column]
		require.NotEqual(t, reachable, listed, "%s.%s is in the graph: %v; is listed as not: %v", table, column, reachable, listed)
		delete(unreachable, table+"."+column)
	}
	require.NoError(t, rows.Err())
	require.Greater(t, seen, 80)
	for left := range unreachable {
		require.NotContains(t, left, ".", "docs/schema.md lists a column that does not exist")
	}
}

// camel is a column's name as a field's.
func camel(column string) string {
	words := strings.Split(column, "_")
	for i, word := range words[1:] {
		words[i+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}
