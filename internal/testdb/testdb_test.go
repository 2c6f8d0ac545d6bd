package testdb_test

import (
	"database/sql"
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
)

func TestEachTestHasItsOwnMigratedDatabases(t *testing.T) {
	t.Parallel()
	one, other := testdb.New(t), testdb.New(t)
	_, err := one.Owner(t).Exec("INSERT INTO users (email) VALUES ('alice@example.com')")
	require.NoError(t, err)
	_, err = one.ClickHouse(t).Exec("INSERT INTO user_activity (user_id, action, count) VALUES (1, 'login', 1)")
	require.NoError(t, err)

	require.Equal(t, 1, count(t, one.Owner(t), "SELECT count(*) FROM users"))
	require.Equal(t, 0, count(t, other.Owner(t), "SELECT count(*) FROM users"))
	require.Equal(t, 0, count(t, one.App(t), "SELECT count(*) FROM users"), "nobody is looking")
	require.Equal(t, 1, count(t, one.ClickHouse(t), "SELECT count() FROM user_activity"))
	require.Equal(t, 0, count(t, other.ClickHouse(t), "SELECT count() FROM user_activity"))
}

func TestEmptyDatabasesHaveNoTables(t *testing.T) {
	t.Parallel()
	db := testdb.Empty(t)
	require.Equal(t, 0, count(t, db.Owner(t), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
	require.Equal(t, 0, count(t, db.ClickHouse(t), "SELECT count() FROM system.tables WHERE database = currentDatabase()"))
}

func TestDatabasesAreDroppedWithTheTest(t *testing.T) {
	t.Parallel()
	observer := testdb.Empty(t)
	var dropped *testdb.DB
	t.Run("test", func(t *testing.T) {
		dropped = testdb.New(t)
		held, err := dropped.Owner(t).Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, held.PingContext(t.Context()))
	})
	require.Equal(t, 0, count(t, observer.Owner(t), "SELECT count(*) FROM pg_database WHERE $1 LIKE '%/' || datname || '?%' OR $1 LIKE '%/' || datname", dropped.OwnerURL))
	require.Equal(t, 0, count(t, observer.ClickHouse(t), "SELECT count() FROM system.databases WHERE endsWith($1, concat('/', name))", dropped.ClickHouseURL))
}

func TestManyTestsBeginAtOnce(t *testing.T) {
	t.Parallel()
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			require.Equal(t, 0, count(t, testdb.New(t).Owner(t), "SELECT count(*) FROM runs"))
		})
	}
}

func TestWithoutEnginesOneLineSaysWhatToDo(t *testing.T) {
	t.Setenv("NETRA_CLICKHOUSE_URL", "")
	require.NotEmpty(t, os.Getenv("NETRA_OWNER_DATABASE_URL"))
	failing := &recorder{TB: t}
	func() {
		defer func() { require.Equal(t, failing, recover()) }()
		testdb.New(failing)
	}()
	require.Equal(t, "no engines: run `make test`, or export what `netra engines` prints", failing.message)
}

// recorder is a test that may fail: it keeps the message and ends its test by panicking with itself.
type recorder struct {
	testing.TB
	message string
}

func (r *recorder) Fatal(args ...any) {
	r.message, _ = args[0].(string)
	panic(r)
}

func count(t *testing.T, db *sql.DB, query string, args ...any) int {
	t.Helper()
	var n int
	require.NoError(t, db.QueryRowContext(t.Context(), query, args...).Scan(&n))
	return n
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		testdb.New(b)
	}
}
