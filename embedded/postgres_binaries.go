package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// minimumPostgres is the first version with ON DELETE SET NULL (column), which the schema uses.
const minimumPostgres = 15

// postgresBinaries is an installation that can run.
type postgresBinaries struct {
	dir   string // without symbolic links: PostgreSQL finds its share files relative to where the program really is
	major int
}

func (b postgresBinaries) postgres() string { return filepath.Join(b.dir, "postgres") }
func (b postgresBinaries) initdb() string   { return filepath.Join(b.dir, "initdb") }

// findPostgresBinaries looks in dir or, when that is empty, in PATH and then in /usr/lib/postgresql, newest first. A data
// directory can only be served by the major version that made it; major 0 means there is none yet.
func findPostgresBinaries(ctx context.Context, dir string, major int, runAs *account) (postgresBinaries, error) {
	candidates := []string{dir}
	if dir == "" {
		candidates = postgresDirectories()
	}
	var problems []error
	for _, candidate := range candidates {
		found, err := inspectPostgres(ctx, candidate, runAs)
		switch {
		case err != nil:
			problems = append(problems, err)
		case found.major < minimumPostgres:
			problems = append(problems, fmt.Errorf("PostgreSQL %d in %s is too old: netra needs %d or later", found.major, candidate, minimumPostgres))
		case major != 0 && found.major != major:
			problems = append(problems, fmt.Errorf("the data directory was made by PostgreSQL %d, but %s has %d: install PostgreSQL %d, or delete the data directory to start afresh",
				major, candidate, found.major, major))
		default:
			return found, nil
		}
	}
	if len(problems) > 0 {
		return postgresBinaries{}, problems[0]
	}
	return postgresBinaries{}, errors.New("no PostgreSQL server found in PATH or /usr/lib/postgresql: run `make setup`, or name the directory of its programs in NETRA_PG_BIN")
}

func postgresDirectories() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	// The pattern is constant and well formed, the only error Glob knows.
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	installed = slices.DeleteFunc(installed, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, "postgres"))
		return err != nil
	})
	slices.SortFunc(installed, func(a, b string) int { return cmp.Compare(directoryVersion(b), directoryVersion(a)) })
	return append(dirs, installed...)
}

func directoryVersion(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return version
}

var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

func inspectPostgres(ctx context.Context, dir string, runAs *account) (postgresBinaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return postgresBinaries{}, err
	}
	program, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return postgresBinaries{}, fmt.Errorf("no PostgreSQL server in %s: %w", dir, errors.Unwrap(err))
	}
	found := postgresBinaries{dir: filepath.Dir(program)}
	if _, err := os.Stat(found.initdb()); err != nil {
		return postgresBinaries{}, fmt.Errorf("no initdb beside %s", program)
	}
	version := exec.CommandContext(ctx, program, "--version")
	version.Dir, version.SysProcAttr = "/", runAs.attributes()
	output, err := version.Output()
	if err != nil {
		return postgresBinaries{}, fmt.Errorf("%s cannot be run by %s: %w", program, runAs, err)
	}
	match := postgresVersion.FindSubmatch(output)
	if match == nil {
		return postgresBinaries{}, fmt.Errorf("%s says it is %q, not a PostgreSQL server", program, output)
	}
	if found.major, err = strconv.Atoi(string(match[1])); err != nil {
		return postgresBinaries{}, fmt.Errorf("version of %s: %w", program, err)
	}
	return found, nil
}
