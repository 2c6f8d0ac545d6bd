package live_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embedded"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/migrations"
	"github.com/netra-ai/netra/models"
)

const (
	replicas  = 3
	burst     = 10_000
	spoken    = 1000 // messages of one statement
	perWriter = 10   // runs
	writers   = 4
)

// soak is a platform of real processes under faults: PostgreSQL, three replicas of the program, writers and clients that come back.
type soak struct {
	t        *testing.T
	dir      string
	netra    string
	db       *testdb.DB
	user     [2]int // the second has the bursts
	token    [2]string
	threads  [3]uuid.UUID // the last is the second user's
	runs     [writers][]uuid.UUID
	address  [replicas]atomic.Value
	process  [replicas]*exec.Cmd
	longest  time.Duration // that a transaction stays open, or so
	commits  atomic.Int64
	faults   map[string]int
	finished atomic.Bool // no more changes: clients end when they have everything
}

// TestFaults is the promise of live status: whatever breaks, every client receives every change of what it watches, in order for each run, and
// every message, in order for each transaction, over any replica and by either transport. It lasts NETRA_SOAK (25 s unless set).
func TestFaults(t *testing.T) {
	t.Parallel()
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv("NETRA_SOAK"), "25s"))
	require.NoError(t, err)
	s := newSoak(t)
	s.longest = min(lasts/3, time.Minute)
	var watchers []*watcher
	client := func(tenant int, follow follower, events bool) {
		i := len(watchers)
		begun := make(chan struct{})
		watchers = append(watchers, &watcher{
			soak: s, follower: follow, tenant: tenant, events: events, begun: begun, begin: sync.OnceFunc(func() { close(begun) }), random: rand.New(rand.NewPCG(uint64(i), 1)),
		})
	}
	for i := range 3 {
		client(0, newRunFollower("", uuid.Nil, writers*perWriter), i == 0)
		client(0, newRunFollower(`threadId: "`+threadID(s.threads[0])+`", `, uuid.Nil, writers*perWriter), false)
		client(0, newRunFollower(`runId: "`+runID(s.runs[i][0])+`", `, s.runs[i][0], 1), false)
		client(1, newRunFollower("", uuid.Nil, 100), false) // a state tells of no more
	}
	for i, thread := range s.threads {
		client(i/2, newMessageFollower(thread), i == 0)
		client(i/2, newMessageFollower(thread), false)
	}
	var clients sync.WaitGroup
	for _, w := range watchers {
		clients.Go(w.follow)
	}

	s.greet(watchers) // from here on a client that does not know a run knows that it had its first status, and misses no message
	writing, stop := context.WithTimeout(t.Context(), lasts)
	defer stop()
	var busy sync.WaitGroup
	for i := range writers {
		busy.Go(func() { s.write(writing, i) })
	}
	busy.Go(func() { s.burst(writing) })
	s.break_(writing)
	busy.Wait()
	s.heal()
	s.finished.Store(true)
	clients.Wait()

	var changes, messages, duplicates, connections int
	for _, w := range watchers {
		require.NoError(t, w.check(s))
		received, again := w.count()
		if _, ok := w.follower.(*messageFollower); ok {
			messages += received
		} else {
			changes += received
		}
		duplicates, connections = duplicates+again, connections+w.connections
	}
	t.Logf("%d transactions; faults %v; %d clients over %d connections received %d changes and %d messages, %d of them again",
		s.commits.Load(), s.faults, len(watchers), connections, changes, messages, duplicates)
	require.Positive(t, changes)
	require.Positive(t, messages)
}

func runID(id uuid.UUID) string {
	return models.GlobalID{Kind: models.KindRun, Key: id.String()}.String()
}

