package live_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/bench/socket"
)

const (
	crowdSockets = 1000

	promisedStall = 1.2             // p99 of the others while one client is stalled, by p99 without it
	promisedEnd   = 5 * time.Second // of a stalled client, from when it is full
	grace         = 10 * time.Second
	promisedBack  = time.Minute // until a herd is back, where clients, replica and engines share two cores
)

// member is one of many clients. It reads all the time.
type member struct {
	i    int
	conn *websocket.Conn
	err  error // how it ended; for whoever has heard that it did
}

// crowd opens sockets of all users at a replica, each subscribed to its user's run, and returns when each has heard its state. Then and
// afterwards hear gets what comes, and end is called once for each.
func (p *platform) crowd(b *testing.B, r *replica, runs []uuid.UUID, n int, hear func(*member, []byte), end func(*member)) []*member {
	b.Helper()
	members := make([]*member, n)
	var begun atomic.Int64
	var opening sync.WaitGroup
	for worker := range 16 {
		opening.Go(func() {
			for i := worker; i < n; i += 16 {
				m := &member{i: i}
				members[i] = m
				if m.conn, m.err = socket.Open(b.Context(), r.address, p.tokens[i%users]); m.err == nil {
					m.err = subscribe(m.conn, "1", key(runs[i%users]))
				}
				if m.err != nil {
					b.Error(m.err)
					return
				}
				go func() {
					for first := true; ; first = false {
						var data []byte
						if _, data, m.err = m.conn.ReadMessage(); m.err != nil {
							end(m)
							return
						}
						if first {
							begun.Add(1)
						}
						hear(m, data)
					}
				}()
			}
		})
	}
	opening.Wait()
	b.Cleanup(func() {
		for _, m := range members {
			if m != nil && m.conn != nil {
				_ = m.conn.Close()
			}
		}
	})
	require.Eventually(b, func() bool { return begun.Load() == int64(n) }, time.Minute, 20*time.Millisecond)
	return members
}

func (p *platform) runOfEach(b *testing.B) []uuid.UUID {
	b.Helper()
	var runs []uuid.UUID
	for _, user := range p.users {
		runs = append(runs, p.newRuns(b, user, 1)...)
	}
	return runs
}

// metric reads one number of /metrics.
func (r *replica) metric(b *testing.B, name string) int {
	b.Helper()
	response, err := http.Get("http://" + r.address + "/metrics")
	require.NoError(b, err)
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			require.NoError(b, err)
			return int(number)
		}
	}
	require.FailNow(b, "no metric "+name)
	return 0
}

