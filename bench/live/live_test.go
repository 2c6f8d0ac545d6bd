// Package live_test measures how long after an UPDATE is sent to PostgreSQL the change is on the sockets of those who watch the run: through the
// real binary, with 100 sockets open.
package live_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/bench/socket"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

const (
	sockets  = 100
	users    = 20
	promised = 100 * time.Millisecond // p99, from the UPDATE to the frame
	patience = 30 * time.Second

	// What an open page asks for: each event reads its run again under the viewer's rights.
	watch = `subscription ($run: ID) { runStatusChanged(runId: $run) { run { id status version } previousStatus status version at snapshot } }`
	step  = `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1 RETURNING version`
)

// BenchmarkUpdateToFrame times every frame from the moment before its UPDATE is sent, so that the statement and its commit are part of it.
func BenchmarkUpdateToFrame(b *testing.B) {
	fmt.Printf("\n%-52s %8s %8s %9s %9s %9s\n", "UPDATE to frame, 100 sockets", "updates", "frames", "p50", "p99", "max")
	b.Run("OwnRun", func(b *testing.B) {
		p := start(b)
		p.open(b, func(i int) *uuid.UUID { return &p.runs[i] })
		p.report(b, "each socket on its own run, one UPDATE at a time", 500, p.inTurn(b, 500, 1))
	})
	b.Run("OwnRunSteady", func(b *testing.B) {
		p := start(b)
		p.open(b, func(i int) *uuid.UUID { return &p.runs[i] })
		p.report(b, "each socket on its own run, 100 UPDATEs a second", 1000, p.steadily(b, 1000, 100))
	})
	b.Run("OneForAll", func(b *testing.B) {
		p := start(b)
		p.open(b, func(int) *uuid.UUID { return nil })
		p.report(b, "all sockets on one tenant, one UPDATE at a time", 100, p.inTurn(b, 100, sockets))
	})
}

// platform is the binary at work, some users and a run of the first for each of 100 sockets.
type platform struct {
	*replica
	databases *testdb.DB
	db        *pgxpool.Pool
	users     []int
	tokens    []string    // of each user
	runs      []uuid.UUID // of the first
	arrived   chan arrival
}

// replica is one process of the binary.
type replica struct {
	address string
	pid     int
	process *os.Process
	ended   chan error // how it ended
}

type arrival struct {
	run     string
	version int
	at      time.Time
}

func start(b *testing.B) *platform {
	b.Helper()
	p := &platform{databases: testdb.New(b), arrived: make(chan arrival, 100_000)}
	var err error
	p.db, err = pgxpool.New(b.Context(), p.databases.OwnerURL)
	require.NoError(b, err)
	b.Cleanup(p.db.Close)
	rows, err := p.db.Query(b.Context(), `INSERT INTO users (email) SELECT 'user' || i || '@example.com' FROM generate_series(1, $1) AS i RETURNING id`, users)
	require.NoError(b, err)
	p.users, err = pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(b, err)
	p.runs = p.newRuns(b, p.users[0], sockets)

	for _, user := range p.users {
		token, err := server.NewToken([]byte(secret), user, time.Hour)
		require.NoError(b, err)
		p.tokens = append(p.tokens, token)
	}
	p.replica = p.serve(b)
	return p
}

var secret = strings.Repeat("s", server.MinSecret)

// serve begins another replica on the same databases. It is told to end with the benchmark, unless it has ended before.
func (p *platform) serve(b *testing.B) *replica {
	b.Helper()
	command := exec.Command(cmp.Or(os.Getenv("NETRA_BIN"), "../../bin/netra"), "serve", "--addr", "127.0.0.1:0")
	command.Env = append(os.Environ(), "NETRA_SECRET="+secret, "NETRA_DATABASE_URL="+p.databases.AppURL, "NETRA_CLICKHOUSE_URL="+p.databases.ClickHouseURL, "NETRA_DATA_DIR="+b.TempDir())
	out, err := command.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, command.Start(), "run `make build` first")
	r := &replica{pid: command.Process.Pid, process: command.Process, ended: make(chan error, 1)}
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	_, r.address, _ = strings.Cut(strings.TrimSpace(line), "http://")
	over := make(chan struct{})
	go func() {
		r.ended <- command.Wait()
		close(over)
	}()
	b.Cleanup(func() {
		if r.process.Signal(os.Interrupt) == nil {
			<-over
			require.NoError(b, <-r.ended)
		}
	})
	return r
}

func (p *platform) newRuns(b *testing.B, user, n int) []uuid.UUID {
	b.Helper()
	rows, err := p.db.Query(b.Context(), `INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, $2) RETURNING id`, user, n)
	require.NoError(b, err)
	runs, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(b, err)
	return runs
}