func threadID(id uuid.UUID) string {
	return models.GlobalID{Kind: models.KindThread, Key: id.String()}.String()
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{t: t, faults: map[string]int{}}
	var err error
	s.dir, err = os.MkdirTemp("", "netra-soak-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(s.dir)) })
	require.NoError(t, os.Chmod(s.dir, 0o755)) // PostgreSQL does not run as root
	s.netra = filepath.Join(t.TempDir(), "netra")
	output, err := exec.Command("go", "build", "-buildvcs=false", "-o", s.netra, "../cmd/netra").CombinedOutput()
	require.NoError(t, err, "%s", output)
	engine, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: s.dir, Fast: true, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Stop(context.Background())) })
	s.db = &testdb.DB{OwnerURL: engine.OwnerURL(), AppURL: engine.AppURL(), ClickHouseURL: testdb.Empty(t).ClickHouseURL}
	require.NoError(t, migrations.Up(t.Context(), s.db.Owner(t), s.db.ClickHouse(t), slog.New(slog.DiscardHandler)))
	conn := s.connect(t.Context())
	defer conn.Close(context.Background())
	scan := func(into any, query string, args ...any) {
		require.NoError(t, conn.QueryRow(t.Context(), query, args...).Scan(into))
	}
	for i := range s.user {
		email := fmt.Sprintf("user%d@example.com", i)
		scan(&s.user[i], `INSERT INTO users (email) VALUES ($1) RETURNING id`, email)
		command := exec.Command(s.netra, "token", "--email", email)
		command.Env = s.environment()
		output, err := command.Output()
		require.NoError(t, err)
		s.token[i] = strings.TrimSpace(string(output))
	}
	for i := range s.threads {
		scan(&s.threads[i], `INSERT INTO threads (user_id) VALUES ($1) RETURNING id`, s.user[i/2])
	}
	for i := range s.runs {
		rows, err := conn.Query(t.Context(), `INSERT INTO runs (user_id, thread_id, input_data) SELECT $1, $2, '{}' FROM generate_series(1, $3) RETURNING id`, s.user[0], s.threads[0], perWriter)
		require.NoError(t, err)
		s.runs[i], err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		require.NoError(t, err)
	}
	_, err = conn.Exec(t.Context(), `INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, $2)`, s.user[1], burst)
	require.NoError(t, err)
	for i := range replicas {
		s.start(i)
		t.Cleanup(func() { s.kill(i) })
	}
	return s
}

func (s *soak) environment() []string {
	return append(os.Environ(), "NETRA_DATABASE_URL="+s.db.AppURL, "NETRA_CLICKHOUSE_URL="+s.db.ClickHouseURL, "NETRA_SECRET="+strings.Repeat("s", 32), "NETRA_ADDR=127.0.0.1:0")
}

func (s *soak) start(i int) {
	replica := exec.Command(s.netra, "serve")
	replica.Env = append(s.environment(), "NETRA_DATA_DIR="+filepath.Join(s.dir, "data"+strconv.Itoa(i)))
	var errors bytes.Buffer
	replica.Stderr = &errors
	out, err := replica.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, replica.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = replica.Wait()
		require.FailNow(s.t, "a replica does not start", errors.String())
	}
	_, address, _ := strings.Cut(strings.TrimSpace(line), "http://")
	s.process[i] = replica
	s.address[i].Store(address)
}

func (s *soak) kill(i int) {
	_ = s.process[i].Process.Kill()
	_ = s.process[i].Wait() // it was killed
}

