package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/netra-ai/netra/models"
)

// Tx is a transaction that changes something. Only Write makes one, and Write appends to the audit log before it commits: there is no way to change
// anything through this package that the log does not tell of.
type Tx struct {
	db       *bun.DB
	tx       *sql.Tx
	on       act   // what the mutation is about
	items    []act // what several are about, in its stead
	repeated bool
}

// act is something that was done, or refused, to one object.
type act struct {
	kind   models.Kind // empty when there is no object
	key    string      // its database id
	status int         // as of HTTP
	code   models.Code // why it was refused; empty when it was not
}

// Write runs work in one transaction for the viewer of ctx. When work fails with a code that statusOf knows, the mutation was refused: what work has done is
// undone, and the refusal is recorded. Any other error undoes and records nothing. Work must not keep the Tx.
func (s *Store) Write(ctx context.Context, action string, work func(*Tx) error) error {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return err
	}
	tx, err := s.db.DB.BeginTx(ctx, nil)
	if err != nil {
		return translate(ctx, err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after a commit; a connection that cannot roll back is closed
	t := &Tx{db: s.db, tx: tx}
	if err := t.exec(ctx, "SAVEPOINT work"); err != nil {
		return err
	}
	refused := work(t)
	switch {
	case refused == nil && t.repeated:
		return nil // it has been recorded already, and has changed nothing now
	case refused == nil:
	case statusOf(refused) == 0:
		return refused
	default:
		if err := t.exec(ctx, "ROLLBACK TO SAVEPOINT work"); err != nil {
			return errors.Join(err, refused)
		}
	}
	if err := t.record(ctx, viewer, action, refused); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return translate(ctx, err)
	}
	return refused
}

// statusOf is what the audit log says of an error: zero for one that is no answer to what was asked.
func statusOf(err error) int {
	switch models.CodeOf(err) {
	case models.BadUserInput:
		return 400
	case models.Forbidden:
		return 403
	case models.NotFound:
		return 404
	case models.Conflict:
		return 409
	case models.TooComplex:
		return 413
	case models.UnsupportedMediaType:
		return 415
	default:
		return 0
	}
}

// On says what object the mutation is about; the last word counts.
func (t *Tx) On(kind models.Kind, key string) { t.on = act{kind: kind, key: key, status: 200} }

// Item says what became of one of several objects that the mutation is about: err is why nothing did. It gives back an error that is no refusal.
func (t *Tx) Item(kind models.Kind, key string, err error) error {
	item := act{kind: kind, key: key, status: 200}
	if err != nil {
		if item.status, item.code = statusOf(err), models.CodeOf(err); item.status == 0 {
			return err
		}
	}
	t.items = append(t.items, item)
	return nil
}

// record appends the mutation to the audit log: one row, or one for each item. Refused is why all of it was undone.
func (t *Tx) record(ctx context.Context, viewer models.Viewer, action string, refused error) error {
	acts := t.items
	if len(acts) == 0 || refused != nil {
		t.on.status = 200
		acts = []act{t.on}
	}
	var kinds, keys, details []string
	var statuses []int
	for _, act := range acts {
		if refused != nil {
			act.status, act.code = statusOf(refused), models.CodeOf(refused)
		}
		about := map[string]any{}
		if act.code != "" {
			about["code"] = act.code
		}
		if viewer.ByKey() {
			about["api_key"] = viewer.APIKey
		}
		detail, err := json.Marshal(about)
		if err != nil {
			return fmt.Errorf("describe an act: %w", err)
		}
		kinds, keys, statuses, details = append(kinds, string(act.kind)), append(keys, act.key), append(statuses, act.status), append(details, string(detail))
	}
	origin := models.OriginFrom(ctx)
	var address *string
	if origin.Address.IsValid() {
		text := origin.Address.WithZone("").String()
		address = &text
	}
	return t.exec(ctx, `INSERT INTO audit_logs (user_id, action, resource_type, resource_id, ip_address, user_agent, request_id, response_status, metadata)
		SELECT $1::int, $2::text, nullif(act.kind, ''), nullif(act.key, ''), $3::text::inet, nullif($4::text, ''), nullif($5::text, ''), act.status, act.detail::jsonb
		FROM unnest($6::text[], $7::text[], $8::int[], $9::text[]) AS act(kind, key, status, detail)`,
		viewer.UserID, action, address, text(origin.UserAgent, 1000), text(origin.RequestID, 255), kinds, keys, statuses, details)
}

