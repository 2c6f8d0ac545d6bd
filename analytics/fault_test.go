package analytics_test

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/embedded"
	"github.com/netra-ai/netra/models"
)

// TestMain lets this binary be the child that embedded.StartClickHouse calls.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "clickhouse-engine" {
		os.Exit(engineChild(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func engineChild(arguments []string) int {
	var cfg embedded.ClickHouseConfig
	flags := flag.NewFlagSet("clickhouse-engine", flag.ExitOnError)
	flags.StringVar(&cfg.Dir, "dir", "", "")
	flags.IntVar(&cfg.Port, "port", 0, "")
	flags.StringVar(&cfg.Library, "library", "", "")
	_ = flags.Parse(arguments)
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := embedded.ClickHouseChild(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

const (
	answering   = "SELECT 1"
	neverEnding = "SELECT sum(sleepEachRow(0.05)) FROM numbers(100000) SETTINGS max_block_size = 1"

	// recovery is how soon questions are answered again once ClickHouse is back.
	recovery = 30 * time.Second
	// patience is for what should take no time, on a machine with other things to do.
	patience = 20 * time.Second
)

// proxy stands between analytics and ClickHouse and can misbehave like a network.
type proxy struct {
	target, address string
	accepted        atomic.Int64

	mu       sync.Mutex
	listener net.Listener
	hole     bool // takes everything and passes nothing on
	cutAfter int  // bytes of answers, of each connection; 0 for never
	delay    time.Duration
	open     map[net.Conn]bool
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	p := &proxy{target: target, address: "127.0.0.1:0", open: map[net.Conn]bool{}}
	p.listen(t)
	t.Cleanup(p.refuse)
	return p
}

func (p *proxy) listen(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", p.address)
	require.NoError(t, err)
	p.mu.Lock()
	p.listener, p.address = listener, listener.Addr().String()
	p.mu.Unlock()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.accepted.Add(1)
			go p.serve(client)
		}
	}()
}

// refuse stops listening and breaks what is open.
func (p *proxy) refuse() {
	p.mu.Lock()
	_ = p.listener.Close()
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

// swallow makes the proxy a black hole, for connections that are open too.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hole = true
}

// behave passes everything on again. Connections from the hole stay lost.
func (p *proxy) behave() {
	p.mu.Lock()
	p.hole, p.cutAfter, p.delay = false, 0, 0
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.open[client], p.open[server] = true, true
	p.mu.Unlock()
	var copying sync.WaitGroup
	for _, way := range []struct {
		from, to net.Conn
		answers  bool
	}{{client, server, false}, {server, client, true}} {
		copying.Go(func() {
			p.pass(way.from, way.to, way.answers)
			_ = client.Close()
			_ = server.Close()
		})
	}
	copying.Wait()
	p.mu.Lock()
	delete(p.open, client)
	delete(p.open, server)
	p.mu.Unlock()
}

func (p *proxy) pass(from, to net.Conn, answers bool) {
	buffer := make([]byte, 16<<10)
	for passed := 0; ; {
		n, err := from.Read(buffer)
		p.mu.Lock()
		hole, cutAfter, delay := p.hole, p.cutAfter, p.delay
		p.mu.Unlock()
		<-time.After(delay)
		if !hole {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				return
			}
			passed += n
		}
		if err != nil || answers && cutAfter > 0 && passed > cutAfter {
			return
		}
	}
}

// faulty is an Analytics behind a proxy.
func faulty(t *testing.T, rawURL string, cfg analytics.Config) (*analytics.Analytics, *proxy) {
	t.Helper()
	address, err := url.Parse(rawURL)
	require.NoError(t, err)
	p := newProxy(t, address.Host)
	address.Host, address.Path = p.address, "/default"
	cfg.URL = address.String()
	a, err := analytics.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a, p
}

func engineURL(t *testing.T) string {
	t.Helper()
	rawURL := os.Getenv("NETRA_CLICKHOUSE_URL")
	require.NotEmpty(t, rawURL, "no engines: run `make test`, or export what `netra engines` prints")
	return rawURL
}

// requireAway asks, and requires a failure that blames ClickHouse, in time.
func requireAway(t *testing.T, a *analytics.Analytics, within time.Duration) {
	t.Helper()
	started := time.Now()
	err := a.Send(t.Context(), answering)
	require.Less(t, time.Since(started), within)
	require.Contains(t, []models.Code{models.AnalyticsUnavailable, models.Timeout}, models.CodeOf(err), "%v", err)
}

func requireRecovery(t *testing.T, a *analytics.Analytics) {
	t.Helper()
	require.Eventually(t, func() bool { return a.Send(t.Context(), answering) == nil }, recovery, 20*time.Millisecond, "no answer although ClickHouse is back")
}

func TestQuestionsFailWhileClickHouseRefuses(t *testing.T) {
	t.Parallel()
	a, proxy := faulty(t, engineURL(t), analytics.Config{Deadline: time.Minute})
	require.NoError(t, a.Send(t.Context(), answering))
	proxy.refuse()
	for range 10 {
		requireAway(t, a, patience)
	}
	proxy.listen(t)
	requireRecovery(t, a)
}

func TestQuestionsFailInTimeWhileClickHouseSwallowsThem(t *testing.T) {
	t.Parallel()
	const deadline = time.Second
	a, proxy := faulty(t, engineURL(t), analytics.Config{Deadline: deadline})
	require.Eventually(t, func() bool { return a.Send(t.Context(), answering) == nil }, recovery, 20*time.Millisecond)
	proxy.swallow()
	for range 3 {
		requireAway(t, a, deadline+patience)
	}
	before := proxy.accepted.Load()
	started := time.Now()
	for range 200 {
		requireAway(t, a, deadline+patience)
	}
	require.LessOrEqual(t, proxy.accepted.Load()-before, 1+int64(time.Since(started)/time.Second), "only probes go out, one a second")
	proxy.behave()
	requireRecovery(t, a)
}

func TestASlowNetworkIsWaitedForUntilTheDeadline(t *testing.T) {
	t.Parallel()
	const deadline = 2 * time.Second
	a, proxy := faulty(t, engineURL(t), analytics.Config{Deadline: deadline})
	slow := func(delay time.Duration) {
		proxy.mu.Lock()
		proxy.delay = delay
		proxy.mu.Unlock()
	}
	slow(50 * time.Millisecond)
	require.Eventually(t, func() bool { return a.Send(t.Context(), answering) == nil }, recovery, 20*time.Millisecond)
	slow(deadline)
	requireAway(t, a, deadline+patience)
	proxy.behave()
	requireRecovery(t, a)
}

func TestManyQuestionsAtOnceAreFewInClickHouse(t *testing.T) {
	t.Parallel()
	const deadline = 500 * time.Millisecond
	a, proxy := faulty(t, engineURL(t), analytics.Config{Deadline: deadline, Concurrency: 2})
	proxy.swallow()
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() { requireAway(t, a, deadline+patience) })
	}
	asking.Wait()
	require.Less(t, proxy.accepted.Load(), int64(10), "two, and who got a place in the last instant")
}