// open connects the sockets, each subscribed to one run or to all, and returns when every subscription is known to hear.
func (p *platform) open(b *testing.B, watched func(i int) *uuid.UUID) {
	b.Helper()
	for i := range sockets {
		conn, err := socket.Open(b.Context(), p.address, p.tokens[0])
		require.NoError(b, err)
		b.Cleanup(func() { _ = conn.Close() })
		variables := map[string]any{}
		if run := watched(i); run != nil {
			variables["run"] = models.GlobalID{Kind: models.KindRun, Key: run.String()}.String()
		}
		require.NoError(b, socket.Subscribe(conn, "1", watch, variables))
		go p.listen(conn)
	}
	deadline := time.Now().Add(patience)
	for heard := map[string]int{}; len(heard) < sockets || slices.ContainsFunc(p.runs, func(run uuid.UUID) bool { return heard[key(run)] == 0 }); {
		require.True(b, time.Now().Before(deadline), "not every subscription hears")
		for _, run := range p.runs {
			p.update(b, run)
		}
		for quiet := false; !quiet; {
			select {
			case a := <-p.arrived:
				heard[a.run]++
			case <-time.After(time.Second):
				quiet = true
			}
		}
	}
}

// subscribe watches one run.
func subscribe(conn *websocket.Conn, id, run string) error {
	return socket.Subscribe(conn, id, watch, map[string]any{"run": run})
}

func key(run uuid.UUID) string {
	return models.GlobalID{Kind: models.KindRun, Key: run.String()}.String()
}

func (p *platform) listen(conn *websocket.Conn) {
	for {
		_, data, err := conn.ReadMessage()
		at := time.Now()
		if err != nil {
			return
		}
		var message struct {
			Payload struct {
				Data struct {
					RunStatusChanged struct {
						Run      struct{ ID string }
						Version  int
						Snapshot bool
					}
				}
			}
		}
		if json.Unmarshal(data, &message) == nil && !message.Payload.Data.RunStatusChanged.Snapshot {
			change := message.Payload.Data.RunStatusChanged
			p.arrived <- arrival{change.Run.ID, change.Version, at}
		}
	}
}

func (p *platform) update(b *testing.B, run uuid.UUID) (version int) {
	b.Helper()
	require.NoError(b, p.db.QueryRow(b.Context(), step, run).Scan(&version))
	return version
}

func (p *platform) next(b *testing.B) arrival {
	b.Helper()
	select {
	case a := <-p.arrived:
		return a
	case <-time.After(patience):
		require.FailNow(b, "a change did not arrive")
		return arrival{}
	}
}

// inTurn makes an UPDATE when all frames of the last have come.
func (p *platform) inTurn(b *testing.B, updates, frames int) []time.Duration {
	b.Helper()
	var times []time.Duration
	for i := range updates {
		run := p.runs[i%len(p.runs)]
		began := time.Now()
		version := p.update(b, run)
		for range frames {
			a := p.next(b)
			require.Equal(b, arrival{key(run), version, a.at}, a)
			times = append(times, a.at.Sub(began))
		}
	}
	return times
}

// steadily makes so many UPDATEs a second, whatever has come.
func (p *platform) steadily(b *testing.B, updates, rate int) []time.Duration {
	b.Helper()
	type change struct {
		run     string
		version int
	}
	var mu sync.Mutex
	began := map[change]time.Time{}
	var writers sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for i := range updates {
		<-tick.C
		run := p.runs[i%len(p.runs)]
		writers.Go(func() {
			at := time.Now()
			var version int
			if err := p.db.QueryRow(context.Background(), step, run).Scan(&version); err != nil {
				b.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			began[change{key(run), version}] = at
		})
	}
	writers.Wait()
	var times []time.Duration
	for range updates {
		a := p.next(b)
		times = append(times, a.at.Sub(began[change{a.run, a.version}]))
	}
	return times
}

func (p *platform) report(b *testing.B, what string, updates int, times []time.Duration) {
	b.Helper()
	p.reportWithin(b, what, updates, times, promised)
}

func (p *platform) reportWithin(b *testing.B, what string, updates int, times []time.Duration, promised time.Duration) {
	b.Helper()
	slices.Sort(times)
	p50, p99, longest := times[len(times)/2], times[len(times)*99/100], times[len(times)-1]
	fmt.Printf("%-52s %8d %8d %9s %9s %9s\n", what, updates, len(times), round(p50), round(p99), round(longest))
	b.ReportMetric(0, "ns/op") // of no meaning here
	b.ReportMetric(float64(p50.Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(p99.Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(longest.Microseconds())/1000, "max-ms")
	if p99 > promised {
		b.Errorf("p99 is %s; %s is promised", round(p99), promised)
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
