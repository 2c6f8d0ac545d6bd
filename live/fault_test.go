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
	perWriter = 10 // runs
	writers   = 4
)

// soak is a platform of real processes under faults: PostgreSQL, three replicas of the program, writers and clients that come back.
type soak struct {
	t        *testing.T
	dir      string
	netra    string
	db       *testdb.DB
	user     [2]int // the second has the burst's runs
	token    [2]string
	thread   uuid.UUID
	runs     [writers][]uuid.UUID
	address  [replicas]atomic.Value
	process  [replicas]*exec.Cmd
	commits  atomic.Int64
	faults   map[string]int
	finished atomic.Bool // no more changes: clients end when they have everything
}

// TestFaults is the promise of live status: whatever breaks, every client receives every change of what it watches, in order for each run,
// over any replica. It lasts NETRA_SOAK (25 s unless set).
func TestFaults(t *testing.T) {
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv("NETRA_SOAK"), "25s"))
	require.NoError(t, err)
	s := newSoak(t)
	var clients sync.WaitGroup
	var watchers []*watcher
	for i := range 12 {
		w := &watcher{soak: s, seen: map[string]int{}, begun: make(chan struct{}), random: rand.New(rand.NewPCG(uint64(i), 1))}
		switch i % 4 {
		case 0: // all of the tenant
		case 1:
			w.arguments = `threadId: "` + models.GlobalID{Kind: models.KindThread, Key: s.thread.String()}.String() + `"`
		case 2:
			w.run = s.runs[i%writers][0]
			w.arguments = `runId: "` + runID(w.run) + `"`
		case 3:
			w.tenant = 1
		}
		watchers = append(watchers, w)
		clients.Go(w.follow)
	}

	for _, w := range watchers {
		<-w.begun // from here on a client that does not know a run knows that it had its first status
	}
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

	var events, duplicates, connections int
	for _, w := range watchers {
		events, duplicates, connections = events+w.events, duplicates+w.duplicates, connections+w.connections
	}
	t.Logf("%d transactions; faults %v; %d clients over %d connections received %d changes, %d of them again", s.commits.Load(), s.faults, len(watchers), connections, events, duplicates)
	require.Positive(t, events)
}