type changed struct {
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

// BenchmarkStalledClient compares how late changes are for 1,000 clients while another one, of the same user as some of them, takes nothing.
func BenchmarkStalledClient(b *testing.B) {
	const (
		pairs  = 11
		paced  = 25 * time.Millisecond
		steps  = 80
		fill   = 30 // changes, of each of which the stalled client is told a hundred times
		inFull = crowdSockets / users
	)
	p := start(b)
	p.drainArrivals()
	runs := p.runOfEach(b)
	var mu sync.Mutex
	sent := map[string]time.Time{}
	var late []time.Duration
	var heard atomic.Int64
	p.crowd(b, p.replica, runs, crowdSockets, func(_ *member, data []byte) {
		at := time.Now()
		var message changed
		if json.Unmarshal(data, &message) != nil || message.Payload.Data.RunStatusChanged == nil || message.Payload.Data.RunStatusChanged.Snapshot {
			return
		}
		change := message.Payload.Data.RunStatusChanged
		mu.Lock()
		late = append(late, at.Sub(sent[change.Run.ID+"/"+strconv.Itoa(change.Version)]))
		mu.Unlock()
		heard.Add(1)
	}, func(*member) {})

	versions := make([]int, users)
	for i := range versions {
		versions[i] = 1
	}
	change := func(i int) {
		versions[i]++
		mu.Lock()
		sent[key(runs[i])+"/"+strconv.Itoa(versions[i])] = time.Now()
		mu.Unlock()
		require.Equal(b, versions[i], p.update(b, runs[i]))
	}
	var due int64
	allHeard := func() {
		require.Eventually(b, func() bool { return heard.Load() == due }, patience, time.Millisecond)
	}
	measure := func() time.Duration {
		mu.Lock()
		late = nil
		mu.Unlock()
		tick := time.NewTicker(paced)
		defer tick.Stop()
		for i := range steps {
			change(i % users)
			due += inFull
			<-tick.C
		}
		allHeard()
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(late)
		return late[len(late)*99/100]
	}
	fillAll := func() {
		for range fill {
			change(0)
			due += inFull
		}
		allHeard()
	}
	measure() // what the first frames need is there

	var without, with []time.Duration
	var ends []time.Duration
	for range pairs {
		fillAll() // the same work
		without = append(without, measure())

		stalled := p.stalled(b, p.tokens[0], key(runs[0]))
		began := time.Now()
		fillAll()
		with = append(with, measure())
		require.Eventually(b, func() bool { return p.metric(b, "netra_streams") == crowdSockets }, patience, 20*time.Millisecond)
		ends = append(ends, time.Since(began))
		_ = stalled.Close()
	}
	slices.Sort(without)
	slices.Sort(with)
	slices.Sort(ends)
	ratio := float64(with[pairs/2]) / float64(without[pairs/2])
	fmt.Printf("%-52s %9s p99 without it, %s with it: %.2f times; it was cut off after %s at most\n", "1,000 clients and one that is stalled",
		round(without[pairs/2]), round(with[pairs/2]), ratio, ends[pairs-1].Round(10*time.Millisecond))
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ratio, "with/without")
	if ratio > promisedStall {
		b.Errorf("a stalled client makes the others %.2f times as late; %.1f are promised", ratio, promisedStall)
	}
	if ends[pairs-1] > promisedEnd {
		b.Errorf("a stalled client was cut off after %s; %s are promised", ends[pairs-1], promisedEnd)
	}
}

// stalled is a client who asks for the same a hundred times and reads none of it.
func (p *platform) stalled(b *testing.B, token, run string) *websocket.Conn {
	b.Helper()
	conn, err := socket.Open(b.Context(), p.address, token)
	require.NoError(b, err)
	require.NoError(b, conn.NetConn().(*net.TCPConn).SetReadBuffer(4096))
	for i := range 100 {
		require.NoError(b, subscribe(conn, strconv.Itoa(i), run))
	}
	return conn
}

// BenchmarkCycles is 1,000 times connect, subscribe and be killed: nothing may stay behind.
func BenchmarkCycles(b *testing.B) {
	const cycles = 1000
	p := start(b)
	p.drainArrivals()
	run := key(p.runs[0])
	all := func() {
		var busy sync.WaitGroup
		for range 8 {
			busy.Go(func() {
				for range cycles / 8 {
					conn, err := socket.Open(b.Context(), p.address, p.tokens[0])
					if err == nil {
						err = subscribe(conn, "1", run)
					}
					if err == nil {
						_, _, err = conn.ReadMessage()
					}
					if err != nil {
						b.Error(err)
						return
					}
					_ = conn.NetConn().(*net.TCPConn).SetLinger(0) // as a client that is killed leaves
					_ = conn.NetConn().Close()
				}
			})
		}
		busy.Wait()
		require.Eventually(b, func() bool { return p.metric(b, "netra_streams") == 0 }, patience, 50*time.Millisecond)
		http.DefaultClient.CloseIdleConnections()
		time.Sleep(3 * time.Second) // what was under way ends
	}
	for range 4 { // what is kept for the next client is there, and the heap has the size at which it is collected
		all()
	}
	goroutines, memory := p.metric(b, "go_goroutines"), p.resident(b)
	all()
	moreGoroutines, moreMemory := p.metric(b, "go_goroutines")-goroutines, p.resident(b)-memory
	fmt.Printf("%-52s %8d goroutines and %d KB more than after the 4,000 before\n", "1,000 cycles of connect, subscribe, kill", moreGoroutines, moreMemory>>10)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(moreGoroutines), "goroutines")
	if moreGoroutines > 10 || moreMemory > memory/10 {
		b.Errorf("%d goroutines and %d KB stay behind, of %d and %d", moreGoroutines, moreMemory>>10, goroutines, memory>>10)
	}
}

