// Package testdb gives each test its own databases on the real engines, which it finds in NETRA_DATABASE_URL,
// NETRA_OWNER_DATABASE_URL and NETRA_CLICKHOUSE_URL.
package testdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/migrations"
)

// DB is a test's own databases. They are dropped when the test ends, whoever is still connected.
type DB struct {
	OwnerURL      string // PostgreSQL as the owner of the tables; empty without one
	AppURL        string // PostgreSQL as the application role, under row-level security; empty without one
	ClickHouseURL string // empty without one
}

// New makes both databases with their schemas. They are copies: migrations run once for all tests on the same engines.
func New(t testing.TB) *DB {
	t.Helper()
	db := locate(t)
	template := templateOf(t, db)
	db.createPostgres(t, template.postgres)
	db.createClickHouse(t, template.clickhouse)
	return db
}

// NewPostgres is New without ClickHouse, for tests that keep out of analytics: making ClickHouse's tables takes longer than most tests.
func NewPostgres(t testing.TB) *DB {
	t.Helper()
	db := locate(t)
	db.createPostgres(t, templateOf(t, db).postgres)
	db.ClickHouseURL = ""
	return db
}

// NewClickHouse is New without PostgreSQL.
func NewClickHouse(t testing.TB) *DB {
	t.Helper()
	db := locate(t)
	db.createClickHouse(t, templateOf(t, db).clickhouse)
	db.OwnerURL, db.AppURL = "", ""
	return db
}

// Empty makes both databases without a schema.
func Empty(t testing.TB) *DB {
	t.Helper()
	db := locate(t)
	db.createPostgres(t, "template1")
	db.createClickHouse(t, nil)
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

func (db *DB) createClickHouse(t testing.TB, statements []string) {
	t.Helper()
	name, pool := databaseOf(t, db.ClickHouseURL), db.ClickHouse(t)
	t.Cleanup(func() {
		_, err := pool.Exec("DROP DATABASE IF EXISTS " + name + " SYNC")
		require.NoError(t, err)
	})
	for _, statement := range statements {
		_, err := pool.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
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

// template is what copies are made of.
type template struct {
	postgres   string   // a migrated database that takes no connections, so that it can be copied at any time
	clickhouse []string // statements that make what the migrations of ClickHouse make
}

// templateOf makes the template where there is none, under a lock that all test binaries share and that ends with the connection. The
// database gets its name only when it is complete. Its comment holds ClickHouse's statements, so that neither is without the other.
func templateOf(t testing.TB, db *DB) template {
	t.Helper()
	made := template{postgres: "netra_migrated_" + migrations.Fingerprint()}
	administer(t, func(ctx context.Context, admin *pgx.Conn) error {
		read := func() error {
			return admin.QueryRow(ctx, "SELECT shobj_description(oid, 'pg_database')::jsonb FROM pg_database WHERE datname = $1", made.postgres).Scan(&made.clickhouse)
		}
		if err := read(); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if _, err := admin.Exec(ctx, "SELECT pg_advisory_lock(hashtext('netra_template'))"); err != nil {
			return err
		}
		if err := read(); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		unfinished := made.postgres + "_unfinished"
		for _, statement := range []string{"DROP DATABASE IF EXISTS " + unfinished + " WITH (FORCE)", "CREATE DATABASE " + unfinished} {
			if _, err := admin.Exec(ctx, statement); err != nil {
				return err
			}
		}
		made.clickhouse = migrate(t, &DB{OwnerURL: withDatabase(t, db.OwnerURL, unfinished), ClickHouseURL: locate(t).ClickHouseURL})
		comment, err := json.Marshal(made.clickhouse)
		if err != nil {
			return err
		}
		for _, statement := range []string{
			"COMMENT ON DATABASE " + unfinished + " IS '" + strings.ReplaceAll(string(comment), "'", "''") + "'",
			"ALTER DATABASE " + unfinished + " WITH ALLOW_CONNECTIONS false",
			"ALTER DATABASE " + unfinished + " RENAME TO " + made.postgres,
		} {
			if _, err := admin.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	return made
}

// definitions are the statements that make the tables of a migrated ClickHouse database again, then what reads them, then goose's notes.
const definitions = `
	SELECT statement FROM (
		SELECT engine LIKE '%View' AS part, replaceAll(create_table_query, concat(currentDatabase(), '.'), '') AS statement
			FROM system.tables WHERE database = currentDatabase()
		UNION ALL
		SELECT 2, concat('INSERT INTO goose_db_version (version_id, is_applied) VALUES ',
			arrayStringConcat(groupArray(concat('(', toString(version_id), ', ', toString(is_applied), ')')), ', ')) FROM goose_db_version
	) ORDER BY part, statement`

// migrate applies all migrations and returns what makes ClickHouse's tables again.
func migrate(t testing.TB, db *DB) (statements []string) {
	t.Helper()
	owner := db.Owner(t)
	defer owner.Close() // a database with connections cannot be renamed
	db.createClickHouse(t, nil)
	clickhouse := db.ClickHouse(t)
	require.NoError(t, migrations.Up(t.Context(), owner, clickhouse, slog.New(slog.DiscardHandler)))
	rows, err := clickhouse.QueryContext(t.Context(), definitions)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var statement string
		require.NoError(t, rows.Scan(&statement))
		statements = append(statements, statement)
	}
	require.NoError(t, rows.Err())
	return statements
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
	if strings.HasPrefix(u.Scheme, "postgres") { // a machine may be so busy that a connection takes longer than our programs wait otherwise
		arguments := u.Query()
		arguments.Set("connect_timeout", "60")
		u.RawQuery = arguments.Encode()
	}
	return u.String()
}

func databaseOf(t testing.TB, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	return u.Path[len("/"):]
}
