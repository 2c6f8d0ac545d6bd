package embedded

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// roles gives the database its two users. netra_owner bypasses row-level security so that psql and pg_dump show it
// everything; it reads and resets statistics and ends sessions for the sake of tests. The passwords need no quoting:
// they are base32.
const roles = `
DO $$
DECLARE role text;
BEGIN
	FOREACH role IN ARRAY ARRAY['netra_owner', 'netra_app'] LOOP
		IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
			EXECUTE format('CREATE ROLE %%I', role);
		END IF;
	END LOOP;
END $$;
ALTER ROLE netra_owner LOGIN NOSUPERUSER CREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS PASSWORD '%s';
ALTER ROLE netra_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD '%s';
GRANT pg_read_all_stats, pg_signal_backend TO netra_owner`

// extensions makes what the migrations expect to find. The signature of pg_stat_statements_reset differs between versions.
const extensions = `
CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
DO $$
DECLARE reset regprocedure;
BEGIN
	FOR reset IN SELECT oid::regprocedure FROM pg_proc WHERE proname = 'pg_stat_statements_reset' LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO netra_owner', reset);
	END LOOP;
END $$`

// bootstrap brings roles, database and extensions to what they should be. It runs at every start, so that what an
// interrupted one left out, or an older netra did not know, is made good.
func (p *Postgres) bootstrap(ctx context.Context) error {
	if _, err := p.execute(ctx, "postgres", fmt.Sprintf(roles, p.secrets.Owner, p.secrets.App)); err != nil {
		return fmt.Errorf("create roles: %w", err)
	}
	// Databases are copies of template1, so this comes before the first.
	if err := p.extend(ctx, "template1"); err != nil {
		return err
	}
	existing, err := p.execute(ctx, "postgres", "SELECT FROM pg_database WHERE datname = '"+database+"'")
	if err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if len(existing[0].Rows) > 0 {
		return p.extend(ctx, database)
	}
	if _, err := p.execute(ctx, "postgres", "CREATE DATABASE "+database+" OWNER "+owner); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

func (p *Postgres) extend(ctx context.Context, name string) error {
	_, err := p.execute(ctx, name, extensions)
	const notSupported, undefinedFile = "0A000", "58P01"
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Code == notSupported || refused.Code == undefinedFile) {
		return fmt.Errorf("PostgreSQL %d in %s: %s; run `make setup`, or install it", p.bin.major, p.bin.dir, refused.Message)
	}
	if err != nil {
		return fmt.Errorf("create extensions in %s: %w", name, err)
	}
	return nil
}

func (p *Postgres) execute(ctx context.Context, name, statements string) ([]*pgconn.Result, error) {
	conn, err := pgconn.Connect(ctx, postgresURL(p.port, superuser, p.secrets.Superuser, name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.Exec(ctx, statements).ReadAll()
}
