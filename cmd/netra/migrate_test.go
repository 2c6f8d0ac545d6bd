package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
)

func TestMigrateUpStatusDown(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	cfg := &config{OwnerDatabaseURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL}
	migrate := func(arguments ...string) string { return run(t, newMigrateCommand(cfg), arguments...) }
	applied := func() (applied, pending int) {
		table := migrate("status")
		pending = strings.Count(table, "pending\n")
		return strings.Count(table, "\n") - 1 - pending, pending
	}

	before, all := applied()
	require.Zero(t, before)
	require.Positive(t, all)
	migrate("up")
	require.Regexp(t, `(?m)^postgres +20261123000200 +users +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, migrate("status"))
	now, pending := applied()
	require.Equal(t, all, now)
	require.Zero(t, pending)
	migrate("up")

	migrate("down")
	migrate("down", "--database", "clickhouse")
	_, pending = applied()
	require.Equal(t, 2, pending)
	require.Regexp(t, `(?m)^clickhouse +\d+ +\w+ +pending$`, migrate("status"))
}

func TestMigrateCreateWritesBothSectionsAndPrintsThePath(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.Mkdir(root+"/clickhouse", 0o755))
	path := strings.TrimSpace(run(t, newMigrateCommand(&config{}), "create", "add_feature_table", "--database", "clickhouse", "--dir", root))
	require.Regexp(t, `/clickhouse/20\d{12}_add_feature_table\.sql$`, path)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(content), "-- +goose Up\n")
	require.Contains(t, string(content), "-- +goose Down\n")
}

func TestMigrateSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for message, arguments := range map[string][]string{
		"NETRA_OWNER_DATABASE_URL or NETRA_CLICKHOUSE_URL is not set": {"up"},
		`required flag(s) "database" not set`:                         {"create", "name"},
		`--database "mysql": postgres or clickhouse`:                  {"down", "--database", "mysql"},
	} {
		command := newMigrateCommand(&config{})
		command.SetArgs(arguments)
		command.SetOut(new(bytes.Buffer))
		command.SetErr(new(bytes.Buffer))
		require.ErrorContains(t, command.ExecuteContext(t.Context()), message)
	}
}

// run runs a command and returns what it prints on standard output.
func run(t *testing.T, command *cobra.Command, arguments ...string) string {
	t.Helper()
	var out, progress bytes.Buffer
	command.SetArgs(arguments)
	command.SetOut(&out)
	command.SetErr(&progress)
	require.NoError(t, command.ExecuteContext(t.Context()), progress.String())
	return out.String()
}