func runID(id uuid.UUID) string {
	return models.GlobalID{Kind: models.KindRun, Key: id.String()}.String()
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
	scan(&s.thread, `INSERT INTO threads (user_id) VALUES ($1) RETURNING id`, s.user[0])
	for i := range s.runs {
		rows, err := conn.Query(t.Context(), `INSERT INTO runs (user_id, thread_id, input_data) SELECT $1, $2, '{}' FROM generate_series(1, $3) RETURNING id`, s.user[0], s.thread, perWriter)
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
	replica.Env = append(s.environment(), "NETRA_SPOOL_DIR="+filepath.Join(s.dir, "spool"+strconv.Itoa(i)))
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

const anyStep = `UPDATE runs SET status = (ARRAY['pending', 'processing', 'completed', 'failed', 'cancelled'])[1 + (version + 1) % 5] WHERE `

// write changes the writer's own runs in transactions of all kinds.
func (s *soak) write(ctx context.Context, writer int) {
	random := rand.New(rand.NewPCG(uint64(writer), 2))
	for ctx.Err() == nil {
		conn := s.connect(ctx)
		if conn == nil {
			return
		}
		for {
			if err := s.transact(ctx, conn, random, s.runs[writer]); err != nil {
				break // PostgreSQL went away, or it is over
			}
			s.commits.Add(1)
		}
		_ = conn.Close(context.Background()) // it is of no more use
	}
}

func (s *soak) transact(ctx context.Context, conn *pgx.Conn, random *rand.Rand, runs []uuid.UUID) error {
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
		if _, err := tx.Exec(ctx, anyStep+`id = $1`, runs[random.IntN(len(runs))]); err != nil {
			return err
		}
		pause(ctx, time.Duration(random.IntN(20))*time.Millisecond)
	}
	switch random.IntN(40) {
	case 0:
		pause(ctx, time.Duration(2+random.IntN(8))*time.Second) // stays open for long
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
			s.asOwner(ctx, `DO $$ BEGIN EXECUTE replace(pg_get_functiondef('record_run_event'::regproc), 'PERFORM pg_notify(''run_events'', '''');', ''); END $$`)
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
	random    *rand.Rand
	tenant    int
	run       uuid.UUID
	arguments string
	cursor    string
	seen      map[string]int // version by run
	begun     chan struct{}  // closed with the first event

	events, duplicates, connections int
}

func (w *watcher) follow() {
	var finished time.Time
	for {
		if w.finished.Load() {
			if w.complete() {
				return
			}
			if finished.IsZero() {
				finished = time.Now()
			}
			if time.Since(finished) > time.Minute {
				w.t.Errorf("%q did not receive everything", w.arguments)
				return
			}
		}
		if err := w.connectAndRead(); err != nil {
			w.t.Error(err)
			return
		}
	}
}

// complete compares what was received with the log.
func (w *watcher) complete() bool {
	conn := w.soak.connect(w.t.Context())
	defer conn.Close(context.Background())
	rows, err := conn.Query(w.t.Context(), `SELECT run_id, max(version), count(*) FROM run_events WHERE user_id = $1 GROUP BY run_id`, w.user[w.tenant])
	if err != nil {
		w.t.Error(err)
		return true
	}
	complete := true
	for rows.Next() {
		var id uuid.UUID
		var version, count int
		if err := rows.Scan(&id, &version, &count); err != nil {
			w.t.Error(err)
		}
		if count != version {
			w.t.Errorf("the log of %s has %d of %d versions", id, count, version)
		}
		if w.run != uuid.Nil && w.run != id {
			continue
		}
		last := cmp.Or(w.seen[runID(id)], 1)
		if last > version {
			w.t.Errorf("%s was told of version %d of %s, which has %d", w.arguments, last, id, version)
		}
		complete = complete && last == version
	}
	return complete
}

type frame struct {
	Type    string
	Payload json.RawMessage
}

type told struct {
	Data struct {
		RunStatusChanged *struct {
			Run      *struct{ ID string }
			Version  int
			Snapshot bool
			Cursor   string
		}
	}
	Errors     []struct{ Message string }
	Extensions struct{ Code string }
}

// connectAndRead reads until the connection breaks or it has been quiet. Its errors are broken promises.
func (w *watcher) connectAndRead() error {
	address, _ := w.address[w.random.IntN(replicas)].Load().(string)
	conn, _, err := (&websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}, HandshakeTimeout: 5 * time.Second}).Dial("ws://"+address+"/graphql", nil)
	if err != nil {
		time.Sleep(50 * time.Millisecond)
		return nil
	}
	defer conn.Close()
	w.connections++
	arguments := w.arguments
	if w.cursor != "" {
		arguments += fmt.Sprintf(" after: %q", w.cursor)
	}
	if arguments != "" {
		arguments = "(" + arguments + ")"
	}
	_ = conn.WriteJSON(map[string]any{"type": "connection_init", "payload": map[string]any{"authorization": "Bearer " + w.token[w.tenant]}})
	var ack frame
	if conn.SetReadDeadline(time.Now().Add(10*time.Second)) != nil || conn.ReadJSON(&ack) != nil || ack.Type != "connection_ack" {
		time.Sleep(50 * time.Millisecond)
		return nil
	}
	_ = conn.WriteJSON(map[string]any{"id": "1", "type": "subscribe", "payload": map[string]any{
		"query": `subscription { runStatusChanged` + arguments + ` { run { id } version snapshot cursor } }`}})
	resumed := w.cursor != ""
	leaves := time.Now().Add(time.Duration(1+w.random.IntN(15)) * time.Second)
	for time.Now().Before(leaves) {
		var f frame
		if conn.SetReadDeadline(time.Now().Add(3*time.Second)) != nil || conn.ReadJSON(&f) != nil {
			return nil
		}
		if f.Type == "error" {
			return fmt.Errorf("the subscription was refused: %s", f.Payload)
		}
		if f.Type != "next" {
			continue
		}
		var t told
		if err := json.Unmarshal(f.Payload, &t); err != nil {
			return fmt.Errorf("read a frame: %w", err)
		}
		e := t.Data.RunStatusChanged
		switch {
		case t.Extensions.Code != "":
			return fmt.Errorf("a cursor %q was answered with %s", w.cursor, t.Extensions.Code)
		case e == nil:
			return fmt.Errorf("a frame without data: %s", f.Payload)
		case e.Run == nil: // PostgreSQL was away for this read; the change is to come again
			return nil
		case e.Snapshot && resumed && e.Version > cmp.Or(w.seen[e.Run.ID], 1):
			return fmt.Errorf("a state instead of what followed %q", w.cursor)
		}
		if len(w.seen) == 0 {
			close(w.begun)
		}
		last := cmp.Or(w.seen[e.Run.ID], 1)
		switch {
		case e.Snapshot:
			w.seen[e.Run.ID] = max(last, e.Version)
		case e.Version == last+1:
			w.seen[e.Run.ID] = e.Version
			w.events++
		case e.Version <= last:
			w.duplicates++
		default:
			return fmt.Errorf("%s: version %d of %s came after %d, from %q", arguments, e.Version, e.Run.ID, last, w.cursor)
		}
		w.cursor = e.Cursor
	}
	return nil
}