// text is what a client said of itself, in as many characters as the log keeps and without what the database cannot hold.
func text(s string, characters int) string {
	kept := []rune(strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD"))
	return string(kept[:min(len(kept), characters)])
}

// ErrOtherInput is that an idempotency key was used for other input.
var ErrOtherInput = errors.New("the hash of the input is another")

// keyAge is how long an idempotency key is remembered.
const keyAge = 24 * time.Hour

// Claim takes an idempotency key for the viewer and an operation, and waits for whoever has claimed it and is not done. When the key has been used
// before, repeated is true and answer is what Answer was given then; the transaction must not write. It fails with ErrOtherInput, a Conflict, when the input was another.
func (t *Tx) Claim(ctx context.Context, operation string, key, input [32]byte) (answer []byte, repeated bool, err error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, false, err
	}
	claimed, err := t.exists(ctx, `INSERT INTO idempotency_keys AS k (user_id, operation, key_hash, input_hash, expires_at)
		VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
		ON CONFLICT (user_id, operation, key_hash) DO UPDATE SET input_hash = excluded.input_hash, expires_at = excluded.expires_at, answer = NULL
		WHERE k.expires_at <= now()
		RETURNING 1`, viewer.UserID, operation, key[:], input[:], keyAge.Seconds())
	if err != nil {
		return nil, false, err
	}
	if claimed {
		return nil, false, t.exec(ctx, `DELETE FROM idempotency_keys WHERE (user_id, operation, key_hash) IN (
			SELECT user_id, operation, key_hash FROM idempotency_keys WHERE user_id = $1 AND expires_at <= now() LIMIT 100 FOR UPDATE SKIP LOCKED)`, viewer.UserID)
	}
	var before []byte
	err = t.tx.QueryRowContext(ctx, "SELECT input_hash, answer FROM idempotency_keys WHERE user_id = $1 AND operation = $2 AND key_hash = $3",
		viewer.UserID, operation, key[:]).Scan(&before, &answer)
	if err != nil {
		return nil, false, translate(ctx, err)
	}
	if [32]byte(before) != input {
		return nil, false, models.Wrap(ErrOtherInput, models.Conflict, "this idempotency key was used for other input")
	}
	t.repeated = true
	return answer, true, nil
}

// Answer keeps, with a key that was claimed, what a repetition will be told.
func (t *Tx) Answer(ctx context.Context, operation string, key [32]byte, answer []byte) error {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return err
	}
	return t.exec(ctx, "UPDATE idempotency_keys SET answer = $4 WHERE user_id = $1 AND operation = $2 AND key_hash = $3",
		viewer.UserID, operation, key[:], answer)
}

func (t *Tx) exec(ctx context.Context, text string, args ...any) error {
	_, err := t.tx.ExecContext(ctx, text, args...)
	return translate(ctx, err)
}

// exists is whether a statement gives a row.
func (t *Tx) exists(ctx context.Context, text string, args ...any) (bool, error) {
	rows, err := t.tx.QueryContext(ctx, text, args...)
	if err != nil {
		return false, translate(ctx, err)
	}
	defer rows.Close()
	found := rows.Next()
	return found, translate(ctx, rows.Err())
}

// rowsOf runs a statement and scans what it gives.
func rowsOf[T any](ctx context.Context, t *Tx, text string, args ...any) ([]T, error) {
	return queryOn[T](ctx, t.db, t.tx, text, args)
}

// rowOf is the one row that a statement gives. It fails with NotFound.
func rowOf[T any](ctx context.Context, t *Tx, kind models.Kind, text string, args ...any) (none T, _ error) {
	rows, err := rowsOf[T](ctx, t, text, args...)
	if err != nil {
		return none, err
	}
	if len(rows) == 0 {
		return none, models.Errorf(models.NotFound, "no such %s", kind)
	}
	return rows[0], nil
}

// all is every column of a table that is ever read.
func (t table) all() string {
	fields := make(Fields, 0, len(t.selected))
	for field := range t.selected {
		fields = append(fields, field)
	}
	return t.columns(fields)
}

// changes are assignments of an UPDATE. Columns come from this package.
type changes struct {
	statement
	n int
}

func (c *changes) set(column string, value any, cast string) {
	if c.n > 0 {
		c.WriteString(", ")
	}
	c.n++
	c.WriteString(column + " = " + c.arg(value) + cast)
}

// update changes one row, if there is anything to change.
func (c *changes) update(ctx context.Context, t *Tx, table string, id any, cast string) error {
	if c.n == 0 {
		return nil
	}
	c.WriteString(" WHERE id = " + c.arg(id) + cast)
	return t.exec(ctx, "UPDATE "+table+" SET "+c.String(), c.args...)
}
