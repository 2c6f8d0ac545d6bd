package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/netra-ai/netra/models"
)

// translate gives PostgreSQL's errors the code that clients can act on. Everything it does not know stays as it is and is our fault.
func translate(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), context.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return models.Wrap(err, models.Timeout, "the database took too long")
	}
	if ctx.Err() != nil {
		return ctx.Err() // the client has left
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return translateCode(server, err)
	}
	var dial *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &dial) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "conn closed") {
		return models.Wrap(err, models.DatabaseUnavailable, "the database cannot be reached now")
	}
	return err
}

// translateCode knows the SQLSTATEs that are not our fault (PostgreSQL manual, appendix A).
func translateCode(server *pgconn.PgError, err error) error {
	switch {
	case strings.HasPrefix(server.Code, "23"):
		return translateConstraint(server, err)
	case server.Code == "57014":
		return models.Wrap(err, models.Timeout, "the database took too long")
	case strings.HasPrefix(server.Code, "08"), strings.HasPrefix(server.Code, "57P"), server.Code == "53300":
		return models.Wrap(err, models.DatabaseUnavailable, "the database cannot be reached now")
	case strings.HasPrefix(server.Code, "40"):
		return models.Wrap(err, models.Conflict, "somebody else changed this at the same time; try again")
	case strings.HasPrefix(server.Code, "22"): // data exceptions: every value in our statements is an argument of the client's
		return models.Wrap(err, models.BadUserInput, "a value is not one that the database can hold")
	case strings.HasPrefix(server.Code, "54"):
		return models.Wrap(err, models.TooComplex, "a value is too large or too deep for the database")
	default:
		return err
	}
}

// translateConstraint knows the constraints that a client can meet. One that rules of ours should have kept is our fault.
func translateConstraint(server *pgconn.PgError, err error) error {
	switch server.ConstraintName {
	case "messages_thread_id_fkey", "runs_thread_id_fkey":
		return models.Wrap(err, models.NotFound, "no such Thread")
	case "check_type", "check_role", "check_status", "check_permissions":
		return models.Wrap(err, models.BadUserInput, "a value is not one of those allowed")
	case "threads_user_id_fkey", "runs_user_id_fkey", "references_user_id_fkey", "supply_catalog_user_id_fkey", "api_keys_user_id_fkey",
		"idempotency_keys_user_id_fkey", "pending_uploads_user_id_fkey", "audit_logs_user_id_fkey":
		return models.Wrap(err, models.Unauthenticated, "this account cannot be used")
	default:
		return err
	}
}
