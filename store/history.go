package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// LogIdentity is SQL for which log it is: of which server, on which of its timelines, in which database, in which file. It changes with a failover,
// with a database made anew, and with a table that was restored, truncated or rewritten: then positions mean nothing any more.
const LogIdentity = `concat_ws('/',
	(SELECT system_identifier FROM pg_control_system()),
	left(pg_walfile_name(pg_current_wal_lsn()), 8),
	(SELECT oid FROM pg_database WHERE datname = current_database()),
	pg_relation_filenode('public.run_events'))`

// LogID is the identity as positions hold it.
func LogID(identity string) uint64 {
	sum := sha256.Sum256([]byte(identity))
	return binary.BigEndian.Uint64(sum[:])
}

// Genuine is SQL that is false for rows of the logs that were restored from a backup: they bring the xid of another time or server,
// while their xmin is of this one and older. (It is younger than the xid where the row was written in a subtransaction or changed since.)
const Genuine = `((xmin::text::bigint - xid::text::bigint) & 4294967295) < 2147483648`

// note is in the first row of every read: which log, the snapshot and how far it is deleted. It comes with the rows, in one statement, since it must be of the same moment.
const note = LogIdentity + ` || ' ' || pg_current_snapshot()::text || ' ' || (SELECT deleted::text FROM run_events_horizon)`

func parseNote(text string) (log uint64, at *models.Snapshot, deleted uint64, err error) {
	parts := strings.Fields(text)
	if len(parts) != 3 {
		return 0, nil, 0, fmt.Errorf("unexpected note %q", text)
	}
	if at, err = models.ParseSnapshot(parts[1]); err != nil {
		return 0, nil, 0, err
	}
	if _, err = fmt.Sscan(parts[2], &deleted); err != nil {
		return 0, nil, 0, fmt.Errorf("parse the horizon: %w", err)
	}
	return LogID(parts[0]), at, deleted, nil
}

const runEventColumns = "seq, xid::text::bigint AS xid, run_id, version, thread_id, user_id, old_status, new_status, at, NULL AS note"

// RunEventsAfter is what of the runs' log comes after a position, at most limit events in the order of delivery.
//
// What comes after a position is of two phases: first the rest of its last read (what Current shows and Prior does not, beyond Place), then what
// Current does not show. Each goes by seq. So events of one run keep their order, and every event is a position again.
//
// What Current does not show may have a smaller seq than Place: a snapshot ends after the latest transaction that is over, and a younger one may
// have written already. So rows are found by xid, and only then put in order; OFFSET 0 keeps the planner from walking along seq for it.
func (s *Store) RunEventsAfter(ctx context.Context, filter models.StreamFilter, after *models.Position, known uint64, limit int) (*models.Stretch[*models.RunEvent], error) {
	q := new(statement)
	seq, most := q.arg(after.Place.Seq)+"::bigint", q.arg(limit+1)+"::int"
	priorMax, priorOpen := q.arg(after.Prior.Max)+"::xid8", q.arg(after.Prior.Open)+"::xid8[]"
	currentMax, open := q.arg(after.Current.Max)+"::xid8", q.arg(after.Current.Open)+"::xid8[]"
	where := runEventFilter(q, filter)
	part := func(phase, condition string) {
		q.WriteString(" UNION ALL (SELECT " + phase + ", part.* FROM (SELECT " + runEventColumns + " FROM run_events WHERE " + condition + where + " AND " + Genuine +
			" OFFSET 0) AS part ORDER BY seq LIMIT " + most + ")")
	}
	shown := " AND xid < " + currentMax + " AND NOT xid = ANY(" + open + ") AND seq > " + seq
	q.WriteString("SELECT 0 AS phase, 0::bigint AS seq, 0 AS xid, " + runEventSentinel)
	part("1", "xid >= "+priorMax+shown)
	part("1", "xid = ANY("+priorOpen+")"+shown)
	part("2", "xid >= "+currentMax+" AND xid < pg_snapshot_xmax(pg_current_snapshot())")
	part("2", "xid = ANY("+open+")")
	q.WriteString(" ORDER BY phase, seq")
	return resume(ctx, s, q, after, known, limit, true, scanRunEvent)
}

