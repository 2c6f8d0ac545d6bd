package migrations_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/migrations"
)

func TestUpDownUpLeavesTheSameSchema(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	emptyPostgres, emptyClickHouse := describePostgres(t, owner), describeClickHouse(t, clickhouse)
	require.Empty(t, emptyClickHouse)

	require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, silent))
	postgres, events := describePostgres(t, owner), describeClickHouse(t, clickhouse)
	for _, name := range []string{"users", "threads", "messages", "runs", "references", "supply_catalog", "api_keys", "audit_logs", "run_events"} {
		require.Contains(t, postgres, "relation | "+name+" | r")
	}
	for _, name := range []string{"workload_events", "aggregated_metrics", "user_activity", "recent_workloads"} {
		require.Contains(t, events, "table | "+name+" | ")
	}

	var undone []migrations.Migration
	for {
		m, err := migrations.Down(t.Context(), owner, clickhouse, "", silent)
		if err != nil {
			require.ErrorIs(t, err, migrations.ErrNothingToUndo)
			break
		}
		undone = append(undone, m)
		require.Len(t, pending(t, owner, clickhouse), len(undone), "one migration at a time")
	}
	require.True(t, undone[0].Version >= undone[len(undone)-1].Version)
	require.Equal(t, emptyPostgres, describePostgres(t, owner))
	require.Empty(t, describeClickHouse(t, clickhouse))

	require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, silent))
	require.Equal(t, postgres, describePostgres(t, owner))
	require.Equal(t, events, describeClickHouse(t, clickhouse))

	// What all other tests have is a copy of this.
	copied := testdb.New(t)
	require.Equal(t, postgres, describePostgres(t, copied.Owner(t)))
	require.Equal(t, events, describeClickHouse(t, copied.ClickHouse(t)))
	require.Empty(t, pending(t, copied.Owner(t), copied.ClickHouse(t)))
}

func TestEachMigrationCanBeUndoneAndRepeated(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	for _, database := range []migrations.Database{migrations.Postgres, migrations.ClickHouse} {
		for range 3 {
			m, err := migrations.Down(t.Context(), owner, clickhouse, database, silent)
			require.NoError(t, err)
			require.Equal(t, database, m.Database)
			require.Len(t, pending(t, owner, clickhouse), 1)
			require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, silent))
			require.Empty(t, pending(t, owner, clickhouse))
			_, err = migrations.Down(t.Context(), owner, clickhouse, database, silent)
			require.NoError(t, err)
			require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, silent))
		}
	}
}

func TestReplicasThatMigrateAtOnceDoNotCollide(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	var replicas errgroup.Group
	for range 4 {
		owner, clickhouse := db.Owner(t), db.ClickHouse(t)
		replicas.Go(func() error { return migrations.Up(t.Context(), owner, clickhouse, silent) })
	}
	require.NoError(t, replicas.Wait())

	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	require.Empty(t, pending(t, owner, clickhouse))
	const twice = "SELECT version_id FROM goose_db_version GROUP BY version_id HAVING count(*) > 1"
	require.Empty(t, column[int64](t, owner, twice))
	require.Empty(t, column[int64](t, clickhouse, twice))
}