// BenchmarkIdle counts what a replica asks PostgreSQL while nothing happens: with nobody there, with one idle client, and with 1,000.
func BenchmarkIdle(b *testing.B) {
	const window = 5 * time.Second
	p := start(b)
	p.drainArrivals()
	statements := func() (calls int, looking float64) {
		require.NoError(b, p.db.QueryRow(b.Context(), `
			SELECT sum(calls), coalesce(sum(total_exec_time) FILTER (WHERE query LIKE '%AS fresh%') / sum(calls) FILTER (WHERE query LIKE '%AS fresh%'), 0)
			FROM pg_stat_statements WHERE userid = 'netra_app'::regrole AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&calls, &looking))
		return calls, looking
	}
	aSecond := func() float64 {
		time.Sleep(2 * time.Second) // what opening asked for is over
		before, _ := statements()
		time.Sleep(window)
		after, _ := statements()
		return float64(after-before) / window.Seconds()
	}
	nobody := aSecond()
	runs := p.runOfEach(b)
	p.crowd(b, p.replica, runs, 1, func(*member, []byte) {}, func(*member) {})
	one := aSecond()
	p.crowd(b, p.replica, runs, crowdSockets-1, func(*member, []byte) {}, func(*member) {})
	many := aSecond()
	_, looking := statements()
	fmt.Printf("%-52s %8.1f statements a second with no client, %.1f with one, %.1f with 1,000; a look at the logs takes %.2f ms\n", "idle", nobody, one, many, looking)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(many, "statements/s")
	if nobody > 2 || many > one+1 {
		b.Errorf("%.1f, %.1f and %.1f statements a second", nobody, one, many)
	}
}

// BenchmarkDrain tells a replica with many sockets to end, while a hundred others ask one query after the other.
func BenchmarkDrain(b *testing.B) {
	for _, n := range []int{2_000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			allowFiles(b, n)
			p := start(b)
			p.drainArrivals()
			ends := make(chan closing, n)
			p.crowd(b, p.replica, p.runOfEach(b), n, func(*member, []byte) {}, func(m *member) { ends <- closing{time.Now(), m.err} })
			var asking sync.WaitGroup
			var answered atomic.Int64
			unanswered := make(chan time.Time, 100)
			for i := range 100 {
				conn, err := socket.Open(b.Context(), p.address, p.tokens[i%users])
				require.NoError(b, err)
				defer conn.Close()
				asking.Go(func() { ask(b, conn, &answered, unanswered) })
			}
			require.Eventually(b, func() bool { return answered.Load() > 1000 }, time.Minute, 10*time.Millisecond)
			began := time.Now()
			require.NoError(b, p.process.Signal(syscall.SIGTERM))
			require.NoError(b, <-p.ended)
			took := time.Since(began)
			asking.Wait()
			close(unanswered)
			lost := 0
			for sent := range unanswered {
				if sent.Before(began.Add(-100 * time.Millisecond)) { // it arrived before the signal
					lost++
				}
			}
			var at []time.Duration
			others := map[string]int{}
			for range n {
				end := <-ends
				var closed *websocket.CloseError
				if !errors.As(end.err, &closed) || closed.Code != websocket.CloseServiceRestart {
					others[end.err.Error()]++
				}
				at = append(at, end.at.Sub(began))
			}
			slices.Sort(at)
			fmt.Printf("%-52s %8d heard 1012 from %s to %s (a tenth by %s, nine tenths by %s), exit after %s; %d queries answered, %d lost\n", "SIGTERM with sockets", n-sum(others),
				at[0].Round(time.Millisecond), at[n-1].Round(time.Millisecond), at[n/10].Round(time.Millisecond), at[n*9/10].Round(time.Millisecond), took.Round(time.Millisecond), answered.Load(), lost)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(took.Seconds(), "s-to-exit")
			if len(others) > 0 {
				b.Errorf("some did not hear 1012: %v", others)
			}
			if took > grace+time.Second || at[n*9/10]-at[n/10] < grace/4 || lost > 0 {
				b.Errorf("exit after %s, nine tenths from %s to %s, %d queries lost", took, at[n/10], at[n*9/10], lost)
			}
		})
	}
}

type closing struct {
	at  time.Time
	err error
}

func sum(counts map[string]int) (total int) {
	for _, count := range counts {
		total += count
	}
	return total
}

// ask puts one query after the other until the socket ends, and says when the last was sent if it was not answered.
func ask(b *testing.B, conn *websocket.Conn, answered *atomic.Int64, unanswered chan<- time.Time) {
	for i := 0; ; i++ {
		sent := time.Now()
		err := conn.WriteJSON(map[string]any{"id": strconv.Itoa(i), "type": "subscribe", "payload": map[string]any{"query": `{ viewer { id } }`}})
		told := 0
		for ; err == nil && told < 2; told++ { // next and complete
			_, _, err = conn.ReadMessage()
		}
		if err == nil {
			answered.Add(1)
			continue
		}
		if told == 2 { // the answer was there, and then the end of the socket
			b.Error("a query was answered by half")
		}
		unanswered <- sent
		return
	}
}

// BenchmarkHerd kills one of two replicas under 10,000 clients, who come to the other one as the stock client does.
func BenchmarkHerd(b *testing.B) {
	allowFiles(b, manySockets)
	p := start(b)
	p.drainArrivals()
	other := p.serve(b)
	runs := p.runOfEach(b)
	var refused, crowded, most atomic.Int64
	back := make(chan time.Duration, manySockets)
	var began time.Time
	p.crowd(b, p.replica, runs, manySockets, func(*member, []byte) {}, func(m *member) {
		for retry := range 12 {
			time.Sleep(min(time.Second<<retry, 30*time.Second) + 300*time.Millisecond + rand.N(2700*time.Millisecond))
			conn, err := socket.Open(b.Context(), other.address, p.tokens[m.i%users])
			if err == nil {
				err = subscribe(conn, "1", key(runs[m.i%users]))
			}
			if err == nil {
				_, _, err = conn.ReadMessage()
			}
			if err == nil {
				m.conn = conn
				back <- time.Since(began)
				for n := most.Load(); n < int64(retry+1) && !most.CompareAndSwap(n, int64(retry+1)); n = most.Load() {
				}
				return
			}
			if b.Context().Err() != nil {
				return
			}
			refused.Add(1)
			if websocket.IsCloseError(err, websocket.CloseTryAgainLater) {
				crowded.Add(1)
			}
		}
		back <- 0
	})
	watching, stop := context.WithCancel(b.Context())
	defer stop()
	var connections atomic.Int64
	go func() {
		for watching.Err() == nil {
			var n int64
			if p.db.QueryRow(watching, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'netra' AND datname = current_database()`).Scan(&n) == nil {
				connections.Store(max(n, connections.Load()))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	connections.Store(0)
	began = time.Now()
	require.NoError(b, p.process.Kill())
	<-p.ended
	var times []time.Duration
	gone := 0
	for range manySockets {
		if at := <-back; at > 0 {
			times = append(times, at)
		} else {
			gone++
		}
	}
	slices.Sort(times)
	last := times[len(times)-1]
	fmt.Printf("%-52s %8d back on the other replica: half after %s, all after %s; %d attempts failed, %d of them with 1013, at most %d for one; at most %d connections to PostgreSQL\n", "kill -9 under 10,000 sockets", len(times),
		times[len(times)/2].Round(10*time.Millisecond), last.Round(10*time.Millisecond), refused.Load(), crowded.Load(), most.Load()-1, connections.Load())
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(last.Seconds(), "s-until-back")
	if gone > 0 || last > promisedBack {
		b.Errorf("%d did not come back, the last after %s; all within %s are promised", gone, last, promisedBack)
	}
}
