package live_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embedded"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/migrations"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// soon is for what takes no time, on a machine that has other things to do.
const soon = 2 * time.Minute

// fixture is a database with two tenants, a thread of each, and a running hub.
type fixture struct {
	*live.Hub
	db      *testdb.DB
	store   *store.Store
	owner   *pgx.Conn
	user    [2]int
	thread  [2]uuid.UUID
	stopped <-chan struct{}
	stop    context.CancelFunc
}

func setup(t *testing.T, change ...func(*live.Config)) *fixture {
	t.Helper()
	return setupOn(t, testdb.NewPostgres(t), change...)
}

func setupOn(t *testing.T, db *testdb.DB, change ...func(*live.Config)) *fixture {
	t.Helper()
	f := &fixture{db: db}
	f.owner = f.connect(t)
	for i := range f.user {
		f.scan(t, &f.user[i], `INSERT INTO users (email) VALUES ($1) RETURNING id`, fmt.Sprintf("user%d@example.com", i))
		f.scan(t, &f.thread[i], `INSERT INTO threads (user_id) VALUES ($1) RETURNING id`, f.user[i])
	}
	cfg := live.Config{DatabaseURL: f.db.AppURL, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	var err error
	f.store, err = store.Open(store.Config{URL: f.db.AppURL, StatementTimeout: soon, Log: cfg.Log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.store.Close()) })
	cfg.Store = f.store
	f.Hub = live.New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	f.stop, f.stopped = stop, stopped
	go func() {
		defer close(stopped)
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-stopped
	})
	return f
}

func neverPoll(cfg *live.Config) { cfg.Poll = time.Hour }

func (f *fixture) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.db.OwnerURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (f *fixture) scan(t *testing.T, into any, query string, args ...any) {
	t.Helper()
	require.NoError(t, f.owner.QueryRow(t.Context(), query, args...).Scan(into))
}

func (f *fixture) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	_, err := f.owner.Exec(t.Context(), query, args...)
	require.NoError(t, err)
}

func (f *fixture) run(t *testing.T, tenant int) uuid.UUID {
	t.Helper()
	var id uuid.UUID
	f.scan(t, &id, `INSERT INTO runs (user_id, thread_id, input_data) VALUES ($1, $2, '{}') RETURNING id`, f.user[tenant], f.thread[tenant])
	return id
}

// subscribe begins a subscription and hears of everything that was committed before: afterwards only news can come.
func (f *fixture) subscribe(t *testing.T, filter models.StreamFilter) *live.Subscription[*models.RunEvent] {
	t.Helper()
	marker := f.watch(t, models.StreamFilter{})
	run := f.run(t, 0)
	for e := f.receive(t, marker); e.RunID != run; e = f.receive(t, marker) {
	}
	return f.watch(t, filter)
}

func (f *fixture) watch(t *testing.T, filter models.StreamFilter) *live.Subscription[*models.RunEvent] {
	t.Helper()
	s, err := f.RunStatuses(system(t.Context()), filter, f.now(t))
	require.NoError(t, err)
	return s
}

func system(ctx context.Context) context.Context { return models.WithViewer(ctx, models.System) }

// now is the position after everything that is committed.
func (f *fixture) now(t *testing.T) *models.Position {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), f.db.OwnerURL) // f.owner may be in a transaction
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var identity, snapshot string
	var place models.Place
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT `+store.LogIdentity+`, pg_current_snapshot()::text, (SELECT coalesce(max(seq), 0) FROM run_events)`).
		Scan(&identity, &snapshot, &place.Seq))
	at, err := models.ParseSnapshot(snapshot)
	require.NoError(t, err)
	return &models.Position{Log: store.LogID(identity), Prior: at, Current: at, Place: place}
}

func (f *fixture) receive(t *testing.T, s *live.Subscription[*models.RunEvent]) *models.RunEvent {
	t.Helper()
	select {
	case e, ok := <-s.Events():
		require.True(t, ok, "ended: %v", s.Err())
		return e
	case <-time.After(soon):
		require.FailNow(t, "no event came")
		return nil
	}
}

// ended waits for the end of s and gives its reason.
func ended(t *testing.T, s *live.Subscription[*models.RunEvent]) error {
	t.Helper()
	timeout := time.After(soon)
	for {
		select {
		case _, ok := <-s.Events():
			if !ok {
				return s.Err()
			}
		case <-timeout:
			require.FailNow(t, "the subscription goes on")
		}
	}
}

func TestHub_HearsAnUpdateTypedIntoPostgreSQL(t *testing.T) {
	t.Parallel()
	f := setup(t, neverPoll)
	s := f.subscribe(t, models.StreamFilter{UserID: &f.user[0]})
	run := f.run(t, 0)
	e := f.receive(t, s)
	require.Equal(t, run, e.RunID)
	require.Equal(t, 1, e.Version)
	require.Nil(t, e.OldStatus)
	require.Equal(t, models.RunPending, e.NewStatus)
	require.Equal(t, f.thread[0], *e.ThreadID)
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE id = $1`, run)
	e = f.receive(t, s)
	require.Equal(t, 2, e.Version)
	require.Equal(t, models.RunPending, *e.OldStatus)
	require.Equal(t, models.RunProcessing, e.NewStatus)
	require.WithinDuration(t, time.Now(), e.At, time.Minute)
}