func TestWaitingForAPlaceEndsWithTheDeadline(t *testing.T) {
	t.Parallel()
	a, _ := faulty(t, engineURL(t), analytics.Config{Concurrency: 1})
	ctx, leave := context.WithCancel(t.Context())
	id := uuid.NewString()
	ended := make(chan error, 1)
	go func() { ended <- a.Send(ctx, neverEnding+" -- "+id) }()
	requireRunning(t, id, true)
	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(func() {
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			require.Equal(t, models.Timeout, models.CodeOf(a.Send(short, answering)))
		})
	}
	waiting.Wait()
	leave()
	require.ErrorIs(t, <-ended, context.Canceled)
	require.NoError(t, a.Send(t.Context(), answering), "the queue says nothing about ClickHouse")
}

func TestAClientThatLeavesEndsItsQuestion(t *testing.T) {
	t.Parallel()
	a, _ := faulty(t, engineURL(t), analytics.Config{})
	for range 4 {
		ctx, leave := context.WithCancel(t.Context())
		id := uuid.NewString()
		ended := make(chan error, 1)
		go func() { ended <- a.Send(ctx, neverEnding+" -- "+id) }()
		requireRunning(t, id, true)
		leave()
		require.ErrorIs(t, <-ended, context.Canceled)
		requireRunning(t, id, false)
	}
	require.NoError(t, a.Send(t.Context(), answering), "leaving says nothing about ClickHouse")
}

