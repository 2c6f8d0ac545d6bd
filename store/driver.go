package store

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/netra-ai/netra/models"
)

// setViewer makes the viewer known to the policies of row-level security until the transaction ends.
const setViewer = `SELECT set_config('netra.user_id', $1, true), set_config('netra.superuser', $2, true)`

// connector is the one way to PostgreSQL. Every statement that goes through it runs for the viewer of its context: sent
// in one round trip with setViewer, in the implicit transaction that the two share, so that nothing of the viewer
// stays on the connection. A statement without a viewer sees no tenant's rows.
type connector struct {
	driver.Connector
	slow time.Duration
	log  *slog.Logger
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	inner, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: inner.(*stdlib.Conn), connector: c}, nil
}

type conn struct {
	*stdlib.Conn
	connector *connector
	stray     time.Time // until when the end of a statement may come that PostgreSQL was asked to end before
}

// cancelArrives is within which time PostgreSQL ends a statement that was given up, on a busy machine. It ends whatever the connection runs then.
const cancelArrives = 5 * time.Second

// noteCancelled is for the end of each use of the connection with a context.
func (c *conn) noteCancelled(ctx context.Context) {
	if ctx.Err() != nil {
		c.stray = time.Now().Add(cancelArrives)
	}
}

// isStray is whether a read was ended in the place of an earlier one. It may be asked again.
func (c *conn) isStray(ctx context.Context, err error) bool {
	var server *pgconn.PgError
	return ctx.Err() == nil && time.Now().Before(c.stray) && errors.As(err, &server) && server.Code == "57014"
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	began := time.Now()
	result, err := c.exec(ctx, query, values(args))
	c.done(ctx, query, began, err)
	if err != nil {
		return nil, c.retryable(err, false, began)
	}
	return driver.RowsAffected(result.RowsAffected()), nil
}

func (c *conn) exec(ctx context.Context, query string, args []any) (pgconn.CommandTag, error) {
	models.TallyFrom(ctx).Trips.Add(1)
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return c.Conn.Conn().Exec(ctx, query, args...)
	}
	batch := c.send(ctx, viewer, query, args)
	tag, err := batch.Exec()
	if err == nil {
		tag, err = batch.Exec()
	}
	return tag, errors.Join(err, batch.Close())
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	began := time.Now()
	rows, err := c.query(ctx, query, values(args))
	if err != nil {
		c.done(ctx, query, began, err)
		return nil, c.retryable(err, isRead(query), began)
	}
	rows.finish = func(err error) { c.done(ctx, query, began, err) }
	return rows, nil
}

func isRead(query string) bool { return strings.HasPrefix(query, "SELECT") }

func (c *conn) query(ctx context.Context, query string, args []any) (*rows, error) {
	result, batch, err := c.begin(ctx, query, args)
	if err != nil {
		return nil, err
	}
	return newRows(result, batch, c.Conn.Conn().TypeMap())
}

// collect has the rows of a query taken by the target, to the last one.
func (c *conn) collect(ctx context.Context, query string, args []any, into target) error {
	for {
		began := time.Now()
		err := c.collectOnce(ctx, query, args, into)
		c.done(ctx, query, began, err)
		if c.isStray(ctx, err) && isRead(query) {
			c.stray = time.Time{} // one comes once
			continue
		}
		return c.retryable(err, isRead(query), began)
	}
}

func (c *conn) collectOnce(ctx context.Context, query string, args []any, into target) error {
	result, batch, err := c.begin(ctx, query, args)
	if err != nil {
		return err
	}
	err = into.take(result, c.Conn.Conn().TypeMap())
	result.Close()
	if batch != nil {
		err = errors.Join(err, batch.Close())
	}
	return err
}

// begin sends a query for the viewer of ctx. The batch is nil where the query is alone on its way.
func (c *conn) begin(ctx context.Context, query string, args []any) (pgx.Rows, pgx.BatchResults, error) {
	models.TallyFrom(ctx).Trips.Add(1)
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		result, err := c.Conn.Conn().Query(ctx, query, args...)
		return result, nil, err
	}
	batch := c.send(ctx, viewer, query, args)
	if _, err := batch.Exec(); err != nil {
		return nil, nil, errors.Join(err, batch.Close())
	}
	result, err := batch.Query()
	if err != nil {
		return nil, nil, errors.Join(err, batch.Close())
	}
	return result, batch, nil
}