// RunStates is how the runs are: of one run its state, otherwise the newest runs that have not ended, at most limit, and the newest run of all.
// The latest xid is found by index only where it is ordered by the column: without its table's name xid would mean the number that is selected.
func (s *Store) RunStates(ctx context.Context, filter models.StreamFilter, known uint64, limit int) (*models.Stretch[*models.RunEvent], error) {
	q := new(statement)
	where, from := "", "runs"
	if filter.UserID != nil {
		where += " AND user_id = " + q.arg(*filter.UserID) + "::int"
	}
	if filter.ThreadID != nil {
		where += " AND thread_id = " + q.arg(*filter.ThreadID) + "::uuid"
	}
	if filter.RunID != nil {
		where += " AND id = " + q.arg(*filter.RunID) + "::uuid"
	} else {
		newest := where + " ORDER BY created_at DESC, id DESC LIMIT "
		from = "((SELECT * FROM runs WHERE status IN ('pending', 'processing')" + newest + q.arg(limit) + "::int)" +
			" UNION (SELECT * FROM runs WHERE true" + newest + "1))"
		from = strings.ReplaceAll(from, "*", "id, version, thread_id, user_id, status, created_at, started_at, completed_at")
	}
	tenant := " WHERE xid < pg_snapshot_xmax(pg_current_snapshot())"
	if filter.UserID != nil {
		tenant += " AND user_id = " + q.arg(*filter.UserID) + "::int"
	}
	q.WriteString("SELECT 0 AS phase, 0 AS seq," +
		" coalesce((SELECT xid::text::bigint FROM run_events" + tenant + " ORDER BY run_events.xid DESC LIMIT 1), 0) AS xid, " + runEventSentinel + ", NULL::timestamptz AS created_at" +
		" UNION ALL SELECT 1, 0, 0, r.id, r.version, r.thread_id, r.user_id, NULL, r.status," +
		" coalesce((SELECT at FROM run_events e WHERE e.run_id = r.id AND e.version = r.version), r.completed_at, r.started_at, r.created_at), NULL, r.created_at" +
		" FROM " + from + " AS r WHERE true")
	if filter.RunID != nil {
		q.WriteString(where)
	}
	q.WriteString(" ORDER BY phase, created_at, run_id")
	return states(ctx, s, q, known, func(scan func(...any) error, phase *int, place *models.Place, xid *uint64, note **string) (*models.RunEvent, error) {
		var created *time.Time
		return scanRunEvent(func(into ...any) error { return scan(append(into, &created)...) }, phase, place, xid, note)
	})
}

func runEventFilter(q *statement, filter models.StreamFilter) string {
	where := ""
	if filter.UserID != nil {
		where += " AND user_id = " + q.arg(*filter.UserID) + "::int"
	}
	if filter.ThreadID != nil {
		where += " AND thread_id = " + q.arg(*filter.ThreadID) + "::uuid"
	}
	if filter.RunID != nil {
		where += " AND run_id = " + q.arg(*filter.RunID) + "::uuid"
	}
	return where
}

const runEventSentinel = "NULL::uuid AS run_id, 0 AS version, NULL::uuid AS thread_id," +
	" 0 AS user_id, NULL AS old_status, NULL AS new_status, NULL::timestamptz AS at, " + note + " AS note"

func scanRunEvent(scan func(...any) error, phase *int, place *models.Place, xid *uint64, note **string) (*models.RunEvent, error) {
	e := &models.RunEvent{Shared: new(models.Shared)}
	var run *uuid.UUID
	var status *models.RunStatus
	var at *time.Time
	if err := scan(phase, &place.Seq, xid, &run, &e.Version, &e.ThreadID, &e.UserID, &e.OldStatus, &status, &at, note); err != nil {
		return nil, err
	}
	if run != nil {
		e.RunID, e.NewStatus, e.At = *run, *status, *at
	}
	return e, nil
}

// MessageMicros is SQL for when a message was said, in microseconds, within bounds: a writer may set it to what no clock shows.
const MessageMicros = `(extract(epoch FROM greatest(least(created_at, '9999-12-31 UTC'), '0001-01-01 UTC')) * 1000000)::bigint`