// connect tries until PostgreSQL answers.
func (s *soak) connect(ctx context.Context) *pgx.Conn {
	for ctx.Err() == nil {
		if conn, err := pgx.Connect(ctx, s.db.OwnerURL); err == nil {
			return conn
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// greet says something in every thread until every client has heard all of what it watches.
func (s *soak) greet(watchers []*watcher) {
	conn := s.connect(s.t.Context())
	defer conn.Close(context.Background())
	for _, w := range watchers {
		for begun := false; !begun; {
			_, err := conn.Exec(s.t.Context(), `INSERT INTO messages (thread_id, role, content) SELECT unnest($1::uuid[]), 'system', 'hello'`, s.threads)
			require.NoError(s.t, err)
			select {
			case <-w.begun:
				begun = true
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

const anyStep = `UPDATE runs SET status = (ARRAY['pending', 'processing', 'completed', 'failed', 'cancelled'])[1 + (version + 1) % 5] WHERE `

// What writers say: a user's messages are dated as they come, a tool's are dated back.
const (
	say     = `INSERT INTO messages (thread_id, role, content) SELECT $1, 'user', $2 FROM generate_series(1, $3::int)`
	sayLate = `INSERT INTO messages (thread_id, role, content, created_at)
		SELECT $1, 'tool', $2, clock_timestamp() - random() * interval '1 hour' FROM generate_series(1, $3::int)`
)

// write changes the writer's own runs and speaks in its user's threads, in transactions of all kinds.
func (s *soak) write(ctx context.Context, writer int) {
	random := rand.New(rand.NewPCG(uint64(writer), 2))
	for ctx.Err() == nil {
		conn := s.connect(ctx)
		if conn == nil {
			return
		}
		for {
			if err := s.transact(ctx, conn, random, writer); err != nil {
				break // PostgreSQL went away, or it is over
			}
			s.commits.Add(1)
		}
		_ = conn.Close(context.Background()) // it is of no more use
	}
}

func (s *soak) transact(ctx context.Context, conn *pgx.Conn, random *rand.Rand, writer int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if random.IntN(4) == 0 { // an xid that is older than what it will write
		if _, err := tx.Exec(ctx, `SELECT pg_current_xact_id()`); err != nil {
			return err
		}
		pause(ctx, time.Duration(random.IntN(100))*time.Millisecond)
	}
	for range 1 + random.IntN(5) {
		if _, err := tx.Exec(ctx, anyStep+`id = $1`, s.runs[writer][random.IntN(perWriter)]); err != nil {
			return err
		}
		if random.IntN(2) == 0 {
			statement := []string{say, say, sayLate}[random.IntN(3)]
			if _, err := tx.Exec(ctx, statement, s.threads[random.IntN(2)], "writer "+strconv.Itoa(writer), 1+random.IntN(3)); err != nil {
				return err
			}
		}
		pause(ctx, time.Duration(random.IntN(20))*time.Millisecond)
	}
	switch random.IntN(40) {
	case 0:
		pause(ctx, 2*time.Second+time.Duration(random.Int64N(int64(s.longest)))) // stays open for long
	case 1, 2, 3, 4, 5:
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

func (s *soak) burst(ctx context.Context) {
	for ctx.Err() == nil {
		if conn := s.connect(ctx); conn != nil {
			if _, err := conn.Exec(ctx, anyStep+`user_id = $1`, s.user[1]); err == nil {
				s.commits.Add(1)
			}
			if _, err := conn.Exec(ctx, say, s.threads[2], "burst", spoken); err == nil {
				s.commits.Add(1)
			}
			_ = conn.Close(context.Background())
		}
		pause(ctx, 12*time.Second)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// break_ breaks one thing after the other.
func (s *soak) break_(ctx context.Context) {
	random := rand.New(rand.NewPCG(1, 3))
	var deaths int // of the postmaster; the embedded engine has no more patience than for three without a minute's rest
	var died time.Time
	for round := 1; ctx.Err() == nil; round++ {
		pause(ctx, time.Second)
		name := []string{"listener", "replica", "listener", "backends", "postgres", "crash"}[random.IntN(6)]
		if round == 5 {
			name = "doorbell"
		}
		if time.Since(died) > 70*time.Second {
			deaths = 0
		}
		if name == "postgres" && deaths == 3 {
			name = "crash"
		}
		s.faults[name]++
		switch name {
		case "listener":
			s.asOwner(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'netra live'`)
		case "backends":
			s.asOwner(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'netra%'`)
		case "replica":
			i := random.IntN(replicas)
			s.kill(i)
			pause(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
			s.start(i)
		case "crash": // PostgreSQL restarts all its processes and recovers from its log when one of them is killed
			var victim int
			if conn := s.connect(ctx); conn != nil {
				if conn.QueryRow(ctx, `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'netra%' ORDER BY random() LIMIT 1`).Scan(&victim) == nil {
					_ = syscall.Kill(victim, syscall.SIGKILL) // it may have gone
				}
				_ = conn.Close(context.Background())
			}
		case "postgres":
			deaths, died = deaths+1, time.Now()
			signal := []syscall.Signal{syscall.SIGQUIT, syscall.SIGINT}[random.IntN(2)] // a crash or a fast shutdown
			pid, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
			if postmaster, bad := strconv.Atoi(strings.SplitN(string(pid), "\n", 2)[0]); err == nil && bad == nil {
				_ = syscall.Kill(postmaster, signal) // it may be about to start
			}
			pause(ctx, time.Second)
			s.asOwner(ctx, `SELECT 1`) // it is not killed while it starts
		case "doorbell":
			s.asOwner(ctx, `DO $$ BEGIN
				EXECUTE replace(pg_get_functiondef('record_run_event'::regproc), 'PERFORM pg_notify(''run_events'', '''');', '');
				EXECUTE replace(pg_get_functiondef('ring_messages'::regproc), 'PERFORM pg_notify(''messages'', '''');', '');
			END $$`)
		}
	}
}

func (s *soak) asOwner(ctx context.Context, statement string) {
	if conn := s.connect(ctx); conn != nil {
		_, _ = conn.Exec(ctx, statement) // it may hit itself
		_ = conn.Close(context.Background())
	}
}

// heal makes every replica work again.
func (s *soak) heal() {
	conn := s.connect(s.t.Context())
	require.NoError(s.t, conn.Close(context.Background()))
}

// watcher is one client: it subscribes at any replica, goes elsewhere when it is cut off, and checks all that it is told.
type watcher struct {
	*soak
	follower
	random *rand.Rand
	tenant int
	events bool // by server-sent events, not by websocket
	cursor string
	begun  chan struct{} // closed when it has heard the whole state
	begin  func()        // closes it

	connections int
	heard       int // events of this connection
}

// follower knows what a client asks for and what it is to receive. Its errors are broken promises.
type follower interface {
	// query takes a variable $after.
	query() string
	// state is how many events come before anything changes. A cursor from the midst of them leads to a state again, and not to what followed.
	state() int
	// hear takes an event's data from the stream that began after the cursor. It gives the event's cursor, which is empty where PostgreSQL was
	// away while the event was read: it is to come again.
	hear(data []byte, after string) (cursor string, err error)
	// complete compares what was received with the log.
	complete(ctx context.Context, conn *pgx.Conn, user int) (bool, error)
	// check is for when everything has been received.
	check(s *soak) error
	count() (received, again int)
}

func (w *watcher) follow() {
	var news time.Time
	var known int
	for {
		if w.finished.Load() {
			conn := w.soak.connect(w.t.Context())
			complete, err := w.complete(w.t.Context(), conn, w.user[w.tenant])
			broken := conn.IsClosed() // PostgreSQL had not yet felt its last fault
			_ = conn.Close(context.Background())
			if err != nil && broken {
				continue
			}
			if err != nil {
				w.t.Error(err)
				return
			}
			if complete {
				return
			}
			if received, _ := w.count(); received > known || news.IsZero() {
				known, news = received, time.Now()
			}
			if time.Since(news) > time.Minute {
				w.t.Errorf("%s did not receive everything", w.query())
				return
			}
		}
		w.heard = 0
		address, _ := w.address[w.random.IntN(replicas)].Load().(string)
		leaves, leave := context.WithTimeout(w.t.Context(), time.Duration(1+w.random.IntN(15))*time.Second)
		var err error
		if w.events {
			err = w.readEvents(leaves, address)
		} else {
			err = w.readSocket(leaves, address)
		}
		leave()
		if err != nil {
			w.t.Error(err)
			return
		}
	}
}

const (
	quiet   = 3 * time.Second // after which a client looks elsewhere
	retries = 50 * time.Millisecond
)

type frame struct {
	Type    string
	Payload json.RawMessage
}

// told takes one response. It says whether to go on.
func (w *watcher) told(payload []byte, after string) (goOn bool, err error) {
	var response struct {
		Data       json.RawMessage
		Extensions struct{ Code string }
	}
	if err := json.Unmarshal(payload, &response); err != nil {
		return false, fmt.Errorf("read a response: %w", err)
	}
	if response.Extensions.Code != "" {
		return false, fmt.Errorf("a cursor %q was answered with %s", after, response.Extensions.Code)
	}
	cursor, err := w.hear(response.Data, after)
	if err != nil || cursor == "" {
		return false, err
	}
	w.cursor = cursor
	if w.heard++; w.heard == w.state() {
		w.begin()
	}
	return true, nil
}

// readSocket reads until the connection breaks, it has been quiet or ctx ends.
func (w *watcher) readSocket(ctx context.Context, address string) error {
	conn, _, err := (&websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}, HandshakeTimeout: 5 * time.Second}).Dial("ws://"+address+"/graphql", nil)
	if err != nil {
		pause(ctx, retries)
		return nil
	}
	defer conn.Close()
	w.connections++
	_ = conn.WriteJSON(map[string]any{"type": "connection_init", "payload": map[string]any{"authorization": "Bearer " + w.token[w.tenant]}})
	var ack frame
	if conn.SetReadDeadline(time.Now().Add(10*time.Second)) != nil || conn.ReadJSON(&ack) != nil || ack.Type != "connection_ack" {
		pause(ctx, retries)
		return nil
	}
	after := w.cursor
	variables := map[string]any{}
	if after != "" {
		variables["after"] = after
	}
	_ = conn.WriteJSON(map[string]any{"id": "1", "type": "subscribe", "payload": map[string]any{"query": w.query(), "variables": variables}})
	for ctx.Err() == nil {
		var f frame
		if conn.SetReadDeadline(time.Now().Add(quiet)) != nil || conn.ReadJSON(&f) != nil {
			return nil
		}
		switch f.Type {
		case "error":
			return fmt.Errorf("the subscription was refused: %s", f.Payload)
		case "next":
			if goOn, err := w.told(f.Payload, after); !goOn {
				return err
			}
		}
	}
	return nil
}

// readEvents does as readSocket does, and resumes as the stock clients do.
func (w *watcher) readEvents(ctx context.Context, address string) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	patience := time.AfterFunc(10*time.Second, leave)
	defer patience.Stop()
	body, err := json.Marshal(map[string]string{"query": w.query()})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/graphql", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header = http.Header{"Accept": {"text/event-stream"}, "Content-Type": {"application/json"}, "Authorization": {"Bearer " + w.token[w.tenant]}}
	after := w.cursor
	if after != "" {
		request.Header.Set("Last-Event-ID", after)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		pause(ctx, retries)
		return nil
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		pause(ctx, retries)
		return nil
	}
	w.connections++
	var event, id, data string
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			data = value
		case "": // ends an event; of a stream that broke, the last may lack its end
			if event == "complete" {
				return fmt.Errorf("%s was completed", w.query())
			}
			if data == "" {
				continue
			}
			goOn, err := w.told([]byte(data), after)
			event, data = "", ""
			if err == nil && goOn && id != w.cursor {
				err = fmt.Errorf("the event with the cursor %q has the id %q", w.cursor, id)
			}
			if err != nil || !goOn {
				return err
			}
			patience.Reset(quiet)
		}
	}
	return nil
}

// runFollower watches runs.
type runFollower struct {
	arguments   string
	run         uuid.UUID      // only this one; zero is all of the user
	states      int            // runs in the first state
	seen        map[string]int // version by run
	changes     int
	repetitions int
}

func newRunFollower(arguments string, run uuid.UUID, states int) *runFollower {
	return &runFollower{arguments: arguments, run: run, states: states, seen: map[string]int{}}
}

func (f *runFollower) state() int { return f.states }

func (f *runFollower) query() string {
	return `subscription ($after: String) { runStatusChanged(` + f.arguments + `after: $after) { run { id } version snapshot cursor } }`
}

func (f *runFollower) hear(data []byte, after string) (string, error) {
	var told struct {
		RunStatusChanged *struct {
			Run      *struct{ ID string }
			Version  int
			Snapshot bool
			Cursor   string
		}
	}
	if err := json.Unmarshal(data, &told); err != nil {
		return "", fmt.Errorf("read an event: %w", err)
	}
	e := told.RunStatusChanged
	if e == nil {
		return "", fmt.Errorf("a response without data: %s", data)
	}
	if e.Run == nil {
		return "", nil
	}
	last := cmp.Or(f.seen[e.Run.ID], 1)
	switch {
	case e.Snapshot && after != "" && e.Version > last:
		return "", fmt.Errorf("a state instead of what followed %q", after)
	case e.Snapshot:
		f.seen[e.Run.ID] = max(last, e.Version)
	case e.Version == last+1:
		f.seen[e.Run.ID] = e.Version
		f.changes++
	case e.Version <= last:
		f.repetitions++
	default:
		return "", fmt.Errorf("%s: version %d of %s came after %d", f.query(), e.Version, e.Run.ID, last)
	}
	return e.Cursor, nil
}

func (f *runFollower) complete(ctx context.Context, conn *pgx.Conn, user int) (bool, error) {
	rows, err := conn.Query(ctx, `SELECT run_id, max(version), count(*) FROM run_events WHERE user_id = $1 GROUP BY run_id`, user)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	complete := true
	for rows.Next() {
		var id uuid.UUID
		var version, count int
		if err := rows.Scan(&id, &version, &count); err != nil {
			return false, err
		}
		if count != version {
			return false, fmt.Errorf("the log of %s has %d of %d versions", id, count, version)
		}
		if f.run != uuid.Nil && f.run != id {
			continue
		}
		last := cmp.Or(f.seen[runID(id)], 1)
		if last > version {
			return false, fmt.Errorf("%s was told of version %d of %s, which has %d", f.query(), last, id, version)
		}
		complete = complete && last == version
	}
	return complete, rows.Err()
}

func (f *runFollower) check(*soak) error { return nil } // everything was checked as it came

func (f *runFollower) count() (received, again int) { return f.changes, f.repetitions }

// messageFollower watches the messages of a thread.
type messageFollower struct {
	thread      uuid.UUID
	received    []uuid.UUID // in the order of the first time
	known       map[uuid.UUID]bool
	repetitions int
}

func newMessageFollower(thread uuid.UUID) *messageFollower {
	return &messageFollower{thread: thread, known: map[uuid.UUID]bool{}}
}

func (f *messageFollower) state() int { return 1 } // there is none, but it begins where it is heard of

func (f *messageFollower) query() string {
	return `subscription ($after: String) { messageAdded(threadId: "` + threadID(f.thread) + `", after: $after) { message { databaseId } snapshot cursor } }`
}

func (f *messageFollower) hear(data []byte, after string) (string, error) {
	var told struct {
		MessageAdded *struct {
			Message  *struct{ DatabaseID uuid.UUID }
			Snapshot bool
			Cursor   string
		}
	}
	if err := json.Unmarshal(data, &told); err != nil {
		return "", fmt.Errorf("read an event: %w", err)
	}
	e := told.MessageAdded
	switch {
	case e == nil:
		return "", fmt.Errorf("a response without data: %s", data)
	case e.Snapshot:
		return "", fmt.Errorf("the latest message instead of what followed %q", after)
	case e.Message == nil:
		return "", nil
	case f.known[e.Message.DatabaseID]:
		f.repetitions++
	default:
		f.known[e.Message.DatabaseID] = true
		f.received = append(f.received, e.Message.DatabaseID)
	}
	return e.Cursor, nil
}

func (f *messageFollower) complete(ctx context.Context, conn *pgx.Conn, _ int) (bool, error) {
	rows, err := conn.Query(ctx, `SELECT id FROM messages WHERE thread_id = $1 AND role <> 'system'`, f.thread)
	if err != nil {
		return false, err
	}
	said, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return false, err
	}
	for _, id := range said {
		if !f.known[id] {
			return false, nil
		}
	}
	return true, nil
}

// check compares the order: messages of one transaction come in the order in which they were said, and so do all of one writer, whose transactions
// follow each other, unless they were dated back.
func (f *messageFollower) check(s *soak) error {
	conn := s.connect(s.t.Context())
	defer conn.Close(context.Background())
	rows, err := conn.Query(s.t.Context(), `
		SELECT id, xid::text, CASE role WHEN 'tool' THEN '' ELSE content END, row_number() OVER (ORDER BY created_at, id) FROM messages WHERE thread_id = $1`, f.thread)
	if err != nil {
		return err
	}
	type message struct {
		transaction, writer string
		place               int
	}
	said := map[uuid.UUID]message{}
	var id uuid.UUID
	var m message
	if _, err := pgx.ForEachRow(rows, []any{&id, &m.transaction, &m.writer, &m.place}, func() error {
		said[id] = m
		return nil
	}); err != nil {
		return err
	}
	last := map[string]int{}
	for i, id := range f.received {
		m, ok := said[id]
		if !ok {
			return fmt.Errorf("the message %s was never said", id)
		}
		for _, sequence := range []string{"transaction " + m.transaction, m.writer} {
			if sequence == "" {
				continue
			}
			if last[sequence] > m.place {
				return fmt.Errorf("the %d. message that was received, of transaction %s by %q, came after a later one of %s", i+1, m.transaction, m.writer, sequence)
			}
			last[sequence] = m.place
		}
	}
	return nil
}

func (f *messageFollower) count() (received, again int) { return len(f.received), f.repetitions }