// askAll asks the open questions of several parties in one trip, and in a further one those that come after one that fails. It fails where the connection was gone
// before, and all may be asked on another. Some may be open still afterwards.
func (c *conn) askAll(ctx context.Context, parties []*party) error {
	for {
		asked, batch := openOf(parties)
		if asked == nil {
			return nil
		}
		began := time.Now() // of all: PostgreSQL sends what it has when it has done everything
		results := c.Conn.Conn().SendBatch(ctx, batch)
		failed, err := c.tellAll(results, asked, began)
		if closing := results.Close(); err == nil {
			err = closing
		}
		c.noteCancelled(ctx)
		if c.isStray(ctx, err) {
			c.stray = time.Time{}
			continue
		}
		if failed == nil { // all are answered, or nobody is
			if err = c.retryable(err, true, began); isGone(err) {
				return err
			}
			return nil
		}
		failed.fail(err)
		if c.Conn.Conn().IsClosed() {
			return nil
		}
	}
}

// openOf are the questions that nobody has answered, and what asks them, each for its viewer. A viewer, for whom there is nil among the questions, comes first: where a
// statement cannot be prepared pgx has nothing asked, and tells the first of all.
func openOf(parties []*party) (asked []*question, batch *pgx.Batch) {
	batch = new(pgx.Batch)
	var current models.Viewer
	for _, p := range parties {
		if p.isOpen() {
			models.TallyFrom(p.ctx).Trips.Add(1)
		}
		for _, q := range p.questions {
			if !q.isOpen() {
				continue
			}
			viewer, _ := models.ViewerFrom(q.ctx) // without one nothing is seen, whoever went before
			if asked == nil || viewer != current {
				batch.Queue(setViewer, viewerSettings(viewer)...)
				asked, current = append(asked, nil), viewer
			}
			batch.Queue(q.text, q.args...)
			asked = append(asked, q)
		}
	}
	return asked, batch
}

// tellAll gives the questions their answers, up to one that fails.
func (c *conn) tellAll(results pgx.BatchResults, asked []*question, began time.Time) (failed *question, err error) {
	var slow []string // of which only the first of several is logged
	for _, q := range asked {
		if q == nil {
			if _, err := results.Exec(); err != nil {
				return nil, err
			}
			continue
		}
		err := q.receive(results, c.Conn.Conn().TypeMap())
		if c.count(q.ctx, began) && !slices.Contains(slow, q.text) {
			slow = append(slow, q.text)
			c.warn(q.ctx, q.text, began, err)
		}
		if err != nil {
			return q, err
		}
		q.tell(answered)
	}
	return nil, nil
}

func (c *conn) send(ctx context.Context, viewer models.Viewer, query string, args []any) pgx.BatchResults {
	var batch pgx.Batch
	batch.Queue(setViewer, viewerSettings(viewer)...)
	batch.Queue(query, args...)
	return c.Conn.Conn().SendBatch(ctx, &batch)
}

func viewerSettings(v models.Viewer) []any {
	id, superuser := "", "off"
	if v.UserID != 0 {
		id = strconv.Itoa(v.UserID)
	}
	if v.Superuser {
		superuser = "on"
	}
	return []any{id, superuser}
}

// values are what database/sql was given.
func values(named []driver.NamedValue) []any {
	given := make([]any, len(named))
	for i, arg := range named {
		given[i] = arg.Value
	}
	return arguments(given)
}

// arguments makes of args what pgx encodes at once, in place. A uuid.UUID in a list it would take for a driver.Valuer, and read back the text of each.
func arguments(args []any) []any {
	for i, arg := range args {
		if keys, ok := arg.([]uuid.UUID); ok {
			args[i] = uuidList(keys)
		}
	}
	return args
}

// uuidList is an array for pgx that costs nothing for each element.
type uuidList []uuid.UUID

var _ pgtype.ArrayGetter = uuidList(nil)

func (l uuidList) Dimensions() []pgtype.ArrayDimension {
	if l == nil {
		return nil
	}
	return []pgtype.ArrayDimension{{Length: int32(len(l)), LowerBound: 1}}
}

func (l uuidList) Index(i int) any { return (*uuidKey)(&l[i]) }
func (l uuidList) IndexType() any  { return (*uuidKey)(nil) }

type uuidKey uuid.UUID

func (k *uuidKey) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: *k, Valid: true}, nil }

// retryable turns an error into driver.ErrBadConn where the connection is gone and running the statement again on another is
// harmless, so that Store.on or database/sql does that: a restart of PostgreSQL then costs an idle connection and not a query. A read that had been
// going on for a while is not begun again: it may be what ended the connection, as an operator does or the kernel for want of memory.
func (c *conn) retryable(err error, isRead bool, began time.Time) error {
	if err == nil {
		return nil
	}
	isSafe := isRead && c.Conn.Conn().IsClosed() && time.Since(began) < foundGone && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	if pgconn.SafeToRetry(err) || isSafe {
		return driver.ErrBadConn
	}
	return err
}

// foundGone is within which time a connection that was gone already says so.
const foundGone = 500 * time.Millisecond

