package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/uptrace/bun"

	"github.com/netra-ai/netra/models"
)

// Tx is a transaction that changes something. Only Write makes one, and Write appends to the audit log before it commits: there is no way to change
// anything through this package that the log does not tell of.
//
// Statements wait for the first whose answer is needed, or for the end, and go in one trip with it. What they fail with, it fails with.
type Tx struct {
	db       *bun.DB
	conn     *conn
	viewer   models.Viewer
	waiting  []step
	begun    bool  // something has been sent
	failed   error // the first failure: nothing is sent after it
	on       act   // what the mutation is about
	items    []act // what several are about, in its stead
	repeated bool
}

// step is a statement of a transaction.
type step struct {
	text string
	args []any
	into target // takes the rows, if not nil
	keep func() // gives them to who asked, once the trip has succeeded
}

// act is something that was done, or refused, to one object.
type act struct {
	kind   models.Kind // empty when there is no object
	key    string      // its database id
	status int         // as of HTTP
	code   models.Code // why it was refused; empty when it was not
}

// Write runs work in one transaction for the viewer of ctx. When work fails with a code that statusOf knows, the mutation was refused: what work has done is
// undone, and the refusal is recorded, in a transaction of its own. Any other error undoes and records nothing. What work leaves waiting goes with the audit log's
// line and the commit, so that a Tx can fail after work has returned. Work must not keep the Tx.
func (s *Store) Write(ctx context.Context, action string, work func(*Tx) error) error {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return err
	}
	session, err := s.db.DB.Conn(ctx)
	if err != nil {
		return translate(ctx, err)
	}
	defer session.Close()
	return session.Raw(func(driverConn any) error {
		t := &Tx{db: s.db, conn: driverConn.(*conn), viewer: viewer}
		defer func() { _ = t.rollback(ctx) }() // does nothing after a commit; a connection that cannot roll back is closed
		return t.run(ctx, action, work)
	})
}

func (t *Tx) run(ctx context.Context, action string, work func(*Tx) error) error {
	err := work(t)
	switch {
	case err == nil && t.repeated:
		return t.send(ctx, "ROLLBACK") // it has been recorded already, and has changed nothing now
	case err == nil:
		if err = t.record(ctx, action, nil); err == nil {
			err = t.send(ctx, "COMMIT")
		}
	}
	if statusOf(err) == 0 {
		return err // or done
	}
	if failure := t.rollback(ctx); failure != nil {
		return errors.Join(failure, err)
	}
	t.waiting, t.begun, t.failed = nil, false, nil
	if failure := t.record(ctx, action, err); failure != nil {
		return failure
	}
	if failure := t.send(ctx, "COMMIT"); failure != nil {
		return failure
	}
	return err
}

// send makes a trip of what waits. End, unless it is empty, ends the transaction. One that ends with its first trip needs no word for that: what PostgreSQL gets at
// once is a transaction.
func (t *Tx) send(ctx context.Context, end string) error {
	if t.failed != nil {
		return t.failed
	}
	steps, head := t.waiting, 0
	t.waiting = nil
	var batch pgx.Batch
	if !t.begun {
		if end == "" {
			batch.Queue("BEGIN")
		}
		batch.Queue(setViewer, viewerSettings(t.viewer)...)
		head = batch.Len()
	}
	for _, step := range steps {
		batch.Queue(step.text, step.args...)
	}
	if !t.begun {
		end = ""
	} else if end != "" {
		batch.Queue(end)
	}
	t.begun = true
	models.TallyFrom(ctx).Trips.Add(1)
	began := time.Now()
	results := t.conn.Conn.Conn().SendBatch(ctx, &batch)
	err := t.receive(ctx, results, head, steps, end, began)
	if closing := results.Close(); err == nil {
		err = closing
	}
	t.conn.noteCancelled(ctx)
	if err != nil {
		t.failed = translate(ctx, err)
		return t.failed
	}
	for _, step := range steps {
		if step.keep != nil {
			step.keep()
		}
	}
	return nil
}

