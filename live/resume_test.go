package live_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/models"
)

// begin subscribes to tenant 0 as its owner does.
func (f *fixture) begin(t *testing.T, filter models.StreamFilter, cursor string) *live.Subscription[*models.RunEvent] {
	t.Helper()
	var after *models.Position
	if cursor != "" {
		var err error
		after, err = models.ParsePosition(models.RunStream, cursor)
		require.NoError(t, err)
	}
	filter.UserID = &f.user[0]
	s, err := f.RunStatuses(models.WithViewer(t.Context(), models.Viewer{UserID: f.user[0]}), filter, after)
	require.NoError(t, err)
	return s
}

// versions receives n events and says of which runs and versions they were.
func (f *fixture) versions(t *testing.T, s *live.Subscription[*models.RunEvent], n int) (told []string, cursors []string) {
	t.Helper()
	for range n {
		e := f.receive(t, s)
		told = append(told, fmt.Sprintf("%s %d", e.RunID, e.Version))
		cursors = append(cursors, e.Cursor())
	}
	return told, cursors
}

func (f *fixture) step(t *testing.T, run uuid.UUID) {
	t.Helper()
	f.exec(t, `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
}

func TestRunStatuses_BeginWithTheCurrentState(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ended, waiting, working, theirs := f.run(t, 0), f.run(t, 0), f.run(t, 0), f.run(t, 1)
	f.exec(t, `UPDATE runs SET status = 'completed' WHERE id = $1`, ended)
	f.step(t, working)
	told, _ := f.versions(t, f.begin(t, models.StreamFilter{}, ""), 2)
	require.Equal(t, []string{fmt.Sprint(waiting, " 1"), fmt.Sprint(working, " 2")}, told, "what goes on, in the order in which it was asked for")

	s := f.begin(t, models.StreamFilter{RunID: &ended}, "")
	e := f.receive(t, s)
	require.True(t, e.Snapshot())
	require.Nil(t, e.PreviousStatus())
	require.Equal(t, models.RunCompleted, e.Status())
	require.Equal(t, 2, e.Version)
	require.False(t, s.Expired())
	f.exec(t, `UPDATE runs SET status = 'failed' WHERE id = $1`, ended)
	e = f.receive(t, s)
	require.False(t, e.Snapshot())
	require.Equal(t, 3, e.Version)

	f.exec(t, `UPDATE runs SET status = 'failed' WHERE user_id = $1`, f.user[0])
	told, _ = f.versions(t, f.begin(t, models.StreamFilter{ThreadID: &f.thread[0]}, ""), 1)
	require.Equal(t, []string{fmt.Sprint(working, " 3")}, told, "the newest run is told of although it has ended")
	require.NotContains(t, told, theirs.String())
}

// What a page costs when it opens must not grow with what has ever happened.
func TestRunStatuses_FindTheCurrentStateByIndex(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(t, `INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, 5000)`, f.user[0])
	f.exec(t, `ANALYZE runs, run_events`)
	var scans, read int
	require.Eventually(t, func() bool { // PostgreSQL tells what a connection has read with one of its later statements
		f.versions(t, f.begin(t, models.StreamFilter{}, ""), 100)
		const figures = `SELECT idx_scan, idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'idx_run_events_user_id_xid'`
		require.NoError(t, f.owner.QueryRow(t.Context(), figures).Scan(&scans, &read))
		return scans > 0
	}, soon, 100*time.Millisecond)
	require.LessOrEqual(t, read, 10*scans)
}

// Whatever a client received last, it receives exactly the rest from there, in whatever order the transactions commit and however the log
// is cut into pages.
func TestRunStatuses_ResumeExactlyAfterEachEvent(t *testing.T) {
	t.Parallel()
	for _, page := range []int{1, 2, 1000} {
		t.Run(fmt.Sprintf("reading %d at a time", page), func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(cfg *live.Config) { cfg.Page = page })
			runs := []uuid.UUID{f.run(t, 0), f.run(t, 0), f.run(t, 0), f.run(t, 0)}
			s := f.begin(t, models.StreamFilter{}, "")
			_, states := f.versions(t, s, 4)
			var all, cursors []string
			hear := func(n int) {
				told, after := f.versions(t, s, n)
				all, cursors = append(all, told...), append(cursors, after...)
			}
			late, err := f.connect(t).Begin(t.Context())
			require.NoError(t, err)
			_, err = late.Exec(t.Context(), `UPDATE runs SET status = 'failed' WHERE id = ANY ($1)`, runs[:2])
			require.NoError(t, err)
			f.step(t, runs[2])
			f.step(t, runs[3])
			hear(2)
			f.exec(t, `UPDATE runs SET status = 'cancelled' WHERE id = ANY ($1)`, runs[2:])
			hear(2)
			require.NoError(t, late.Commit(t.Context()))
			hear(2)
			f.exec(t, `UPDATE runs SET status = 'pending' WHERE user_id = $1`, f.user[0])
			hear(4)

			for i, cursor := range append(states[3:], cursors...) {
				again := f.begin(t, models.StreamFilter{}, cursor)
				told, _ := f.versions(t, again, len(all)-i)
				require.ElementsMatch(t, all[i:], told, "after %d events", i)
				require.False(t, again.Expired())
				f.step(t, runs[0])
				news := fmt.Sprintf("%s %d", runs[0], 4+i)
				told, _ = f.versions(t, again, 1)
				require.Equal(t, []string{news}, told, "and then what is new")
				all = append(all, news) // for those after this one
				require.Less(t, len(cursor), 200, "cursors are short")
			}
			again := f.begin(t, models.StreamFilter{}, states[1])
			require.True(t, f.receive(t, again).Snapshot(), "in the midst of the states they are told anew")
			require.False(t, again.Expired())
		})
	}
}

// The first transaction that a snapshot leaves out may have begun, and written, long before: PostgreSQL ends a snapshot after the latest
// transaction that is over, not after the latest that has begun.
func TestRunStatuses_ResumeWithWhatWasWrittenEarlierByAYoungerTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	quick, slow := f.run(t, 0), f.run(t, 0)
	s := f.begin(t, models.StreamFilter{}, "")
	f.versions(t, s, 2)
	older, err := f.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = older.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	younger, err := f.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = younger.Exec(t.Context(), `UPDATE runs SET status = 'failed' WHERE id = $1`, slow)
	require.NoError(t, err)
	_, err = older.Exec(t.Context(), `UPDATE runs SET status = 'failed' WHERE id = $1`, quick)
	require.NoError(t, err)
	require.NoError(t, older.Commit(t.Context()))
	told, change := f.versions(t, s, 1)
	require.Equal(t, []string{fmt.Sprint(quick, " 2")}, told)
	_, state := f.versions(t, f.begin(t, models.StreamFilter{RunID: &slow}, ""), 1)
	require.NoError(t, younger.Commit(t.Context()))
	for _, cursor := range []string{change[0], state[0]} {
		told, _ = f.versions(t, f.begin(t, models.StreamFilter{}, cursor), 1)
		require.Equal(t, []string{fmt.Sprint(slow, " 2")}, told)
	}
}

func TestRunStatuses_ResumeWithoutASeamWhileOthersWrite(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *live.Config) { cfg.Page = 7 })
	run := f.run(t, 0)
	stopped := make(chan struct{})
	writing, end := context.WithCancel(t.Context())
	writer := f.connect(t)
	go func() {
		defer close(stopped)
		for writing.Err() == nil {
			_, _ = writer.Exec(context.Background(), `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
		}
	}()
	cursor, version := "", 0
	for range 40 {
		s := f.begin(t, models.StreamFilter{RunID: &run}, cursor)
		for range 10 {
			e := f.receive(t, s)
			if version > 0 {
				require.Equal(t, version+1, e.Version)
			}
			cursor, version = e.Cursor(), e.Version
		}
	}
	end()
	<-stopped
}