// isGone is whether a statement may be run again on another connection.
func isGone(err error) bool { return errors.Is(err, driver.ErrBadConn) }

// done counts the statement and writes slow ones to the log: their text, which has no values in it.
func (c *conn) done(ctx context.Context, query string, began time.Time, err error) {
	c.noteCancelled(ctx)
	if c.count(ctx, began) {
		c.warn(ctx, query, began, err)
	}
}

// count is true for a slow statement.
func (c *conn) count(ctx context.Context, began time.Time) bool {
	models.TallyFrom(ctx).Statements.Add(1)
	return time.Since(began) >= c.connector.slow
}

func (c *conn) warn(ctx context.Context, query string, began time.Time, err error) {
	c.connector.log.WarnContext(ctx, "slow statement", "sql", query, "took", time.Since(began), "error", err)
}

// rows gives pgx's rows to database/sql.
type rows struct {
	rows    pgx.Rows
	batch   pgx.BatchResults // nil without a viewer
	columns []string
	convert []func([]byte) (driver.Value, error)
	first   bool // the row that newRows fetched is still to be handed out
	more    bool
	finish  func(error)
}

// newRows fetches the first row, so that an error of the statement is the error of the query.
func newRows(result pgx.Rows, batch pgx.BatchResults, types *pgtype.Map) (*rows, error) {
	r := &rows{rows: result, batch: batch, first: true, finish: func(error) {}}
	if r.more = result.Next(); !r.more && result.Err() != nil {
		return nil, errors.Join(result.Err(), r.Close())
	}
	fields := result.FieldDescriptions()
	r.columns = make([]string, len(fields))
	r.convert = make([]func([]byte) (driver.Value, error), len(fields))
	for i, field := range fields {
		r.columns[i] = field.Name
		r.convert[i] = converter(field, types)
	}
	return r, nil
}

func (r *rows) Columns() []string { return r.columns }

func (r *rows) Next(dest []driver.Value) error {
	if !r.first {
		r.more = r.rows.Next()
	}
	r.first = false
	if !r.more {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	for i, raw := range r.rows.RawValues() {
		if raw == nil {
			dest[i] = nil
			continue
		}
		value, err := r.convert[i](raw)
		if err != nil {
			return fmt.Errorf("convert column %s: %w", r.columns[i], err)
		}
		dest[i] = value
	}
	return nil
}

func (r *rows) Close() error {
	r.rows.Close()
	err := r.rows.Err()
	if r.batch != nil {
		err = errors.Join(err, r.batch.Close())
	}
	r.finish(err)
	return err
}

// converter decodes what the hot tables are made of without an allocation of its own, and everything else as pgx does. Bytes
// that it returns are valid until the next row, as database/sql allows.
func converter(field pgconn.FieldDescription, types *pgtype.Map) func([]byte) (driver.Value, error) {
	if field.Format == pgtype.BinaryFormatCode {
		switch field.DataTypeOID {
		case pgtype.UUIDOID:
			return func(raw []byte) (driver.Value, error) { return raw, nil }
		case pgtype.Int4OID:
			return func(raw []byte) (driver.Value, error) { return int64(int32(binary.BigEndian.Uint32(raw))), nil }
		case pgtype.Int8OID:
			return func(raw []byte) (driver.Value, error) { return int64(binary.BigEndian.Uint64(raw)), nil }
		case pgtype.BoolOID:
			return func(raw []byte) (driver.Value, error) { return raw[0] != 0, nil }
		case pgtype.TimestamptzOID:
			return func(raw []byte) (driver.Value, error) { return instant(raw) }
		case pgtype.JSONBOID:
			return func(raw []byte) (driver.Value, error) { return raw[1:], nil } // the first byte is the format's version
		}
	}
	switch field.DataTypeOID {
	case pgtype.TextOID, pgtype.VarcharOID, pgtype.NameOID:
		return func(raw []byte) (driver.Value, error) { return string(raw), nil }
	case pgtype.TextArrayOID: // bun reads arrays as text
		return func(raw []byte) (driver.Value, error) {
			var list []string
			if err := types.Scan(field.DataTypeOID, field.Format, raw, &list); err != nil {
				return nil, err
			}
			text, err := types.Encode(field.DataTypeOID, pgtype.TextFormatCode, list, nil)
			return string(text), err
		}
	}
	if known, ok := types.TypeForOID(field.DataTypeOID); ok {
		return func(raw []byte) (driver.Value, error) {
			return known.Codec.DecodeDatabaseSQLValue(types, field.DataTypeOID, field.Format, raw)
		}
	}
	return func(raw []byte) (driver.Value, error) { return string(raw), nil } // an unknown type travels as text
}
