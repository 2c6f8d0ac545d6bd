package migrations_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/migrations"
)

// No cluster runs here: what a cluster would get is parsed by the real engine and held against what a cluster needs.
func TestTheClusterVariantIsCompleteAndParses(t *testing.T) {
	t.Parallel()
	clickhouse := testdb.Empty(t).ClickHouse(t)
	files, err := migrations.Clustered("analytics")
	require.NoError(t, err)
	names, err := fs.Glob(files, "*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, names)
	engine := regexp.MustCompile(`ENGINE = (\w+)`)
	var local, distributed []string
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		require.NoError(t, err)
		require.Contains(t, string(text), "-- +goose Up", name)
		require.Contains(t, string(text), "-- +goose Down", name)
		for _, statement := range strings.Split(regexp.MustCompile(`(?m)^--.*$`).ReplaceAllString(string(text), ""), ";\n") {
			statement = strings.TrimSpace(statement)
			if statement == "" {
				continue
			}
			_, err := clickhouse.ExecContext(t.Context(), "EXPLAIN AST "+statement)
			require.NoError(t, err, "%s: %s", name, statement)
			if strings.HasPrefix(statement, "INSERT INTO") {
				continue
			}
			require.Contains(t, statement, "ON CLUSTER `analytics`", name)
			require.NotContains(t, statement, "non_replicated", name)
			table := regexp.MustCompile(`^[A-Z ]+ (\w+)`).FindStringSubmatch(statement)
			for _, m := range engine.FindAllStringSubmatch(statement, -1) {
				switch {
				case m[1] == "Distributed":
					distributed = append(distributed, table[1])
				default:
					require.Regexp(t, "^Replicated", m[1], name)
					local = append(local, table[1])
				}
			}
		}
	}
	require.NotEmpty(t, local)
	for _, table := range local {
		name, ok := strings.CutSuffix(table, "_local")
		require.True(t, ok, table)
		require.Contains(t, distributed, name)
	}
}

func TestAClustersNameIsChecked(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a b", "x' OR", "`"} {
		_, err := migrations.Clustered(name)
		require.Error(t, err, name)
	}
}