func TestRunStatuses_SayWhenACursorIsOfNoUse(t *testing.T) {
	t.Parallel()
	f := setup(t)
	run := f.run(t, 0)
	s := f.begin(t, models.StreamFilter{}, "")
	first := f.receive(t, s)
	f.step(t, run)
	second := f.receive(t, s)

	foreign := second.Position
	foreign.Log++
	future := second.Position
	future.Current = &models.Snapshot{Max: future.Current.Max + 1000}
	for name, position := range map[string]models.Position{"of another database": foreign, "from the future": future} {
		s := f.begin(t, models.StreamFilter{}, position.Cursor(models.RunStream))
		e := f.receive(t, s)
		require.True(t, e.Snapshot(), name)
		require.Equal(t, 2, e.Version, name)
		require.True(t, s.Expired(), name)
		require.False(t, s.Expired(), "it is told once")
		f.step(t, run)
		f.step(t, run)
		f.exec(t, `UPDATE runs SET version = 0 WHERE id = $1`, run) // no change
		require.Equal(t, 3, f.receive(t, s).Version, name)
		require.Equal(t, 4, f.receive(t, s).Version, name)
		f.exec(t, `DELETE FROM runs`)
		run = f.run(t, 0)
		f.step(t, run)
	}

	run = f.run(t, 0)
	watching := f.begin(t, models.StreamFilter{RunID: &run}, "")
	before := f.receive(t, watching).Cursor()
	f.step(t, run)
	after := f.receive(t, watching).Cursor()
	retention := func() int {
		gone, err := f.store.ExpireRunEvents(models.WithViewer(t.Context(), models.System), 0, 1000)
		require.NoError(t, err)
		return gone
	}
	require.Zero(t, retention(), "an hour is the least")
	f.exec(t, `UPDATE run_events SET at = at - interval '8 days'`)
	require.Zero(t, retention(), "rows that may be new to a reader stay")
	require.Eventually(t, func() bool { // transactions of other databases count too
		f.exec(t, `UPDATE run_events_horizon SET next_settled_at = '-infinity'`)
		retention()
		var left int
		f.scan(t, &left, `SELECT count(*) FROM run_events`)
		return left == 0
	}, soon, time.Millisecond)

	s = f.begin(t, models.StreamFilter{RunID: &run}, before)
	require.True(t, f.receive(t, s).Snapshot())
	require.True(t, s.Expired(), "a row after it is deleted")
	s = f.begin(t, models.StreamFilter{RunID: &run}, first.Cursor())
	require.True(t, f.receive(t, s).Snapshot(), "it stood in the midst of states or before what is deleted")
	s = f.begin(t, models.StreamFilter{RunID: &run}, after)
	f.step(t, run)
	e := f.receive(t, s)
	if !e.Snapshot() { // nothing after it is deleted, unless its transaction was still in the midst
		require.Equal(t, 3, e.Version)
	}
}

