package migrations

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

var migrationName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// Create writes an empty migration of database into its directory under root, which is "migrations" at the top of the working tree, and
// returns the path. Its version is at, in UTC, to the second. The name is in snake case.
func Create(root string, database Database, name string, at time.Time) (string, error) {
	if !migrationName.MatchString(name) {
		return "", fmt.Errorf("create migration: name %q is not like add_feature_table", name)
	}
	content := clickhouseMigration
	if database == Postgres {
		content = postgresMigration
	}
	file := filepath.Join(root, string(database), at.UTC().Format("20060102150405")+"_"+name+".sql")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", fmt.Errorf("create migration (is this the top of the working tree?): %w", err)
	}
	if _, err := f.WriteString(content); err != nil {
		_ = f.Close()
		return "", fmt.Errorf("create migration: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("create migration: %w", err)
	}
	return file, nil
}

const postgresMigration = `-- What changes, and why.
--
-- Locks: which tables, how, for how long. The version of the program before this one still runs against the new schema.

-- +goose Up
SET LOCAL lock_timeout = '5s';

-- +goose Down
SET LOCAL lock_timeout = '5s';
`

const clickhouseMigration = `-- What changes, and why.
--
-- ClickHouse has no transactions: write each statement so that it can be repeated (IF NOT EXISTS, IF EXISTS).

-- +goose Up

-- +goose Down
`
