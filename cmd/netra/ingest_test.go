package main_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
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

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/migrations"
)

// ownEngines are engines of one test, because it kills them.
type ownEngines struct {
	dir         string
	environment []string // what a shell would export
	clickhouse  *sql.DB
}

func startOwnEngines(t *testing.T, netra string) *ownEngines {
	t.Helper()
	e := &ownEngines{dir: reachableDirectory(t)}
	process := command(netra, nil, "engines", "--fast", "--data-dir", e.dir)
	process.Stderr = os.Stderr
	output, err := process.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		require.NoError(t, process.Process.Signal(syscall.SIGTERM))
		require.NoError(t, process.Wait())
	})
	lines := make([]byte, 0, 4096)
	for bytes.Count(lines, []byte("\n")) < 3 {
		piece := make([]byte, 1024)
		n, err := output.Read(piece)
		require.NoError(t, err)
		lines = append(lines, piece[:n]...)
	}
	e.environment = strings.Split(strings.TrimSpace(string(lines)), "\n")
	migrated, err := command(netra, e.environment, "migrate", "up").CombinedOutput()
	require.NoError(t, err, "%s", migrated)
	e.clickhouse, err = migrations.OpenClickHouse(t.Context(), e.variable(t, "NETRA_CLICKHOUSE_URL"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.clickhouse.Close() })
	return e
}

func (e *ownEngines) variable(t *testing.T, name string) string {
	t.Helper()
	for _, variable := range e.environment {
		if value, found := strings.CutPrefix(variable, name+"="); found {
			return value
		}
	}
	require.FailNow(t, "the engines did not print "+name)
	return ""
}

// killClickHouse kills the engine at once; what started it starts it again.
func (e *ownEngines) killClickHouse() error {
	holder, err := os.ReadFile(filepath.Join(e.dir, "clickhouse", "lock"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(holder)))
	if err != nil {
		return nil // it is just starting
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// mortal is a server that is killed and started again on the same spool.
type mortal struct {
	netra       string
	environment []string

	mu      sync.Mutex
	process *exec.Cmd
	url     atomic.Pointer[string]
}

func (m *mortal) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.process = command(m.netra, m.environment, "serve", "--addr", "127.0.0.1:0")
	output, err := m.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := m.process.Start(); err != nil {
		return err
	}
	var line []byte
	for piece := make([]byte, 100); !bytes.HasSuffix(line, []byte("\n")); {
		n, err := output.Read(piece)
		if err != nil {
			return fmt.Errorf("the server does not start: %w", err)
		}
		line = append(line, piece[:n]...)
	}
	url := strings.TrimPrefix(strings.TrimSpace(string(line)), "netra: ")
	m.url.Store(&url)
	return nil
}

func (m *mortal) kill(signal syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return nil
	}
	if err := m.process.Process.Signal(signal); err != nil {
		return err
	}
	_ = m.process.Wait() // it was killed
	m.process = nil
	return nil
}

// post sends events and says whether they were acknowledged.
func (m *mortal) post(ctx context.Context, token, key, body string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, *m.url.Load()+"/ingest/events", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	request.Header.Set("Authorization", "Bearer "+token)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() // it has been read
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	return nil
}

// numbered are events that each carry a number of their own, in several hours and months.
func numbered(from, n int) string {
	var text strings.Builder
	now := time.Now().UTC()
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&text, `{"timestamp":%q,"workload_id":"w%d","metrics":[{"name":"n","value":%d},{"name":"one","value":1,"unit":"x"}],"dimensions":{"model":"m%d"}}`+"\n",
			now.Add(-time.Duration(i%1000)*time.Hour).Format(time.RFC3339Nano), i%20, i, i%3)
	}
	return text.String()
}