func TestRetention_LeavesWhatIsYoungAndDeletesWhatIsOld(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.exec(t, `INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, 500)`, f.user[0])
	f.exec(t, `UPDATE run_events SET at = at - interval '8 days' WHERE seq <= (SELECT min(seq) + 399 FROM run_events)`)
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	for range 2 { // replicas
		go func() {
			live.Retention{Store: f.store, Keep: 7 * 24 * time.Hour, Every: time.Millisecond, Batch: 50, Log: slog.New(slog.DiscardHandler)}.Run(ctx)
			stopped <- struct{}{}
		}()
	}
	require.Eventually(t, func() bool {
		f.exec(t, `UPDATE run_events_horizon SET next_settled_at = '-infinity'`) // a minute has passed
		var left int
		f.scan(t, &left, `SELECT count(*) FROM run_events`)
		return left == 100
	}, soon, 20*time.Millisecond)
	stop()
	<-stopped
	<-stopped
}

func (f *fixture) listen(t *testing.T, cursor string) *live.Subscription[*models.MessageEvent] {
	t.Helper()
	var after *models.Position
	if cursor != "" {
		var err error
		after, err = models.ParsePosition(models.MessageStream, cursor)
		require.NoError(t, err)
	}
	s, err := f.Messages(models.WithViewer(t.Context(), models.Viewer{UserID: f.user[0]}), f.thread[0], after)
	require.NoError(t, err)
	return s
}

func (f *fixture) say(t *testing.T, tenant int, content string) (id uuid.UUID) {
	t.Helper()
	f.scan(t, &id, `INSERT INTO messages (thread_id, role, content) VALUES ($1, 'user', $2) RETURNING id`, f.thread[tenant], content)
	return id
}