const (
	messageEventColumns = MessageMicros + " AS micros, id, xid::text::bigint AS xid, thread_id, user_id, NULL AS note"
	messageSentinel     = "0 AS phase, 0 AS micros, NULL::uuid AS id, 0 AS xid, NULL::uuid AS thread_id, 0 AS user_id, " + note + " AS note"
)

// MessagesAfter is what of a thread's messages comes after a position, at most limit events in the order of delivery, which is that of
// RunEventsAfter.
func (s *Store) MessagesAfter(ctx context.Context, threadID uuid.UUID, after *models.Position, known uint64, limit int) (*models.Stretch[*models.MessageEvent], error) {
	q := new(statement)
	micros, id := q.arg(after.Place.Seq)+"::bigint", q.arg(after.Place.ID)+"::uuid"
	thread, most := q.arg(threadID)+"::uuid", q.arg(limit+1)+"::int"
	priorMax, priorOpen := q.arg(after.Prior.Max)+"::xid8", q.arg(after.Prior.Open)+"::xid8[]"
	currentMax, open := q.arg(after.Current.Max)+"::xid8", q.arg(after.Current.Open)+"::xid8[]"
	part := func(phase, condition string) {
		q.WriteString(" UNION ALL (SELECT " + phase + ", " + messageEventColumns + " FROM messages WHERE thread_id = " + thread +
			" AND " + condition + " AND " + Genuine + " ORDER BY 2, 3 LIMIT " + most + ")")
	}
	q.WriteString("SELECT " + messageSentinel)
	part("1", "xid < "+currentMax+" AND NOT xid = ANY("+open+") AND (xid >= "+priorMax+" OR xid = ANY("+priorOpen+
		")) AND ("+MessageMicros+", id) > ("+micros+", "+id+")")
	part("2", "(xid >= "+currentMax+" AND xid < pg_snapshot_xmax(pg_current_snapshot()) OR xid = ANY("+open+"))")
	q.WriteString(" ORDER BY phase, micros, id")
	return resume(ctx, s, q, after, known, limit, false, scanMessageEvent)
}

// LatestMessage is the thread's latest message, if it has any.
func (s *Store) LatestMessage(ctx context.Context, threadID uuid.UUID, known uint64) (*models.Stretch[*models.MessageEvent], error) {
	q := new(statement)
	q.WriteString("SELECT " + messageSentinel + " UNION ALL (SELECT 1, 0, latest.id, 0, latest.thread_id, latest.user_id, NULL FROM " + q.threads(ctx, []uuid.UUID{threadID}) +
		" CROSS JOIN LATERAL (SELECT id, thread_id, user_id FROM messages WHERE " + ofThread + " ORDER BY created_at DESC, id DESC LIMIT 1) AS latest) ORDER BY phase")
	return states(ctx, s, q, known, scanMessageEvent)
}

func scanMessageEvent(scan func(...any) error, phase *int, place *models.Place, xid *uint64, note **string) (*models.MessageEvent, error) {
	e := &models.MessageEvent{Shared: new(models.Shared)}
	var id, thread *uuid.UUID
	if err := scan(phase, &place.Seq, &id, xid, &thread, &e.UserID, note); err != nil {
		return nil, err
	}
	if id != nil {
		e.MessageID, e.ThreadID, place.ID = *id, *thread, *id
	}
	return e, nil
}

// stamped is what can stand in a stretch.
type stamped interface{ Stamp() *models.Mark }

// scanner reads a row: an event, or in the first row the note.
type scanner[E stamped] func(scan func(...any) error, phase *int, place *models.Place, xid *uint64, note **string) (E, error)

