package live

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/netra-ai/netra/models"
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
		if !sleep(ctx, backoff-rand.N(backoff/2)) {
			return nil
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// tailer reads run_events. Its position survives its connections.
type tailer struct {
	hub    *Hub
	config *pgx.ConnConfig
	conn   *pgx.Conn
	rung   bool // the bell rang since the last read began

	cluster string // which database on which server the position belongs to; empty before the first connection
	seen    snapshot
	// When a read broke off, rows that its snapshot showed were handed out up to this seq.
	broken     snapshot
	brokenUpTo int64
	// Rows up to here with an xid from the future came with a backup of another server; they are no news, even once our server's
	// own counter has passed them.
	foreignUpTo int64
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
		if !sleep(ctx, gap-time.Since(began)) {
			return true, ctx.Err()
		}
	}
}

// listen prepares the session. Reads are always by index: a plan made while the table was small must not outlive that.
func (t *tailer) listen(ctx context.Context) error {
	_, err := t.conn.Exec(ctx, `
		SELECT set_config('netra.superuser', 'on', false), set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false);
		LISTEN run_events`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

// orient finds out whether the position still means something here. On another server, after a failover or when the database was made
// anew, transaction ids and sequences begin where they like: everybody has to begin again.
func (t *tailer) orient(ctx context.Context) error {
	var cluster, now string
	var foreign int64
	err := t.conn.QueryRow(ctx, `
		SELECT concat_ws('/',
				(SELECT system_identifier FROM pg_control_system()),
				left(pg_walfile_name(pg_current_wal_lsn()), 8),
				(SELECT oid FROM pg_database WHERE datname = current_database())),
			pg_current_snapshot()::text,
			(SELECT coalesce(max(seq), 0) FROM run_events WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))`).
		Scan(&cluster, &now, &foreign)
	if err != nil {
		return fmt.Errorf("find the position: %w", err)
	}
	current, err := parseSnapshot(now)
	if err != nil {
		return err
	}
	t.foreignUpTo = max(t.foreignUpTo, foreign)
	switch {
	case t.cluster == "":
		t.seen = current
		close(t.hub.ready)
	case t.cluster != cluster || current.xmax < t.seen.xmax:
		t.hub.cfg.Log.WarnContext(ctx, "live: another database answers; all subscribers begin again", "was", t.cluster, "is", cluster)
		t.seen, t.broken, t.brokenUpTo, t.foreignUpTo = current, snapshot{}, 0, foreign
		t.hub.endAll(ErrLost)
	}
	t.cluster = cluster
	return nil
}

// news selects the snapshot that the statement runs under, and every row that it shows and the snapshot before did not: exactly the
// rows of transactions that had not ended then. So nothing is missed or repeated in whatever order transactions commit, and one
// that stays open costs one probe of the index (xid, seq). Rows of one run come in the order of their versions: a version is given
// out under the run's lock, which is held until the commit, and all rows are read under one snapshot. They are streamed: a burst is
// bounded by the mailboxes, not by this read.
const news = `
	SELECT 0 AS seq, 0::text::xid8 AS xid, NULL::uuid AS run_id, 0 AS version, NULL::uuid AS thread_id, 0 AS user_id,
		NULL AS old_status, '' AS new_status, now() AS at, pg_current_snapshot()::text AS snapshot
	UNION ALL
	SELECT seq, xid, run_id, version, thread_id, user_id, old_status, new_status, at, NULL
	FROM run_events
	WHERE (xid >= $1 AND xid < pg_snapshot_xmax(pg_current_snapshot()) OR xid = ANY ($2)) AND seq > $3
	ORDER BY seq`

// read hands out what is new.
func (t *tailer) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	rows, err := t.conn.Query(ctx, news, t.seen.xmax, t.seen.open, t.foreignUpTo)
	if err != nil {
		return fmt.Errorf("read run_events: %w", err)
	}
	defer rows.Close()
	var current snapshot
	var upTo int64
	for rows.Next() {
		e := new(models.RunEvent)
		var runID *[16]byte
		var xid uint64
		var text *string
		err := rows.Scan(&e.Seq, &xid, &runID, &e.Version, &e.ThreadID, &e.UserID, &e.OldStatus, &e.NewStatus, &e.At, &text)
		if err != nil {
			return fmt.Errorf("read run_events: %w", err)
		}
		if text != nil {
			if current, err = parseSnapshot(*text); err != nil {
				return err
			}
			continue
		}
		e.RunID = *runID
		if e.Seq > t.brokenUpTo || !t.broken.shows(xid) {
			t.hub.publish(e)
		}
		upTo = e.Seq
	}
	if err := rows.Err(); err != nil {
		if upTo > t.brokenUpTo {
			t.broken, t.brokenUpTo = current, upTo
		}
		return fmt.Errorf("read run_events: %w", err)
	}
	t.seen, t.broken, t.brokenUpTo = current, snapshot{}, 0
	return nil
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

// sleep says whether ctx is still going on afterwards.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
