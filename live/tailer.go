package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/netra-ai/netra/internal/wait"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

const (
	// gap is the least time between the starts of two reads: bells that ring within it cost one read.
	gap = 3 * time.Millisecond
	// readTimeout bounds one read, so that a database that has silently gone is noticed.
	readTimeout = 30 * time.Second
	// The wait between two attempts to connect doubles from first to last; each is shortened by up to half at random.
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// Run reads events and hands them out until ctx ends, through every loss of the database. It fails only when the URL cannot be
// read. When it returns, all subscriptions have ended.
func (h *Hub) Run(ctx context.Context) error {
	defer h.close()
	config, err := pgx.ParseConfig(h.cfg.DatabaseURL)
	if err != nil {
		return fmt.Errorf("parse the URL of PostgreSQL: %w", err)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	config.RuntimeParams["application_name"] = "netra live"
	t := &tailer{hub: h, config: config}
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { t.rung = true }
	backoff := firstBackoff
	for {
		reached, err := t.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if reached {
			backoff = firstBackoff
		}
		h.cfg.Log.WarnContext(ctx, "live: lost the database", "error", err, "retry_in", backoff)
		if !wait.For(ctx, backoff-rand.N(backoff/2)) {
			return nil
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// tailer reads the logs. Its position survives its connections.
type tailer struct {
	hub    *Hub
	config *pgx.ConnConfig
	conn   *pgx.Conn
	rung   bool // the bell rang since the last read began

	identity string // of the log that the position belongs to; empty before the first connection
	log      uint64
	seen     *models.Snapshot
	// When a read broke off, rows that its snapshot showed were handed out up to this one.
	broken     *models.Snapshot
	brokenUpTo step
}

// step is where a read is: events of runs come first, then messages.
type step struct {
	stream int
	place  models.Place
}

func (s step) compare(other step) int {
	return cmp.Or(cmp.Compare(s.stream, other.stream), s.place.Compare(other.place))
}

// follow connects and reads until something breaks. It says whether it got as far as reading.
func (t *tailer) follow(ctx context.Context) (reached bool, err error) {
	if t.conn, err = pgx.ConnectConfig(ctx, t.config); err != nil {
		return false, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = t.conn.Close(closing) // it is of no more use, whatever comes of it
	}()
	// First the bell, then the table: what is committed in between is read or rings.
	if err := t.listen(ctx); err != nil {
		return false, err
	}
	if err := t.orient(ctx); err != nil {
		return false, err
	}
	for {
		began := time.Now()
		t.rung = false
		if err := t.read(ctx); err != nil {
			return reached, err
		}
		reached = true
		if !t.rung {
			if err := t.wait(ctx); err != nil {
				return true, err
			}
		}
		if !wait.For(ctx, gap-time.Since(began)) {
			return true, ctx.Err()
		}
	}
}

// listen prepares the session. Reads are always by index: a plan made while the table was small must not outlive that.
func (t *tailer) listen(ctx context.Context) error {
	_, err := t.conn.Exec(ctx, `
		SELECT set_config('netra.superuser', 'on', false), set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false);
		LISTEN run_events; LISTEN messages`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// orient finds out whether the position still means something here. On another server, after a failover or when the log was made
// anew, transaction ids and sequences begin where they like: everybody has to begin again. So they have where rows that have not
// been read are deleted already, which takes an absence as long as rows are kept.
func (t *tailer) orient(ctx context.Context) error {
	var identity, now string
	var deleted, run, message uint64
	err := t.conn.QueryRow(ctx, `
		SELECT `+store.LogIdentity+`, pg_current_snapshot()::text,
			(SELECT deleted FROM run_events_horizon),
			coalesce((SELECT xid FROM run_events WHERE xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY xid DESC LIMIT 1), '0'),
			coalesce((SELECT xid FROM messages WHERE xid < pg_snapshot_xmax(pg_current_snapshot()) ORDER BY xid DESC LIMIT 1), '0')`).
		Scan(&identity, &now, &deleted, &run, &message)
	if err != nil {
		return fmt.Errorf("find the position: %w", err)
	}
	current, err := models.ParseSnapshot(now)
	if err != nil {
		return err
	}
	known := current.Known(max(run, message, deleted))
	switch {
	case t.identity == "":
		t.seen, t.broken = known, &models.Snapshot{}
		t.log = store.LogID(identity)
		t.hub.begin(t.log, t.seen)
		close(t.hub.ready)
	case t.identity != identity || current.Max <= t.seen.Last() || deleted >= t.seen.Min():
		t.hub.cfg.Log.WarnContext(ctx, "live: another log, or one with a gap; all subscribers begin again", "was", t.identity, "is", identity)
		t.seen, t.broken, t.brokenUpTo = known, &models.Snapshot{}, step{}
		t.log = store.LogID(identity)
		t.hub.begin(t.log, t.seen)
	}
	t.identity = identity
	return nil
}

// fresh is SQL that is true for rows that the snapshot before did not show.
const fresh = `(xid >= $1 AND xid < pg_snapshot_xmax(pg_current_snapshot()) OR xid = ANY ($2)) AND ` + store.Genuine

// news selects the log and the snapshot that the statement runs under, with the greatest xid among the rows, and every row that it shows and the snapshot before did not: exactly the
// rows of transactions that had not ended then. So nothing is missed or repeated in whatever order transactions commit, and one
// that stays open costs a probe of each index. Rows of one run come in the order of their versions: a version is given
// out under the run's lock, which is held until the commit, and all rows are read under one snapshot. They are streamed: a burst is
// bounded by the mailboxes, not by this read.
const news = `
	SELECT 0 AS stream, 0 AS seq, NULL::uuid AS id, (
			SELECT coalesce(max(xid::text::bigint), 0)::text::xid8 FROM (
				SELECT xid FROM run_events WHERE ` + fresh + `
				UNION ALL
				SELECT xid FROM messages WHERE ` + fresh + `
			) AS found) AS xid, 0 AS version, NULL::uuid AS thread_id, 0 AS user_id,
		pg_relation_filenode('public.run_events')::text AS old_status, pg_current_snapshot()::text AS new_status, now() AS at
	UNION ALL
	SELECT 1, seq, run_id, xid, version, thread_id, user_id, old_status, new_status, at
	FROM run_events
	WHERE ` + fresh + `
	UNION ALL
	SELECT 2, ` + store.MessageMicros + `, id, xid, 0, thread_id, user_id, NULL, NULL, NULL
	FROM messages
	WHERE ` + fresh + `
	ORDER BY stream, seq, id`

// read hands out what is new.
func (t *tailer) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := t.conn.Query(ctx, news, t.seen.Max, t.seen.Open)
	if err != nil {
		return fmt.Errorf("read the logs: %w", err)
	}
	defer rows.Close()
	var current *models.Snapshot
	var upTo step
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.stream, &r.place.Seq, &r.id, &r.xid, &r.version, &r.thread, &r.user, &r.from, &r.to, &r.at); err != nil {
			return fmt.Errorf("read the logs: %w", err)
		}
		if r.stream == 0 {
			if !strings.HasSuffix(t.identity, "/"+*r.from) {
				return errors.New("run_events was replaced")
			}
			if current, err = models.ParseSnapshot(*r.to); err != nil {
				return err
			}
			current = current.Known(max(t.seen.Last(), r.xid))
			continue
		}
		if r.stream == 2 {
			r.place.ID = *r.id
		}
		if r.step.compare(t.brokenUpTo) > 0 || !t.broken.Shows(r.xid) {
			t.publish(&r, models.Mark{Xid: r.xid, Position: models.Position{Log: t.log, Prior: t.seen, Current: current, Place: r.place}})
		}
		upTo = r.step
	}
	if err := rows.Err(); err != nil {
		if upTo.compare(t.brokenUpTo) > 0 {
			t.broken, t.brokenUpTo = current, upTo
		}
		return fmt.Errorf("read the logs: %w", err)
	}
	t.seen, t.broken, t.brokenUpTo = current, &models.Snapshot{}, step{}
	t.hub.progress(t.seen)
	return nil
}

// row is one of news.
type row struct {
	step
	id       *uuid.UUID
	xid      uint64
	version  int
	thread   *uuid.UUID
	user     int
	from, to *string
	at       *time.Time
}

func (t *tailer) publish(r *row, mark models.Mark) {
	if r.stream == 2 {
		publish(t.hub, &t.hub.messages, &models.MessageEvent{Mark: mark, Shared: new(models.Shared), MessageID: *r.id, ThreadID: *r.thread, UserID: r.user})
		return
	}
	publish(t.hub, &t.hub.runs, &models.RunEvent{
		Mark: mark, Shared: new(models.Shared), RunID: *r.id, ThreadID: r.thread, UserID: r.user,
		Version: r.version, OldStatus: (*models.RunStatus)(r.from), NewStatus: models.RunStatus(*r.to), At: *r.at,
	})
}

// wait returns when the bell rings, and after the poll interval without it.
func (t *tailer) wait(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, t.hub.cfg.Poll)
	defer cancel()
	err := t.conn.PgConn().WaitForNotification(waiting)
	if err != nil && ctx.Err() == nil && errors.Is(waiting.Err(), context.DeadlineExceeded) && !t.conn.IsClosed() {
		return nil
	}
	return err
}