// requireRunning waits until a query with that text is in ClickHouse, or is not.
func requireRunning(t *testing.T, text string, running bool) {
	t.Helper()
	options, err := clickhouse.ParseDSN(engineURL(t))
	require.NoError(t, err)
	options.Auth.Database = "default"
	db := clickhouse.OpenDB(options)
	defer db.Close()
	require.Eventually(t, func() bool {
		var found int
		err := db.QueryRowContext(t.Context(), "SELECT count() FROM system.processes WHERE query LIKE ? AND query NOT LIKE '%system.processes%'", "%"+text+"%").Scan(&found)
		return err == nil && (found > 0) == running
	}, time.Minute, 20*time.Millisecond)
}

func TestAQuestionThatIsTooSlowEndsInClickHouse(t *testing.T) {
	t.Parallel()
	a, _ := faulty(t, engineURL(t), analytics.Config{Deadline: 3 * time.Second})
	id := uuid.NewString()
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() { require.Equal(t, models.Timeout, models.CodeOf(a.Send(t.Context(), neverEnding+" -- "+id))) })
	}
	asking.Wait()
	requireRunning(t, id, false)
	require.NoError(t, a.Send(t.Context(), answering), "slow questions say nothing about ClickHouse")
}

func TestWhatAQuestionDoesWrongIsItsOwn(t *testing.T) {
	t.Parallel()
	a, _ := faulty(t, engineURL(t), analytics.Config{Deadline: time.Minute})
	for text, code := range map[string]models.Code{
		"SELECT nonsense": models.Internal,
		"SELECT count() FROM numbers(2000000000) WHERE number % 3 = 1":                                           models.TooComplex,
		"SELECT number FROM numbers(2000000)":                                                                    models.TooComplex,
		"SELECT uniqExact(number) FROM numbers(10000000) SETTINGS max_memory_usage = 10000000":                   models.TooComplex,
		"SELECT sum(number) FROM numbers(10000000) SETTINGS max_bytes_to_read = 1000":                            models.TooComplex,
		"SELECT 1 WHERE 1 IN (SELECT number FROM numbers(1000)) SETTINGS max_rows_in_set = 10":                   models.TooComplex,
		"SELECT sum(sleepEachRow(0.05)) FROM numbers(100) SETTINGS max_block_size = 1, max_execution_time = 0.1": models.Timeout,
	} {
		for range 4 {
			err := a.Send(t.Context(), text)
			require.Equal(t, code, models.CodeOf(err), "%s: %v", text, err)
		}
	}
	require.NoError(t, a.Send(t.Context(), answering), "none of these says that ClickHouse is away")
}

func TestErrorsOfClickHouseHaveACode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code    int32
		message string
		want    models.Code
	}{
		{241, "Query memory limit exceeded: would use 10.10 MiB", models.TooComplex},
		{241, "Memory limit (for query) exceeded: would use 10.10 MiB", models.TooComplex},
		{241, "(total) memory limit exceeded: would use 10.10 GiB", models.AnalyticsUnavailable},
		{241, "User memory limit exceeded: would use 10.10 GiB", models.AnalyticsUnavailable},
		{160, "", models.Timeout},
		{202, "", models.AnalyticsUnavailable},
		{394, "", models.AnalyticsUnavailable},
		{62, "", models.Internal},
	} {
		err := analytics.Translate(&clickhouse.Exception{Code: test.code, Message: test.message})
		require.Equal(t, test.want, models.CodeOf(err), "%d %s", test.code, test.message)
	}
	require.Equal(t, models.AnalyticsUnavailable, models.CodeOf(analytics.Translate(io.ErrUnexpectedEOF)))
}