// ingestedEvents is how many events the test of crashes sends; NETRA_INGEST_EVENTS says another number.
func ingestedEvents(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("NETRA_INGEST_EVENTS"); text != "" {
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	return 20_000
}

func TestIngestion_CountsEachAcknowledgedEventOnceWhateverIsKilled(t *testing.T) {
	t.Parallel()
	netra := buildNetra(t)
	engines := startOwnEngines(t, netra)
	owner, err := sql.Open("pgx", engines.variable(t, "NETRA_OWNER_DATABASE_URL"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close() })
	_, err = owner.Exec(`INSERT INTO users (email) VALUES ('ann@example.com'), ('ben@example.com')`)
	require.NoError(t, err)
	front := newDoor(t, engines.variable(t, "NETRA_CLICKHOUSE_URL"))
	front.open(t)
	m := &mortal{netra: netra, environment: append(engines.environment, "NETRA_CLICKHOUSE_URL="+front.url, "NETRA_SECRET="+secret, "NETRA_DATA_DIR="+t.TempDir())}
	require.NoError(t, m.start())
	t.Cleanup(func() { _ = m.kill(syscall.SIGKILL) })
	ann, ben := issue(t, netra, m.environment, "--email", "ann@example.com"), issue(t, netra, m.environment, "--email", "ben@example.com")

	const senders = 4
	total := ingestedEvents(t)
	size := min(total/100, 5_000)
	var acknowledged, repeated atomic.Int64
	var numbers atomic.Int64
	promised := make([][]int, senders) // the first numbers of ben's acknowledged batches
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	var sending sync.WaitGroup
	for sender := range senders {
		sending.Go(func() {
			for ctx.Err() == nil {
				from := int(numbers.Add(int64(size))) - size
				if from >= total {
					return
				}
				// Ann's batches have a key, so that she may send one again whose answer was lost. Ben sends without: after a lost answer he goes on.
				body := numbered(from, size)
				for ctx.Err() == nil {
					key, token := "", ben
					if sender%2 == 0 {
						key, token = fmt.Sprint("batch ", from), ann
					}
					err := m.post(ctx, token, key, body)
					if err == nil {
						acknowledged.Add(int64(size))
						promised[sender] = append(promised[sender], from)
						break
					}
					repeated.Add(1)
					if key == "" {
						from = int(numbers.Add(int64(size))) - size
						body = numbered(from, size)
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { sending.Wait(); close(done) }()

	kills := 0
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	faults := []func() error{
		engines.killClickHouse,
		func() error { return errors.Join(m.kill(syscall.SIGKILL), m.start()) },
		func() error { return errors.Join(engines.killClickHouse(), m.kill(syscall.SIGKILL), m.start()) },
		func() error {
			front.shut()
			time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
			front.open(t)
			return nil
		},
	}
	// The faults are spread over what is sent.
	planned := max(len(faults), total/25_000)
	for ; kills < planned; kills++ {
		for numbers.Load() < int64((kills+1)*total/(planned+1)) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
		require.NoError(t, faults[kills%len(faults)]())
	}
	<-done
	require.NoError(t, ctx.Err())
	require.Eventually(t, func() bool {
		response, err := http.Get(*m.url.Load() + "/metrics")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && strings.Contains(string(text), "\nnetra_spool_files 0\n") && strings.Contains(string(text), "\nnetra_spool_rejected_bytes 0\n")
	}, 5*time.Minute, 50*time.Millisecond)
	require.NoError(t, m.kill(syscall.SIGTERM))
	t.Logf("%d kills and outages, %d events acknowledged, %d requests without an answer", kills, acknowledged.Load(), repeated.Load())

	count := func(query string) (n uint64) {
		require.NoError(t, engines.clickhouse.QueryRowContext(t.Context(), query).Scan(&n), query)
		return n
	}
	require.Equal(t, count("SELECT uniqExact(metrics.value[1]) FROM workload_events"), count("SELECT count() FROM workload_events"), "no event is there twice")
	stored := map[uint64]bool{}
	rows, err := engines.clickhouse.QueryContext(t.Context(), fmt.Sprintf("SELECT DISTINCT intDiv(toUInt64(metrics.value[1]), %d) FROM workload_events", size))
	require.NoError(t, err)
	for rows.Next() {
		var n uint64
		require.NoError(t, rows.Scan(&n))
		stored[n] = true
	}
	require.NoError(t, errors.Join(rows.Err(), rows.Close()))
	for sender := range senders {
		for _, from := range promised[sender] {
			require.True(t, stored[uint64(from/size)], "the batch from %d was acknowledged", from)
		}
	}
	require.EqualValues(t, len(stored)*size, count("SELECT count() FROM workload_events"), "batches are there as a whole")
	require.GreaterOrEqual(t, count("SELECT count() FROM workload_events"), uint64(acknowledged.Load()))
	const facts = "SELECT arraySort(groupArray(concat(toString(user_id), ' ', metric, ' ', toString(n), ' ', toString(total)))) FROM "
	fromEvents := facts + "(SELECT user_id, metrics.name AS metric, count() AS n, sum(metrics.value) AS total FROM workload_events ARRAY JOIN metrics GROUP BY ALL)"
	list := func(query string) (l []string) {
		require.NoError(t, engines.clickhouse.QueryRowContext(t.Context(), query).Scan(&l), query)
		return l
	}
	want := list(fromEvents)
	for _, table := range []string{"aggregated_metrics", "metric_sums WHERE grain = 'day'", "metric_sums WHERE grain = 'hour'", "metric_sums WHERE grain = 'quarter'", "metric_dimensions"} {
		require.Equal(t, want, list(facts+"(SELECT user_id, metric_name AS metric, sum(event_count) AS n, sum(total_value) AS total FROM (SELECT * FROM "+table+") WHERE user_id > 0 GROUP BY ALL)"),
			"%s counts what the events say", table)
	}
	require.Equal(t, 2*count("SELECT count() FROM workload_events"), count("SELECT sum(event_count) FROM metric_bins WHERE user_id > 0"))
	require.EqualValues(t, len(promised[0])*size+len(promised[2])*size, count("SELECT count() FROM workload_events WHERE user_id = (SELECT min(user_id) FROM workload_events)"), "what was sent again with its key counts once")
}
