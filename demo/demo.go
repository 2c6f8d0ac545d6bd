// Package demo makes believable data of any size, and simulated agents: programs that, like the platform's own, write straight to the
// databases and know nothing of the server.
package demo

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The demo users are the first three of every seeded database. They have one password, for development only.
const (
	Alice    = "alice@example.com"
	Bob      = "bob@example.com"
	Admin    = "admin@example.com" // a superuser
	Password = "netra-demo"

	demoUsers = 3
	// passwordHash is bcrypt's of Password at its default cost. It is fixed so that the same seed gives the same rows.
	passwordHash = "$2a$10$hAJ5ERYYVP2T4PBAWRLckeCG.UCaoofZNbP1mHL6whZ85KRVKaL7C"
)

// superuser is the setting under which the policies show the rows of every tenant.
const superuser = "netra.superuser"

// connect opens a connection that sees every tenant.
func connect(ctx context.Context, ownerURL string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(ownerURL)
	if err != nil {
		return nil, errMalformedOwnerURL
	}
	cfg.RuntimeParams[superuser] = "on"
	cfg.RuntimeParams["application_name"] = "netra seed"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

// The causes of these repeat the URL and the password in it.
var (
	errMalformedOwnerURL      = errors.New("parse the owner's URL of PostgreSQL: it is malformed")
	errMalformedClickHouseURL = errors.New("parse the URL of ClickHouse: it is malformed")
)

// Empty says whether the database has no users yet.
func Empty(ctx context.Context, ownerURL string) (empty bool, err error) {
	conn, err := connect(ctx, ownerURL)
	if err != nil {
		return false, explain(err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM users)").Scan(&empty); err != nil {
		return false, fmt.Errorf("look for users: %w", explain(err))
	}
	return empty, nil
}