func nextMessage(t *testing.T, s *live.Subscription[*models.MessageEvent]) *models.MessageEvent {
	t.Helper()
	select {
	case e, ok := <-s.Events():
		require.True(t, ok, "ended: %v", s.Err())
		return e
	case <-time.After(soon):
		require.FailNow(t, "no message came")
		return nil
	}
}

func TestMessages_BeginNowAndResumeExactly(t *testing.T) {
	t.Parallel()
	for _, page := range []int{1, 1000} {
		t.Run(fmt.Sprintf("reading %d at a time", page), func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(cfg *live.Config) { cfg.Page = page })
			f.say(t, 0, "before")
			f.subscribe(t, models.StreamFilter{}) // what is committed by now has been heard
			s := f.listen(t, "")
			var all []uuid.UUID
			var cursors []string
			hear := func(ids ...uuid.UUID) {
				for _, id := range ids {
					e := nextMessage(t, s)
					require.Equal(t, id, e.MessageID)
					all, cursors = append(all, id), append(cursors, e.Cursor())
				}
			}
			f.say(t, 1, "another tenant's")
			hear(f.say(t, 0, "one"))
			late, err := f.connect(t).Begin(t.Context())
			require.NoError(t, err)
			var early uuid.UUID
			require.NoError(t, late.QueryRow(t.Context(), `INSERT INTO messages (thread_id, role, content) VALUES ($1, 'tool', '') RETURNING id`, f.thread[0]).Scan(&early))
			hear(f.say(t, 0, "two"))
			require.NoError(t, late.Commit(t.Context()))
			hear(early)
			f.exec(t, `INSERT INTO messages (thread_id, role, content, created_at) SELECT $1, 'user', n::text, clock_timestamp() - n * interval '1 minute' FROM generate_series(1, 3) n`, f.thread[0])
			for range 3 {
				e := nextMessage(t, s)
				all, cursors = append(all, e.MessageID), append(cursors, e.Cursor())
			}
			for i, cursor := range cursors {
				again := f.listen(t, cursor)
				var told []uuid.UUID
				for range all[i+1:] {
					told = append(told, nextMessage(t, again).MessageID)
				}
				require.ElementsMatch(t, all[i+1:], told, "what was missed comes in the order in which it was said")
				fresh := f.say(t, 0, "news")
				require.Equal(t, fresh, nextMessage(t, again).MessageID)
				all = append(all, fresh)
			}
			foreign, err := models.ParsePosition(models.MessageStream, cursors[0])
			require.NoError(t, err)
			foreign.Log++
			again := f.listen(t, foreign.Cursor(models.MessageStream))
			e := nextMessage(t, again)
			require.True(t, e.Snapshot())
			require.True(t, again.Expired())
			require.Equal(t, all[len(all)-1], e.MessageID, "the latest")
		})
	}
}

// Rows of a backup bring transaction ids of another server with them, which this one will reach some day.
func TestMessages_TakeNothingFromABackupForNews(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *live.Config) { cfg.Poll = time.Millisecond })
	f.say(t, 0, "restored")
	f.exec(t, `ALTER TABLE messages DISABLE TRIGGER USER`)
	f.exec(t, `WITH old AS (DELETE FROM messages RETURNING *)
		INSERT INTO messages (thread_id, user_id, role, content, xid) SELECT thread_id, user_id, role, content, (pg_current_xact_id()::text::bigint + 20)::text::xid8 FROM old`)
	f.exec(t, `ALTER TABLE messages ENABLE TRIGGER USER`)
	s := f.listen(t, "")
	first := f.say(t, 0, "first")
	e := nextMessage(t, s)
	require.Equal(t, first, e.MessageID)
	for range 50 { // transaction ids reach and pass the restored one
		id := f.say(t, 0, "more")
		require.Equal(t, id, nextMessage(t, s).MessageID)
	}
	again := f.listen(t, e.Cursor())
	for range 50 {
		require.False(t, nextMessage(t, again).Snapshot())
	}
	require.Empty(t, again.Events())
}