func TestHub_GivesEachSubscriberWhatItAskedForAndItsTenantMaySee(t *testing.T) {
	t.Parallel()
	f := setup(t)
	mine, theirs := f.run(t, 0), f.run(t, 1)
	other := f.run(t, 0)
	f.exec(t, `UPDATE runs SET thread_id = NULL WHERE id = $1`, other)
	all := f.subscribe(t, models.StreamFilter{})
	tenant0, tenant1 := f.watch(t, models.StreamFilter{UserID: &f.user[0]}), f.watch(t, models.StreamFilter{UserID: &f.user[1]})
	byRun := f.watch(t, models.StreamFilter{UserID: &f.user[0], RunID: &mine})
	byThread := f.watch(t, models.StreamFilter{UserID: &f.user[0], ThreadID: &f.thread[0]})
	both := f.watch(t, models.StreamFilter{RunID: &mine, ThreadID: &f.thread[0]})
	apart := f.watch(t, models.StreamFilter{RunID: &mine, ThreadID: &f.thread[1]})
	stranger := f.watch(t, models.StreamFilter{UserID: &f.user[1], RunID: &mine})
	strangerThread := f.watch(t, models.StreamFilter{UserID: &f.user[1], ThreadID: &f.thread[0]})
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE id = $1`, mine)
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE id = $1`, theirs)
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE id = $1`, other)
	// Everything is published in one place and in order, so that who has nothing after the last event will have nothing.
	expect := func(s *live.Subscription[*models.RunEvent], runs ...uuid.UUID) {
		t.Helper()
		for _, run := range runs {
			require.Equal(t, run, f.receive(t, s).RunID)
		}
		require.Empty(t, s.Events())
	}
	expect(all, mine, theirs, other)
	expect(tenant0, mine, other)
	expect(tenant1, theirs)
	expect(byRun, mine)
	expect(byThread, mine)
	expect(both, mine)
	expect(apart)
	expect(stranger)
	expect(strangerThread)
}

func TestHub_HearsTransactionsThatCommitOutOfOrder(t *testing.T) {
	t.Parallel()
	f := setup(t)
	early, late := f.run(t, 0), f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{})
	first, err := f.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = first.Exec(t.Context(), `UPDATE runs SET status = 'processing' WHERE id = $1`, early)
	require.NoError(t, err)
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE id = $1`, late)
	second := f.receive(t, s)
	require.Equal(t, late, second.RunID)
	require.NoError(t, first.Commit(t.Context()))
	e := f.receive(t, s)
	require.Equal(t, early, e.RunID)
	require.Less(t, e.Place.Seq, second.Place.Seq)
}

// A transaction can be older by its xid and younger by its seq, which a watermark on either alone would miss.
func TestHub_HearsAnXidThatIsOlderThanItsSeq(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, b := f.run(t, 0), f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{})
	older, err := f.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = older.Exec(t.Context(), `SELECT pg_current_xact_id()`)
	require.NoError(t, err)
	younger, err := f.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = younger.Exec(t.Context(), `UPDATE runs SET status = 'processing' WHERE id = $1`, b)
	require.NoError(t, err)
	_, err = older.Exec(t.Context(), `UPDATE runs SET status = 'processing' WHERE id = $1`, a)
	require.NoError(t, err)
	require.NoError(t, older.Commit(t.Context()))
	require.Equal(t, a, f.receive(t, s).RunID)
	require.NoError(t, younger.Commit(t.Context()))
	require.Equal(t, b, f.receive(t, s).RunID)
}

