package migrations_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
)

var silent = slog.New(slog.DiscardHandler)

// tenants is a database with two users who have a thread each, as the application and as the owner see it.
type tenants struct {
	owner, app  *sql.DB
	alice, bob  int
	aliceThread string
	bobThread   string
}

func setup(t *testing.T) *tenants {
	t.Helper()
	db := testdb.NewPostgres(t)
	s := &tenants{owner: db.Owner(t), app: db.App(t)}
	s.alice = value[int](t, s.owner, "INSERT INTO users (email) VALUES ('alice@example.com') RETURNING id")
	s.bob = value[int](t, s.owner, "INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id")
	s.aliceThread = value[string](t, s.owner, "INSERT INTO threads (user_id) VALUES ($1) RETURNING id", s.alice)
	s.bobThread = value[string](t, s.owner, "INSERT INTO threads (user_id) VALUES ($1) RETURNING id", s.bob)
	return s
}

// as begins a transaction of the application for one viewer; 0 is nobody. It is rolled back when the test ends.
func (s *tenants) as(t *testing.T, viewer int) *sql.Tx {
	t.Helper()
	tx := begin(t, s.app)
	if viewer != 0 {
		exec(t, tx, "SELECT set_config('netra.user_id', $1, true)", fmt.Sprint(viewer))
	}
	return tx
}

// asSuperuser begins a transaction of the application that sees all tenants.
func (s *tenants) asSuperuser(t *testing.T) *sql.Tx {
	t.Helper()
	tx := begin(t, s.app)
	exec(t, tx, "SELECT set_config('netra.superuser', 'on', true)")
	return tx
}

func begin(t *testing.T, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// querier is a *sql.DB, *sql.Conn or *sql.Tx.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func exec(t *testing.T, db querier, query string, args ...any) int64 {
	t.Helper()
	result, err := db.ExecContext(t.Context(), query, args...)
	require.NoError(t, err, query)
	affected, err := result.RowsAffected()
	require.NoError(t, err)
	return affected
}

func value[T any](t *testing.T, db querier, query string, args ...any) T {
	t.Helper()
	values := column[T](t, db, query, args...)
	require.Len(t, values, 1, query)
	return values[0]
}

func column[T any](t *testing.T, db querier, query string, args ...any) []T {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	require.NoError(t, err, query)
	defer rows.Close()
	var values []T
	for rows.Next() {
		var v T
		require.NoError(t, rows.Scan(&v), query)
		values = append(values, v)
	}
	require.NoError(t, rows.Err(), query)
	return values
}

const (
	notNull          = "23502"
	foreignKey       = "23503"
	uniqueViolation  = "23505"
	checkViolation   = "23514"
	insufficientRole = "42501"
)

// refused is for a statement that PostgreSQL must refuse; the transaction it ran in goes on.
func refused(t *testing.T, tx *sql.Tx, code, query string, args ...any) *pgconn.PgError {
	t.Helper()
	exec(t, tx, "SAVEPOINT attempt")
	_, err := tx.ExecContext(t.Context(), query, args...)
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr, query)
	require.Equal(t, code, pgErr.Code, "%s: %s", query, pgErr.Message)
	exec(t, tx, "ROLLBACK TO attempt")
	return pgErr
}