// resume reads the answer to a question of what comes after a position.
func resume[E stamped](ctx context.Context, s *Store, q *statement, after *models.Position, known uint64, limit int, expires bool, scan scanner[E]) (*models.Stretch[E], error) {
	stretch, deleted, phases, err := read(ctx, s, q, scan)
	if err != nil {
		return nil, err
	}
	// From the future: the server was put back to an earlier time. Deleted: rows after the position may be among them.
	if stretch.Log != after.Log || after.Current.Last() >= stretch.At.Max || expires && deleted >= after.Prior.Min() {
		stretch.Rows, stretch.Expired = nil, true
		return stretch, nil
	}
	if len(phases) <= limit { // everything that the snapshot shows is here
		for _, row := range stretch.Rows {
			known = max(known, row.Stamp().Xid)
		}
		stretch.At = stretch.At.Known(max(known, after.Current.Last()))
	}
	for i, row := range stretch.Rows {
		mark := row.Stamp()
		mark.Log, mark.Prior, mark.Current = stretch.Log, after.Prior, after.Current
		if phases[i] == 2 {
			mark.Prior, mark.Current = after.Current, stretch.At
		}
	}
	rest := 0
	for rest < len(phases) && phases[rest] == 1 {
		rest++
	}
	switch {
	case rest > limit: // the second phase begins when nothing of the first is left
		stretch.Rows, stretch.More = stretch.Rows[:limit], true
	case len(stretch.Rows)-rest > limit:
		stretch.Rows, stretch.More = stretch.Rows[:rest+limit], true
	}
	return stretch, nil
}

// states reads the answer to a question of how things are. Only the last state is a position: it stands for all of them.
func states[E stamped](ctx context.Context, s *Store, q *statement, known uint64, scan scanner[E]) (*models.Stretch[E], error) {
	stretch, deleted, _, err := read(ctx, s, q, scan)
	if err != nil {
		return nil, err
	}
	stretch.At = stretch.At.Known(max(known, deleted, stretch.Last))
	for i, row := range stretch.Rows {
		mark := row.Stamp()
		mark.Snapshot = true
		mark.Position = models.Position{Log: stretch.Log}
		if i == len(stretch.Rows)-1 {
			mark.Prior, mark.Current = stretch.At, stretch.At
		}
	}
	return stretch, nil
}

func read[E stamped](ctx context.Context, s *Store, q *statement, scan scanner[E]) (stretch *models.Stretch[E], deleted uint64, phases []int, err error) {
	rows, err := s.db.DB.QueryContext(ctx, q.String(), q.args...)
	if err != nil {
		return nil, 0, nil, translate(ctx, err)
	}
	defer rows.Close()
	stretch = &models.Stretch[E]{}
	for rows.Next() {
		var phase int
		var place models.Place
		var xid uint64
		var note *string
		event, err := scan(rows.Scan, &phase, &place, &xid, &note)
		if err != nil {
			return nil, 0, nil, translate(ctx, err)
		}
		if note != nil {
			stretch.Last = xid
			if stretch.Log, stretch.At, deleted, err = parseNote(*note); err != nil {
				return nil, 0, nil, err
			}
			continue
		}
		mark := event.Stamp()
		mark.Xid, mark.Place = xid, place
		stretch.Rows, phases = append(stretch.Rows, event), append(phases, phase)
	}
	return stretch, deleted, phases, translate(ctx, rows.Err())
}

// ExpireRunEvents deletes at most batch of the events that are older than keep, unless another replica is at it, and says how many. It is
// for our own background work.
func (s *Store) ExpireRunEvents(ctx context.Context, keep time.Duration, batch int) (int, error) {
	var gone int
	err := s.db.DB.QueryRowContext(ctx, "SELECT expire_run_events(make_interval(secs => $1), $2)", keep.Seconds(), batch).Scan(&gone)
	return gone, translate(ctx, err)
}

// steps is run_events with its primary key under the name that every list's has.
const steps = "(SELECT seq AS id, run_id, version, old_status, new_status, at FROM run_events) AS steps"

// TransitionsOfRuns is one page for each run: its rows in the page's order, with one row more where the list goes on.
func (s *Store) TransitionsOfRuns(ctx context.Context, runIDs []uuid.UUID, page models.Page) ([]*models.RunTransition, error) {
	q := new(statement)
	q.WriteString("SELECT steps.* FROM " + q.parents(runIDs, "uuid") + " CROSS JOIN LATERAL (SELECT * FROM " + steps + " WHERE run_id = parent.key")
	q.page(page)
	q.WriteString(") AS steps")
	return query[*models.RunTransition](ctx, s, q)
}