func TestHub_RepeatsNothingWhileATransactionStaysOpen(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *live.Config) { cfg.Poll = time.Millisecond })
	run, held := f.run(t, 0), f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{})
	open, err := f.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = open.Exec(t.Context(), `UPDATE runs SET status = 'processing' WHERE id = $1`, held)
	require.NoError(t, err)
	for version := 2; version <= 200; version++ {
		f.exec(t, `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
		require.Equal(t, version, f.receive(t, s).Version)
	}
	require.NoError(t, open.Commit(t.Context()))
	require.Equal(t, held, f.receive(t, s).RunID)
	require.Empty(t, s.Events())
}

func TestHub_HearsOnlyOfWhatIsCommitted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	run := f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{})
	tx, err := f.owner.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE runs SET status = 'failed' WHERE id = $1`, run)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	tx, err = f.owner.Begin(t.Context())
	require.NoError(t, err)
	savepoint, err := tx.Begin(t.Context())
	require.NoError(t, err)
	_, err = savepoint.Exec(t.Context(), `UPDATE runs SET status = 'failed' WHERE id = $1`, run)
	require.NoError(t, err)
	require.NoError(t, savepoint.Rollback(t.Context()))
	savepoint, err = tx.Begin(t.Context())
	require.NoError(t, err)
	_, err = savepoint.Exec(t.Context(), `UPDATE runs SET status = 'processing' WHERE id = $1`, run)
	require.NoError(t, err)
	require.NoError(t, savepoint.Commit(t.Context()))
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, models.RunProcessing, f.receive(t, s).NewStatus)
	f.exec(t, `UPDATE runs SET status = 'processing', metadata = '{"same": "status"}' WHERE id = $1`, run)
	f.exec(t, `UPDATE runs SET status = 'completed' WHERE id = $1`, run)
	e := f.receive(t, s)
	require.Equal(t, models.RunCompleted, e.NewStatus)
	require.Equal(t, 3, e.Version)
}

func TestHub_MissesNothingWhenItsBackendIsKilled(t *testing.T) {
	t.Parallel()
	f := setup(t)
	run := f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{RunID: &run})
	for version := 2; version <= 41; version++ {
		if version%4 == 0 {
			f.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'netra live' AND datname = current_database()`)
		}
		f.exec(t, `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
	}
	for version := 2; version <= 41; version++ {
		require.Equal(t, version, f.receive(t, s).Version, "nothing missed, nothing repeated")
	}
}

func TestHub_MissesNothingWhileTheDatabaseTakesNoConnections(t *testing.T) {
	t.Parallel()
	f := setup(t)
	run := f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{RunID: &run})
	var name string
	f.scan(t, &name, `SELECT current_database()`)
	f.exec(t, `ALTER DATABASE `+name+` CONNECTION LIMIT 0`)
	f.exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'netra live' AND datname = current_database()`)
	for range 10 {
		f.exec(t, `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
	}
	_, err := pgx.Connect(t.Context(), f.db.AppURL)
	require.ErrorContains(t, err, "too many connections")
	f.exec(t, `ALTER DATABASE `+name+` CONNECTION LIMIT -1`)
	for version := 2; version <= 11; version++ {
		require.Equal(t, version, f.receive(t, s).Version)
	}
}

