// Package testdb gives each test its own databases on the real engines, which it finds in NETRA_DATABASE_URL,
// NETRA_OWNER_DATABASE_URL and NETRA_CLICKHOUSE_URL.
package testdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"log/slog"
	"net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/migrations"
)

// DB is a test's own pair of databases. They are dropped when the test ends, whoever is still connected.
type DB struct {
	OwnerURL      string // PostgreSQL as the owner of the tables
	AppURL        string // PostgreSQL as the application role, under row-level security
	ClickHouseURL string
}

// New makes both databases and migrates them. PostgreSQL's is a copy of a template, which is migrated once and kept for later tests.
func New(t testing.TB) *DB {
	t.Helper()
	db := locate(t)
	db.createClickHouse(t)
	db.createPostgres(t, db.template(t))
	migrate(t, db.OwnerURL, db.ClickHouseURL)
	return db
}

// Empty makes both databases without a schema.
func Empty(t testing.TB) *DB {
	t.Helper()
	db := locate(t)
	db.createClickHouse(t)
	db.createPostgres(t, "template1")
	return db
}

// Owner is a pool of connections to PostgreSQL as the owner of the tables, closed when the test ends.
func (db *DB) Owner(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, db.OwnerURL)
}

// App is a pool of connections to PostgreSQL as the application role, closed when the test ends. It sees nothing until a transaction
// says who is looking.
func (db *DB) App(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, db.AppURL)
}

// ClickHouse is a pool of connections to ClickHouse, closed when the test ends.
func (db *DB) ClickHouse(t testing.TB) *sql.DB {
	t.Helper()
	pool, err := migrations.OpenClickHouse(t.Context(), db.ClickHouseURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

// locate names a pair of databases on the engines that the environment says; they do not exist yet.
func locate(t testing.TB) *DB {
	t.Helper()
	owner, app, clickhouse := os.Getenv("NETRA_OWNER_DATABASE_URL"), os.Getenv("NETRA_DATABASE_URL"), os.Getenv("NETRA_CLICKHOUSE_URL")
	if owner == "" || app == "" || clickhouse == "" {
		t.Fatal("no engines: run `make test`, or export what `netra engines` prints")
	}
	suffix := make([]byte, 8)
	_, _ = rand.Read(suffix) // never fails
	name := "netra_test_" + hex.EncodeToString(suffix)
	return &DB{
		OwnerURL:      withDatabase(t, owner, name),
		AppURL:        withDatabase(t, app, name),
		ClickHouseURL: withDatabase(t, clickhouse, name),
	}
}

func (db *DB) createClickHouse(t testing.TB) {
	t.Helper()
	pool := db.ClickHouse(t)
	t.Cleanup(func() {
		_, err := pool.Exec("DROP DATABASE IF EXISTS " + databaseOf(t, db.ClickHouseURL) + " SYNC")
		require.NoError(t, err)
	})
}

func (db *DB) createPostgres(t testing.TB, template string) {
	t.Helper()
	name := databaseOf(t, db.OwnerURL)
	administer(t, func(ctx context.Context, admin *pgx.Conn) error {
		_, err := admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template)
		return err
	})
	t.Cleanup(func() {
		administer(t, func(ctx context.Context, admin *pgx.Conn) error {
			_, err := admin.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
			return err
		})
	})
}

// template names a migrated database that takes no connections, so that it can be copied at any time. The first test that needs it makes
// it, under a lock that all test binaries share and that ends with the connection; it gets its name only when it is complete.
func (db *DB) template(t testing.TB) string {
	t.Helper()
	name := "netra_template_" + migrations.Fingerprint()
	administer(t, func(ctx context.Context, admin *pgx.Conn) error {
		if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock(hashtext('netra_template'))"); err != nil {
			return err
		}
		var exists bool
		err := admin.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
		if err != nil || exists {
			return err
		}
		unfinished := name + "_unfinished"
		for _, statement := range []string{"DROP DATABASE IF EXISTS " + unfinished + " WITH (FORCE)", "CREATE DATABASE " + unfinished} {
			if _, err := admin.Exec(ctx, statement); err != nil {
				return err
			}
		}
		migrate(t, withDatabase(t, db.OwnerURL, unfinished), db.ClickHouseURL)
		for _, statement := range []string{
			"ALTER DATABASE " + unfinished + " WITH ALLOW_CONNECTIONS false",
			"ALTER DATABASE " + unfinished + " RENAME TO " + name,
		} {
			if _, err := admin.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	return name
}

func migrate(t testing.TB, ownerURL, clickhouseURL string) {
	t.Helper()
	owner, err := sql.Open("pgx", ownerURL)
	require.NoError(t, err)
	defer owner.Close()
	clickhouse, err := migrations.OpenClickHouse(t.Context(), clickhouseURL)
	require.NoError(t, err)
	defer clickhouse.Close()
	require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, slog.New(slog.DiscardHandler)))
}

// administer runs work on a connection of the owner to the engine's own database. It serves cleanups too, which run after the
// test's context has ended.
func administer(t testing.TB, work func(context.Context, *pgx.Conn) error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	admin, err := pgx.Connect(ctx, os.Getenv("NETRA_OWNER_DATABASE_URL"))
	require.NoError(t, err)
	defer admin.Close(ctx)
	require.NoError(t, work(ctx, admin))
}

func open(t testing.TB, rawURL string) *sql.DB {
	t.Helper()
	pool, err := sql.Open("pgx", rawURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func withDatabase(t testing.TB, rawURL, name string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}

func databaseOf(t testing.TB, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	return u.Path[len("/"):]
}
