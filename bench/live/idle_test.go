package live_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/bench/proc"
	"github.com/netra-ai/netra/bench/socket"
)

const (
	manySockets    = 10_000
	promisedMemory = 30 << 10 // bytes resident for each socket beyond the empty server
	promisedLatest = 250 * time.Millisecond
	changesASecond = 1000
	changesATime   = 10 // of as many users, in one UPDATE
	lasts          = 20 * time.Second
	oneRunSockets  = 400 // a user may have 1,000
)

// BenchmarkManySockets is one replica with 10,000 sockets, each subscribed to a run of its own: what they cost at rest, how late changes are
// at 1,000 a second, of ten users at a time, and what one change costs the database that many watch.
func BenchmarkManySockets(b *testing.B) {
	allowFiles(b, manySockets)
	p := start(b)
	p.drainArrivals()
	runs := make([]uuid.UUID, manySockets) // the i-th is of user i modulo users
	for u, user := range p.users {
		for i, run := range p.newRuns(b, user, manySockets/users) {
			runs[i*users+u] = run
		}
	}
	empty := p.resident(b)

	var mu sync.Mutex
	sent := map[string]time.Time{} // by run and version, of which the first is 1
	var heard, begun atomic.Int64
	var late []time.Duration
	onFrame := func(data []byte) {
		at := time.Now()
		var message struct {
			Payload struct {
				Data struct {
					RunStatusChanged *struct {
						Run      struct{ ID string }
						Version  int
						Snapshot bool
					}
				}
			}
		}
		if json.Unmarshal(data, &message) != nil || message.Payload.Data.RunStatusChanged == nil {
			return
		}
		change := message.Payload.Data.RunStatusChanged
		if change.Snapshot {
			begun.Add(1)
			return
		}
		heard.Add(1)
		mu.Lock()
		defer mu.Unlock()
		if began, ok := sent[change.Run.ID+"/"+strconv.Itoa(change.Version)]; ok {
			late = append(late, at.Sub(began))
		}
	}
	var opening sync.WaitGroup
	for worker := range 16 {
		opening.Go(func() {
			for i := worker; i < manySockets; i += 16 {
				if err := p.socket(b, p.tokens[i%users], key(runs[i]), onFrame); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	opening.Wait()
	require.Eventually(b, func() bool { return begun.Load() == manySockets }, time.Minute, 50*time.Millisecond)
	time.Sleep(5 * time.Second) // what opening left behind is collected
	rest := p.resident(b)

	tick := time.NewTicker(time.Second * changesATime / changesASecond)
	defer tick.Stop()
	var busy sync.WaitGroup
	changes, spent, began := 0, p.cpu(b), time.Now()
	for ; changes < changesASecond*int(lasts.Seconds()); changes += changesATime {
		<-tick.C
		first := changes % len(runs)
		changed := runs[first : first+changesATime]
		mu.Lock()
		for _, run := range changed {
			sent[key(run)+"/"+strconv.Itoa(2+changes/len(runs))] = time.Now()
		}
		mu.Unlock()
		busy.Go(func() {
			if _, err := p.db.Exec(b.Context(), `UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = ANY ($1)`, changed); err != nil {
				b.Error(err)
			}
		})
	}
	busy.Wait()
	rate := float64(changes) / time.Since(began).Seconds()
	require.Eventually(b, func() bool { return heard.Load() >= int64(changes) }, time.Minute, 20*time.Millisecond)
	after := p.resident(b)
	spent = p.cpu(b) - spent
	mu.Lock()
	times := late
	mu.Unlock()
	perSocket, perUsed := (rest-empty)/manySockets, (after-empty)/manySockets
	fmt.Printf("%-52s %8d KB resident each at rest, %d KB after %d changes\n", "10,000 sockets", perSocket>>10, perUsed>>10, changes)
	fmt.Printf("%-52s %8s of the replica's CPU for each change\n", "", round(spent/time.Duration(changes)))
	b.ReportMetric(float64(perSocket), "B/socket")
	p.reportWithin(b, "10,000 sockets, each on its run, 1,000 changes/s", changes, times, promisedLatest)
	require.Len(b, times, changes, "each change was heard once")
	if rate < 0.95*changesASecond {
		b.Errorf("PostgreSQL took %.0f changes a second; %d were to be made", rate, changesASecond)
	}
	if perSocket > promisedMemory {
		b.Errorf("%d KB a socket; %d are promised", perSocket>>10, promisedMemory>>10)
	}

	// One run that many watch.
	for range oneRunSockets {
		require.NoError(b, p.socket(b, p.tokens[0], key(runs[0]), onFrame))
	}
	require.Eventually(b, func() bool { return begun.Load() == manySockets+oneRunSockets }, time.Minute, 50*time.Millisecond)
	const reads = `SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND query LIKE 'SELECT id, thread_id, user_id, status%FROM runs WHERE id = ANY%'`
	var before, since int
	require.NoError(b, p.db.QueryRow(b.Context(), reads).Scan(&before))
	from := heard.Load()
	p.update(b, runs[0])
	require.Eventually(b, func() bool { return heard.Load() == from+1+oneRunSockets }, time.Minute, 5*time.Millisecond)
	require.NoError(b, p.db.QueryRow(b.Context(), reads).Scan(&since))
	fmt.Printf("%-52s %8d reads of the run\n", fmt.Sprintf("1 change of a run that %d sockets watch", oneRunSockets+1), since-before)
	b.ReportMetric(float64(since-before), "reads/change")
	if since-before > 1 {
		b.Errorf("%d reads of the run; 1 is promised", since-before)
	}
}

// allowFiles skips the benchmark where so many sockets cannot be open.
func allowFiles(b *testing.B, sockets int) {
	b.Helper()
	var limit syscall.Rlimit
	require.NoError(b, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = limit.Max
	require.NoError(b, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur < uint64(sockets+1000) {
		b.Skipf("%d files may be open; %d are needed", limit.Cur, sockets+1000)
	}
}

func (p *platform) drainArrivals() {
	go func() {
		for range p.arrived {
		}
	}()
}

// socket opens a socket with one subscription and hands its frames on.
func (p *platform) socket(b *testing.B, token, run string, onFrame func([]byte)) error {
	conn, err := socket.Open(b.Context(), p.address, token)
	if err != nil {
		return err
	}
	b.Cleanup(func() { _ = conn.Close() })
	if err := subscribe(conn, "1", run); err != nil {
		return err
	}
	go func() {
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				return
			}
			onFrame(data)
		}
	}()
	return nil
}

// cpu is how much time the replica's threads have run.
func (r *replica) cpu(b *testing.B) time.Duration {
	b.Helper()
	spent, err := proc.CPU(r.pid)
	require.NoError(b, err, "the time of a process is only known on Linux")
	return spent
}

// resident is how much memory the replica holds, in bytes.
func (r *replica) resident(b *testing.B) int {
	b.Helper()
	kilobytes, err := proc.Status(r.pid, "VmRSS")
	require.NoError(b, err, "the memory of a process is only known on Linux")
	return kilobytes << 10
}