// receive takes the answers of a trip, after those of the head. What is slow in it takes as long as the trip: PostgreSQL sends what it has when it has done everything.
func (t *Tx) receive(ctx context.Context, results pgx.BatchResults, head int, steps []step, end string, began time.Time) error {
	for range head {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	for _, step := range steps {
		err := step.receive(results, t.conn.Conn.Conn().TypeMap())
		t.conn.done(ctx, step.text, began, err)
		if err != nil {
			return err
		}
	}
	if end == "" {
		return nil
	}
	tag, err := results.Exec()
	if err == nil && tag.String() != end {
		err = fmt.Errorf("%s ended in %s", end, tag)
	}
	return err
}

func (s step) receive(results pgx.BatchResults, types *pgtype.Map) error {
	if s.into == nil {
		_, err := results.Exec()
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	err = s.into.take(rows, types)
	rows.Close()
	if err == nil {
		err = rows.Err()
	}
	return err
}

// rollbackTimeout is how long a connection is given to undo, whatever became of the client.
const rollbackTimeout = time.Second

// rollback undoes what has not been committed.
func (t *Tx) rollback(ctx context.Context) error {
	on := t.conn.Conn.Conn()
	if on.PgConn().TxStatus() == 'I' {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := on.Exec(ctx, "ROLLBACK")
	if err != nil {
		err = translate(ctx, errors.Join(err, on.Close(ctx)))
	}
	return err
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
func (t *Tx) record(ctx context.Context, action string, refused error) error {
	acts := t.items
	if len(acts) == 0 || refused != nil {
		t.on.status = 200
		acts = []act{t.on}
	}
	origin := models.OriginFrom(ctx)
	var address *string
	if origin.Address.IsValid() {
		text := origin.Address.WithZone("").String()
		address = &text
	}
	agent, request := text(origin.UserAgent, 1000), text(origin.RequestID, 255)
	for _, act := range acts {
		if refused != nil {
			act.status, act.code = statusOf(refused), models.CodeOf(refused)
		}
		about := map[string]any{}
		if act.code != "" {
			about["code"] = act.code
		}
		if t.viewer.ByKey() {
			about["api_key"] = t.viewer.APIKey
		}
		detail, err := json.Marshal(about)
		if err != nil {
			return fmt.Errorf("describe an act: %w", err)
		}
		t.later(`INSERT INTO audit_logs (user_id, action, resource_type, resource_id, ip_address, user_agent, request_id, response_status, metadata)
			VALUES ($1, $2, nullif($3::text, ''), nullif($4::text, ''), $5::text::inet, nullif($6::text, ''), nullif($7::text, ''), $8, $9::text::jsonb)`,
			t.viewer.UserID, action, string(act.kind), act.key, address, agent, request, act.status, string(detail))
	}
	return nil
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
	claimed, err := t.exists(ctx, `INSERT INTO idempotency_keys AS k (user_id, operation, key_hash, input_hash, expires_at)
		VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
		ON CONFLICT (user_id, operation, key_hash) DO UPDATE SET input_hash = excluded.input_hash, expires_at = excluded.expires_at, answer = NULL
		WHERE k.expires_at <= now()
		RETURNING 1`, t.viewer.UserID, operation, key[:], input[:], keyAge.Seconds())
	if err != nil {
		return nil, false, err
	}
	if claimed {
		t.later(`DELETE FROM idempotency_keys WHERE (user_id, operation, key_hash) IN (
			SELECT user_id, operation, key_hash FROM idempotency_keys WHERE user_id = $1 AND expires_at <= now() LIMIT 100 FOR UPDATE SKIP LOCKED)`, t.viewer.UserID)
		return nil, false, nil
	}
	before, err := rowsOf[struct{ InputHash, Answer []byte }](ctx, t, "SELECT input_hash, answer FROM idempotency_keys WHERE user_id = $1 AND operation = $2 AND key_hash = $3",
		t.viewer.UserID, operation, key[:])
	if err == nil && len(before) != 1 {
		err = errors.New("an idempotency key is taken, and not there")
	}
	if err != nil {
		return nil, false, err
	}
	if !bytes.Equal(before[0].InputHash, input[:]) {
		return nil, false, models.Wrap(ErrOtherInput, models.Conflict, "this idempotency key was used for other input")
	}
	t.repeated = true
	return before[0].Answer, true, nil
}

// Answer keeps, with a key that was claimed, what a repetition will be told.
func (t *Tx) Answer(operation string, key [32]byte, answer []byte) {
	t.later("UPDATE idempotency_keys SET answer = $4 WHERE user_id = $1 AND operation = $2 AND key_hash = $3", t.viewer.UserID, operation, key[:], answer)
}

// Send has what waits answered now.
func (t *Tx) Send(ctx context.Context) error { return t.send(ctx, "") }

// later has a statement wait whose rows, if it gives any, nobody needs.
func (t *Tx) later(text string, args ...any) {
	t.waiting = append(t.waiting, step{text: text, args: arguments(args)})
}

// laterRows has a statement wait that gives rows.
func laterRows[T any](t *Tx, into *[]T, text string, args ...any) {
	found := &found[T]{db: t.db}
	t.waiting = append(t.waiting, step{text, arguments(args), found, func() { *into = found.rows }})
}

// laterByID has the rows of a table with these ids read, with all their columns.
func laterByID[T any](t *Tx, into *[]T, of table, ids any, key string) {
	q := of.byID(ids, key, of.all())
	laterRows(t, into, q.String(), q.args...)
}

// exists is whether a statement gives a row.
func (t *Tx) exists(ctx context.Context, text string, args ...any) (bool, error) {
	var rows counted
	t.waiting = append(t.waiting, step{text: text, args: arguments(args), into: &rows})
	err := t.send(ctx, "")
	return rows > 0, err
}

// counted is a target that counts.
type counted int

func (c *counted) take(result pgx.Rows, _ *pgtype.Map) error {
	for result.Next() {
		*c++
	}
	return result.Err()
}

// rowsOf runs a statement and scans what it gives.
func rowsOf[T any](ctx context.Context, t *Tx, text string, args ...any) (rows []T, err error) {
	laterRows(t, &rows, text, args...)
	err = t.send(ctx, "")
	return rows, err
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

// all selects every column of a table that is ever read.
func (t table) all() (fields Fields) {
	for _, w := range t.wide {
		fields = append(fields, w.field)
	}
	return fields
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
func (c *changes) update(t *Tx, table string, id any, cast string) {
	if c.n == 0 {
		return
	}
	c.WriteString(" WHERE id = " + c.arg(id) + cast)
	t.later("UPDATE "+table+" SET "+c.String(), c.args...)
}