func TestHub_MissesNothingWhenPostgreSQLCrashes(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "netra-live-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) // PostgreSQL does not run as root
	engine, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir, Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Stop(context.Background())) })
	db := &testdb.DB{OwnerURL: engine.OwnerURL(), AppURL: engine.AppURL(), ClickHouseURL: testdb.Empty(t).ClickHouseURL}
	require.NoError(t, migrations.Up(t.Context(), db.Owner(t), db.ClickHouse(t), slog.New(slog.DiscardHandler)))
	f := setupOn(t, db)
	run := f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{RunID: &run})
	for version := 2; version <= 4; version++ {
		pid, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
		require.NoError(t, err)
		postmaster, err := strconv.Atoi(strings.SplitN(string(pid), "\n", 2)[0])
		require.NoError(t, err)
		f.exec(t, `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
		require.NoError(t, syscall.Kill(postmaster, syscall.SIGQUIT)) // without a checkpoint: it recovers from its log
		require.Eventually(t, func() bool {
			conn, err := pgx.Connect(t.Context(), db.OwnerURL)
			if err != nil {
				return false
			}
			f.owner = conn
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
			return postmasterChanged(dir, postmaster) && conn.Ping(t.Context()) == nil // in this order: the one before may still have answered
		}, soon, 10*time.Millisecond)
		require.Equal(t, version, f.receive(t, s).Version)
	}
}

func postmasterChanged(dir string, from int) bool {
	pid, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	return err == nil && !strings.HasPrefix(string(pid), strconv.Itoa(from)+"\n")
}

// A backup that is put in the database's place has transaction ids and sequences of its own.
func TestHub_EndsEverySubscriptionWhenAnotherDatabaseTakesThePlace(t *testing.T) {
	t.Parallel()
	f, other := setup(t), testdb.NewPostgres(t)
	s := f.subscribe(t, models.StreamFilter{})
	name := func(from string) string { return from[strings.LastIndex(from, "/")+1 : strings.LastIndex(from, "?")] }
	admin, err := pgx.Connect(t.Context(), os.Getenv("NETRA_OWNER_DATABASE_URL"))
	require.NoError(t, err)
	defer admin.Close(context.Background())
	require.NoError(t, f.owner.Close(t.Context()))
	here, there := name(f.db.OwnerURL), name(other.OwnerURL)
	for _, statement := range []string{
		`ALTER DATABASE ` + here + ` CONNECTION LIMIT 0`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + here + `'`,
		`ALTER DATABASE ` + here + ` RENAME TO swap_` + here,
		`ALTER DATABASE ` + there + ` RENAME TO ` + here,
		`ALTER DATABASE swap_` + here + ` RENAME TO ` + there,
	} {
		require.Eventually(t, func() bool {
			_, err = admin.Exec(t.Context(), statement)
			return err == nil
		}, soon, 10*time.Millisecond, statement) // a terminated backend takes a moment to go
	}
	require.ErrorIs(t, ended(t, s), live.ErrLost)
	again := f.watch(t, models.StreamFilter{})
	f.owner = f.connect(t)
	f.scan(t, &f.user[0], `INSERT INTO users (email) VALUES ('new@example.com') RETURNING id`)
	f.exec(t, `INSERT INTO runs (user_id, input_data) VALUES ($1, '{}')`, f.user[0])
	require.Equal(t, 1, f.receive(t, again).Version)
}

// Where the log was emptied or rewritten, whoever read it cannot know what it missed.
func TestHub_EndsEverySubscriptionWhenTheLogIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{`TRUNCATE run_events`, `VACUUM FULL run_events`} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			s := f.subscribe(t, models.StreamFilter{})
			f.exec(t, statement)
			require.ErrorIs(t, ended(t, s), live.ErrLost)
			again := f.watch(t, models.StreamFilter{})
			run := f.run(t, 0)
			require.Equal(t, run, f.receive(t, again).RunID)
		})
	}
}

// Rows with transaction ids from the future came with a backup of another server.
func TestHub_TakesNothingFromABackupForNews(t *testing.T) {
	t.Parallel()
	db := testdb.NewPostgres(t)
	owner, err := pgx.Connect(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	defer owner.Close(context.Background())
	_, err = owner.Exec(t.Context(), `
		WITH u AS (INSERT INTO users (email) VALUES ('restored@example.com') RETURNING id)
		INSERT INTO runs (user_id, input_data) SELECT id, '{}' FROM u;
		UPDATE run_events SET xid = (pg_current_xact_id()::text::bigint + 20)::text::xid8`)
	require.NoError(t, err)
	f := setupOn(t, db, func(cfg *live.Config) { cfg.Poll = time.Millisecond })
	s := f.watch(t, models.StreamFilter{})
	for range 50 { // transaction ids reach and pass the restored one
		run := f.run(t, 0)
		require.Equal(t, run, f.receive(t, s).RunID)
	}
}

func TestHub_PollsWhereNobodyRingsTheBell(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *live.Config) { cfg.Poll = 20 * time.Millisecond })
	run := f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{})
	var definition string
	f.scan(t, &definition, `SELECT replace(pg_get_functiondef('record_run_event'::regproc), 'PERFORM pg_notify(''run_events'', '''');', '')`)
	require.NotContains(t, definition, "notify")
	f.exec(t, definition)
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE id = $1`, run)
	require.Equal(t, 2, f.receive(t, s).Version)
}

func TestHub_DeliversABurstOfOneStatementInOrder(t *testing.T) {
	t.Parallel()
	const burst = 10_000
	f := setup(t)
	f.exec(t, `INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, $2)`, f.user[0], burst)
	f.exec(t, `ANALYZE runs`)
	slow := f.subscribe(t, models.StreamFilter{}) // reads nothing until the end
	quick := f.watch(t, models.StreamFilter{UserID: &f.user[0]})
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE thread_id IS NULL`)
	f.exec(t, `UPDATE runs SET status = 'completed' WHERE thread_id IS NULL AND id IN (SELECT id FROM runs LIMIT 5000)`)
	for _, s := range []*live.Subscription[*models.RunEvent]{quick, slow} {
		versions, total := map[uuid.UUID]int{}, 0
		for total < burst {
			e := f.receive(t, s)
			if last, seen := versions[e.RunID]; seen {
				require.Equal(t, last+1, e.Version)
			}
			versions[e.RunID] = e.Version
			if e.NewStatus == models.RunProcessing {
				total++
			}
		}
	}
}