func TestALockEndsWithItsHoldersConnection(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	holder, err := db.Owner(t).Conn(t.Context())
	require.NoError(t, err)
	exec(t, holder, "SELECT pg_advisory_lock(x'6e65747261'::bigint)")
	pid := value[int](t, holder, "SELECT pg_backend_pid()")

	done := make(chan error, 1)
	go func() { done <- migrations.Up(t.Context(), owner, clickhouse, silent) }()
	require.Eventually(t, func() bool {
		return value[bool](t, owner, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND pid != pg_backend_pid() AND query LIKE 'SELECT pg_try_advisory_lock%')`)
	}, time.Minute, 10*time.Millisecond)
	require.Empty(t, done)
	require.False(t, value[bool](t, owner, "SELECT to_regclass('goose_db_version') IS NOT NULL"))
	require.Empty(t, describeClickHouse(t, clickhouse), "ClickHouse waits for PostgreSQL's lock too")

	exec(t, owner, "SELECT pg_terminate_backend($1)", pid)
	require.NoError(t, <-done)
}

func TestStatusOfDatabasesThatAreNotThereChangesNothing(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	owner := db.Owner(t)
	options, err := clickhouse.ParseDSN(db.ClickHouseURL)
	require.NoError(t, err)
	options.Auth.Database += "_absent"
	absent := clickhouse.OpenDB(options)
	defer absent.Close()

	all, err := migrations.Status(t.Context(), owner, absent)
	require.NoError(t, err)
	require.NotEmpty(t, all)
	require.Len(t, pending(t, owner, absent), len(all))
	require.False(t, value[bool](t, owner, "SELECT to_regclass('goose_db_version') IS NOT NULL"))
	_, err = migrations.Down(t.Context(), owner, absent, "", silent)
	require.ErrorIs(t, err, migrations.ErrNothingToUndo)
}

func TestStatusSaysWhenWhateverTheSessionsZone(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	config, err := pgx.ParseConfig(db.OwnerURL)
	require.NoError(t, err)
	config.RuntimeParams["timezone"] = "Asia/Tokyo"
	owner, clickhouse := stdlib.OpenDB(*config), db.ClickHouse(t)
	defer owner.Close()
	before := time.Now().Add(-time.Minute)
	require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, silent))
	all, err := migrations.Status(t.Context(), owner, clickhouse)
	require.NoError(t, err)
	for _, m := range all {
		require.WithinRange(t, m.AppliedAt, before, time.Now().Add(time.Minute), m)
	}
}

func TestAnOlderProgramNeitherMindsNorUndoesANewerSchema(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	exec(t, owner, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (29991231235959, true)")
	require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, silent))
	all, err := migrations.Status(t.Context(), owner, clickhouse)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(all, func(m migrations.Migration) bool { return m.Version == 29991231235959 && m.Name == "" && !m.Pending() }))
	_, err = migrations.Down(t.Context(), owner, clickhouse, "", silent)
	require.EqualError(t, err, "undo postgres 29991231235959: this program is older than the schema and does not have that migration")
	require.Empty(t, pending(t, owner, clickhouse))
}

func TestAFailedMigrationNamesItsFile(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	exec(t, owner, "CREATE TABLE threads (id int)")
	err := migrations.Up(t.Context(), owner, clickhouse, silent)
	require.ErrorContains(t, err, "migrate postgres: 20261123000300_threads.sql: ")
	require.ErrorContains(t, err, `relation "threads" already exists`)

	exec(t, owner, "DROP TABLE threads")
	require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, silent))
}

func TestCreateWritesAMigrationThatCanRun(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	at := time.Date(2026, 11, 23, 10, 11, 12, 0, time.FixedZone("", 3600))
	for _, database := range []migrations.Database{migrations.Postgres, migrations.ClickHouse} {
		_, err := migrations.Create(root, database, "add_feature_table", at)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.NoError(t, os.Mkdir(filepath.Join(root, string(database)), 0o755))
		file, err := migrations.Create(root, database, "add_feature_table", at)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(root, string(database), "20261123091112_add_feature_table.sql"), file)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(content), "-- +goose Up\n"))
		require.Equal(t, 1, strings.Count(string(content), "-- +goose Down\n"))
		_, err = migrations.Create(root, database, "add_feature_table", at)
		require.ErrorIs(t, err, os.ErrExist)
	}
	for _, name := range []string{"", "../x", "Add table", "a-b", "1"} {
		_, err := migrations.Create(root, migrations.Postgres, name, at)
		require.Error(t, err)
	}
}

func pending(t *testing.T, owner, clickhouse *sql.DB) []migrations.Migration {
	t.Helper()
	all, err := migrations.Status(t.Context(), owner, clickhouse)
	require.NoError(t, err)
	var pending []migrations.Migration
	for _, m := range all {
		if m.Pending() {
			pending = append(pending, m)
		}
	}
	return pending
}