func TestAnAnswerThatBreaksOffIsNoAnswer(t *testing.T) {
	t.Parallel()
	a, proxy := faulty(t, engineURL(t), analytics.Config{})
	const long = "SELECT repeat('x', 1000) FROM numbers(6000)"
	require.NoError(t, a.Send(t.Context(), long))
	proxy.mu.Lock()
	proxy.cutAfter = 1 << 20
	proxy.mu.Unlock()
	require.Equal(t, models.AnalyticsUnavailable, models.CodeOf(a.Send(t.Context(), long)))
	proxy.behave()
	requireRecovery(t, a)
}

func TestQuestionsSurviveClickHouseBeingKilled(t *testing.T) {
	t.Parallel()
	engine, err := embedded.StartClickHouse(t.Context(), embedded.ClickHouseConfig{Dir: t.TempDir(), Library: os.Getenv("NETRA_CHDB_LIB")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engine.Stop(context.Background())) })
	a, proxy := faulty(t, engine.URL(), analytics.Config{})
	direct, err := sql.Open("clickhouse", engine.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = direct.Close() })

	ended := make(chan error, 1)
	go func() { ended <- a.Send(t.Context(), neverEnding) }()
	require.Eventually(t, func() bool {
		var running int
		err := direct.QueryRowContext(t.Context(), "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sum(sleepEachRow%'").Scan(&running)
		return err == nil && running > 0
	}, time.Minute, 20*time.Millisecond)
	killed := time.Now()
	require.NoError(t, syscall.Kill(engine.PID(), syscall.SIGKILL))
	err = <-ended
	require.Equal(t, models.AnalyticsUnavailable, models.CodeOf(err), "%v", err)
	require.Less(t, time.Since(killed), patience)

	require.Eventually(t, func() bool {
		if err := a.Send(t.Context(), answering); err != nil {
			require.Contains(t, []models.Code{models.AnalyticsUnavailable, models.Timeout}, models.CodeOf(err), "%v", err)
		}
		return direct.PingContext(t.Context()) == nil
	}, 2*time.Minute, 20*time.Millisecond, "the engine does not come back")
	requireRecovery(t, a)
	require.NotZero(t, proxy.accepted.Load())
}

func TestOperatorsSeeHowQuestionsWent(t *testing.T) {
	t.Parallel()
	a, proxy := faulty(t, engineURL(t), analytics.Config{})
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(a))
	require.NoError(t, a.Send(t.Context(), answering))
	require.Error(t, a.Send(t.Context(), "SELECT number FROM numbers(2000000)"))
	require.Error(t, a.Send(t.Context(), "SELECT nonsense"))
	ctx, leave := context.WithCancel(t.Context())
	leave()
	require.Error(t, a.Send(ctx, answering))
	proxy.refuse()
	for range 4 {
		require.Error(t, a.Send(t.Context(), answering))
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	seen := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			switch {
			case metric.Counter != nil:
				seen[name] = metric.Counter.GetValue()
			case metric.Gauge != nil:
				seen[name] = metric.Gauge.GetValue()
			case metric.Histogram != nil:
				seen[name] = float64(metric.Histogram.GetSampleCount())
			}
		}
	}
	if seen["netra_analytics_breaker"] == 1 { // it is half open again after a second
		seen["netra_analytics_breaker"] = 2
	}
	require.Equal(t, map[string]float64{
		"netra_analytics_questions_total answered Test":    1,
		"netra_analytics_questions_total too_complex Test": 1,
		"netra_analytics_questions_total failed Test":      1,
		"netra_analytics_questions_total left Test":        1,
		"netra_analytics_questions_total unavailable Test": 4,
		"netra_analytics_question_seconds Test":            8,
		"netra_analytics_breaker":                          2,
	}, seen)
}