func TestHub_EndsASlowSubscriberAndHarmsNoOther(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *live.Config) { cfg.Mailbox = 100 })
	run := f.run(t, 0)
	slow := f.subscribe(t, models.StreamFilter{})
	others := make([]*live.Subscription[*models.RunEvent], 20)
	for i := range others {
		others[i] = f.watch(t, models.StreamFilter{RunID: &run})
	}
	for version := 2; version <= 300; version++ {
		f.exec(t, `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
		for _, s := range others {
			require.Equal(t, version, f.receive(t, s).Version)
		}
	}
	require.ErrorIs(t, ended(t, slow), live.ErrOverflow)
	require.Equal(t, len(others), f.Subscribers(), "only the others: nobody read the marker of subscribe either")
}

func TestHub_GivesEachSubscriberItsOwnEvent(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a := f.subscribe(t, models.StreamFilter{})
	b := f.watch(t, models.StreamFilter{})
	f.run(t, 0)
	require.NotSame(t, f.receive(t, a), f.receive(t, b))
}

func TestHub_EndsEverySubscriptionWithItself(t *testing.T) {
	t.Parallel()
	f := setup(t)
	s := f.watch(t, models.StreamFilter{})
	f.stop()
	<-f.stopped
	require.ErrorIs(t, ended(t, s), live.ErrClosed)
	s, err := f.RunStatuses(system(t.Context()), models.StreamFilter{}, nil)
	require.NoError(t, err)
	require.ErrorIs(t, ended(t, s), live.ErrClosed)
}

func TestHub_EndsASubscriptionWithItsContext(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := f.RunStatuses(system(ctx), models.StreamFilter{}, nil)
	require.NoError(t, err)
	cancel()
	require.NoError(t, ended(t, s))
	require.Zero(t, f.Subscribers())
}

func TestHub_StaysSmallUnderSubscribersThatComeAndGo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		conn := f.connect(t)
		for {
			select {
			case <-stop:
				return
			default:
				_, err := conn.Exec(context.Background(), `INSERT INTO runs (user_id, input_data) VALUES ($1, '{}')`, f.user[0])
				if err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithCancel(context.Background())
				filter := []models.StreamFilter{{}, {UserID: &f.user[0]}, {ThreadID: &f.thread[0]}}[i%3]
				s, err := f.RunStatuses(system(ctx), filter, nil)
				if err != nil {
					t.Error(err)
				} else if filter.ThreadID == nil {
					<-s.Events()
				}
				cancel()
			}
		})
	}
	readers.Wait()
	close(stop)
	writer.Wait()
	require.Eventually(t, func() bool { return f.Subscribers() == 0 }, soon, time.Millisecond)
}

func TestHub_IsForgivenADatabaseThatComesLate(t *testing.T) {
	t.Parallel()
	h := live.New(live.Config{DatabaseURL: "postgres://nobody@127.0.0.1:1/none", Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	asking, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	_, err := h.RunStatuses(asking, models.StreamFilter{}, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	cancel()
	require.NoError(t, <-done)
	require.Error(t, live.New(live.Config{DatabaseURL: "postgres://%"}).Run(t.Context()))
}

// The idle look at the table is one index scan, whatever the size of the table, under row-level security.
func TestHub_LooksByIndex(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *live.Config) { cfg.Poll, cfg.Mailbox = 10*time.Millisecond, 30_000 }) // the many may still be on their way when somebody subscribes
	f.exec(t, `INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, 20000)`, f.user[0])
	f.subscribe(t, models.StreamFilter{})
	read := func() int64 {
		var n int64
		f.scan(t, &n, `SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'run_events'`)
		return n
	}
	scanned := read() // or some of it: PostgreSQL tells what a connection has read with one of its later statements
	require.Eventually(t, func() bool {
		var calls int64
		f.scan(t, &calls, `SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelname = 'idx_run_events_xid_seq'`)
		return calls > 50
	}, soon, 20*time.Millisecond)
	require.Less(t, read()-scanned, int64(20000), "the table was read whole")
}