// CountTransitionsOfRuns leaves out runs without any.
func (s *Store) CountTransitionsOfRuns(ctx context.Context, runIDs []uuid.UUID) (map[uuid.UUID]int, error) {
	q := new(statement)
	q.WriteString("SELECT run_id AS key, count(*) AS count FROM run_events WHERE run_id = ANY(" + q.keys(runIDs, "uuid") + ") GROUP BY run_id")
	return count[uuid.UUID](ctx, s, q)
}

// Transitions are those of seqs that the viewer may see, in any order.
func (s *Store) Transitions(ctx context.Context, seqs []int64, _ Fields) ([]*models.RunTransition, error) {
	q := new(statement)
	q.WriteString("SELECT * FROM " + steps + " WHERE id = ANY(" + q.keys(seqs, "bigint") + ")")
	return query[*models.RunTransition](ctx, s, q)
}

// ActivityOfThreads is one page for each thread: its rows in the page's order, with one row more where the list goes on. The page of each
// of the two tables is found by index; what they have in common is at most two pages long.
func (s *Store) ActivityOfThreads(ctx context.Context, threadIDs []uuid.UUID, page models.Page) ([]*models.ThreadActivity, error) {
	q := activityPages(ctx, threadIDs, page)
	return query[*models.ThreadActivity](ctx, s, q)
}

func activityPages(ctx context.Context, threadIDs []uuid.UUID, page models.Page) *statement {
	q := new(statement)
	direction := " DESC"
	if page.Backward {
		direction = ""
	}
	threads, most := q.threads(ctx, threadIDs), strconv.Itoa(page.Rows())
	// part is one table's page. Of one instant, transitions come before messages, which decides for a bound of the other kind.
	part := func(columns, from, of, at, id string, transitions bool) {
		q.WriteString("(SELECT " + columns + " FROM " + from + " WHERE " + of)
		bound := func(operator string, cursor *models.Cursor) {
			if cursor == nil {
				return
			}
			key, _ := models.ParseActivityKey(cursor.ID) // NewPage has checked it
			value := q.arg(cursor.Value) + "::text::timestamptz"
			switch {
			case transitions && key.Transition != 0:
				q.WriteString(" AND (" + at + ", " + id + ") " + operator + " (" + value + ", " + q.arg(key.Transition) + "::bigint)")
			case !transitions && key.Transition == 0:
				q.WriteString(" AND (" + at + ", " + id + ") " + operator + " (" + value + ", " + q.arg(key.Message) + "::uuid)")
			case (operator == "<") == transitions:
				q.WriteString(" AND " + at + " " + operator + " " + value)
			default:
				q.WriteString(" AND " + at + " " + operator + "= " + value)
			}
		}
		bound("<", page.After)
		bound(">", page.Before)
		q.WriteString(" ORDER BY " + at + direction + ", " + id + direction + " LIMIT " + most + ")")
	}
	q.WriteString("SELECT activity.* FROM " + threads + " CROSS JOIN LATERAL (")
	part("thread_id, created_at AS at, id AS message_id, NULL::bigint AS transition", "messages", ofThread, "created_at", "id", false)
	q.WriteString(" UNION ALL ")
	part("thread_id, at, NULL, seq", "run_events", "thread_id = parent.key", "at", "seq", true)
	q.WriteString(" ORDER BY at" + direction + ", transition" + direction + " NULLS " + map[bool]string{false: "LAST", true: "FIRST"}[page.Backward] +
		", message_id" + direction + " LIMIT " + most + ") AS activity")
	return q
}

// CountActivityOfThreads is how much each thread has.
func (s *Store) CountActivityOfThreads(ctx context.Context, threadIDs []uuid.UUID) (map[uuid.UUID]int, error) {
	q := new(statement)
	q.WriteString("SELECT key, (SELECT count(*) FROM messages WHERE " + ofThread + ") + (SELECT count(*) FROM run_events WHERE thread_id = parent.key) AS count FROM " +
		q.threads(ctx, threadIDs))
	return count[uuid.UUID](ctx, s, q)
}
