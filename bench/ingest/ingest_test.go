// Package ingest_test measures ingestion through the real binary: NDJSON over HTTP, several connections, until the events are acknowledged and
// until they are all in ClickHouse, beside the same events inserted by clickhouse-go alone.
package ingest_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/server"
)

const (
	batch       = 10_000 // events in a request
	connections = 4
	promised    = 100_000 // events a second, until they are acknowledged
	spoolLimit  = 1 << 30 // what NETRA_SPOOL_LIMIT is unless set
)

// total is how many events are sent; NETRA_INGEST_EVENTS says another number.
func total(b *testing.B) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("NETRA_INGEST_EVENTS"), "1000000"))
	require.NoError(b, err)
	return n / batch * batch
}

// event is what a call of a language model reports.
type event struct {
	id         uuid.UUID
	at         time.Time
	workload   string
	names      []string
	units      []string
	values     []float64
	dimensions map[string]string
	attempt    int
}

func events(seed uint64, n int, now time.Time) []event {
	random := rand.New(rand.NewPCG(seed, 1))
	list := make([]event, n)
	for i := range list {
		e := &list[i]
		e.id, e.at = uuid.New(), now.Add(-time.Duration(random.Int64N(int64(time.Hour))))
		e.workload = fmt.Sprintf("7c9e6679-7425-40de-944b-%012x", random.IntN(200))
		e.names, e.units = []string{"latency_ms", "tokens_input", "cost_usd"}, []string{"ms", "tokens", "usd"}
		e.values = []float64{float64(random.IntN(5000)), float64(random.IntN(4000)), float64(random.IntN(10000)) / 1e6}
		if k := 2 + i%2; k < 3 {
			e.names, e.units, e.values = e.names[:k], e.units[:k], e.values[:k]
		}
		e.dimensions = map[string]string{
			"model": []string{"gpt-4.1", "claude-opus", "gemini-pro", "llama-70b"}[random.IntN(4)], "agent_type": []string{"triage", "data", "report"}[random.IntN(3)],
			"status": []string{"completed", "failed"}[random.IntN(2)], "environment": "production", "thread_id": fmt.Sprintf("3fa85f64-5717-4562-b3fc-%012x", random.IntN(1000)),
		}
		e.attempt = random.IntN(3)
	}
	return list
}

func lines(list []event) []byte {
	var text bytes.Buffer
	for _, e := range list {
		fmt.Fprintf(&text, `{"event_id":%q,"timestamp":%q,"workload_id":%q,"event_type":"metric","event_category":"compute","metrics":[`, e.id, e.at.Format(time.RFC3339Nano), e.workload)
		for i := range e.names {
			if i > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, `{"name":%q,"value":%g,"unit":%q}`, e.names[i], e.values[i], e.units[i])
		}
		fmt.Fprintf(&text, `],"dimensions":{"model":%q,"agent_type":%q,"status":%q,"environment":%q,"thread_id":%q},"metadata":{"attempt":%d}}`+"\n",
			e.dimensions["model"], e.dimensions["agent_type"], e.dimensions["status"], e.dimensions["environment"], e.dimensions["thread_id"], e.attempt)
	}
	return text.Bytes()
}

func BenchmarkIngestion(b *testing.B) {
	n := total(b)
	all := events(1, n, time.Now().UTC())
	direct := insertDirectly(b, all)
	fmt.Printf("\n%-52s %10s %12s %12s %8s\n", "NDJSON, 10,000 lines a request, 4 connections", "events", "acknowledged", "in tables", "ratio")
	fmt.Printf("%-52s %10d %12s %10.0f/s %8.2f\n", "clickhouse-go alone, one connection", n, "", float64(n)/direct.Seconds(), 1.0)
	for _, encoding := range []string{"", "zstd"} {
		b.Run(cmp.Or(encoding, "plain"), func(b *testing.B) {
			p := start(b)
			bodies := make([][]byte, 0, n/batch)
			packer, err := zstd.NewWriter(nil)
			require.NoError(b, err)
			text := 0
			for from := 0; from < n; from += batch {
				body := lines(all[from : from+batch])
				text += len(body)
				if encoding == "zstd" {
					body = packer.EncodeAll(body, nil)
				}
				bodies = append(bodies, body)
			}
			began := time.Now()
			p.send(b, bodies, encoding)
			acknowledged := time.Since(began)
			size, waiting := p.measure(b, "netra_spool_bytes"), float64(n)-p.measure(b, "netra_ingest_written_total")
			p.settle(b)
			written := time.Since(began)
			require.EqualValues(b, n, p.count(b, "SELECT count() FROM workload_events"))
			require.EqualValues(b, n/2*5, p.count(b, "SELECT sum(event_count) FROM aggregated_metrics"))
			fmt.Printf("%-52s %10d %10.0f/s %10.0f/s %8.2f\n", fmt.Sprintf("netra, %s, %d bytes a line", cmp.Or(encoding, "not compressed"), text/n), n,
				float64(n)/acknowledged.Seconds(), float64(n)/written.Seconds(), written.Seconds()/direct.Seconds())
			fmt.Printf("%-52s %10s %s\n", "  100,000 a second would fill 1 GiB of spool after", "", lasts(size/waiting, float64(n)/written.Seconds()))
			usage := p.stop(b)
			fmt.Printf("%-52s %10s user %s, system %s\n", "  processor time of the server", "", usage.UserTime().Round(time.Millisecond), usage.SystemTime().Round(time.Millisecond))
			b.ReportMetric(0, "ns/op") // of no meaning here
			b.ReportMetric(float64(n)/acknowledged.Seconds(), "acknowledged/s")
			b.ReportMetric(float64(n)/written.Seconds(), "written/s")
			b.ReportMetric(written.Seconds()/direct.Seconds(), "ratio")
			if float64(n)/acknowledged.Seconds() < promised {
				b.Errorf("%.0f events/s; %d are promised", float64(n)/acknowledged.Seconds(), promised)
			}
		})
	}
}

// lasts says for how long the promised rate can go on, when an event takes so many bytes of the spool and so many leave it each second.
func lasts(bytes, leaving float64) string {
	if leaving >= promised {
		return "never: as many reach the tables"
	}
	if math.IsNaN(bytes) || bytes <= 0 {
		return "unknown: nothing was waiting at the last answer"
	}
	held := time.Duration(spoolLimit / bytes / (promised - leaving) * float64(time.Second))
	return fmt.Sprintf("%s (%.0f bytes an event)", held.Round(time.Second), bytes)
}

// insertDirectly is what the engine and the stock client need for the same blocks.
func insertDirectly(b *testing.B, all []event) time.Duration {
	b.Helper()
	databases := testdb.New(b)
	options, err := clickhouse.ParseDSN(databases.ClickHouseURL)
	require.NoError(b, err)
	conn, err := clickhouse.Open(options)
	require.NoError(b, err)
	defer func() { require.NoError(b, conn.Close()) }()
	began := time.Now()
	for from := 0; from < len(all); from += batch {
		insert(b, conn, all[from:from+batch])
	}
	return time.Since(began)
}

func insert(b *testing.B, conn driver.Conn, list []event) {
	b.Helper()
	block, err := conn.PrepareBatch(b.Context(), "INSERT INTO workload_events (event_id, timestamp, user_id, workload_id, event_type, event_category,"+
		" metrics.name, metrics.value, metrics.unit, dimensions, metadata)")
	require.NoError(b, err)
	for i := range list {
		e := &list[i]
		if err := block.Append(e.id, e.at, uint32(1), e.workload, "metric", "compute", e.names, e.values, e.units, e.dimensions, fmt.Sprintf(`{"attempt":%d}`, e.attempt)); err != nil {
			require.NoError(b, err)
		}
	}
	require.NoError(b, block.Send())
}

// platform is the binary at work.
type platform struct {
	process *exec.Cmd
	url     string
	token   string
	db      driver.Conn
}

func start(b *testing.B) *platform {
	b.Helper()
	databases := testdb.New(b)
	p := &platform{}
	var user int
	require.NoError(b, databases.Owner(b).QueryRow(`INSERT INTO users (email) VALUES ('alice@example.com') RETURNING id`).Scan(&user))
	secret := strings.Repeat("s", server.MinSecret)
	var err error
	p.token, err = server.NewToken([]byte(secret), user, time.Hour)
	require.NoError(b, err)
	options, err := clickhouse.ParseDSN(databases.ClickHouseURL)
	require.NoError(b, err)
	p.db, err = clickhouse.Open(options)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, p.db.Close()) })
	p.process = exec.Command(cmp.Or(os.Getenv("NETRA_BIN"), "../../bin/netra"), "serve", "--addr", "127.0.0.1:0")
	p.process.Env = append(os.Environ(), "NETRA_SECRET="+secret, "NETRA_DATABASE_URL="+databases.AppURL, "NETRA_CLICKHOUSE_URL="+databases.ClickHouseURL, "NETRA_DATA_DIR="+b.TempDir())
	out, err := p.process.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, p.process.Start(), "run `make build` first")
	b.Cleanup(func() { p.stop(b) })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	p.url = strings.TrimPrefix(strings.TrimSpace(line), "netra: ")
	return p
}

func (p *platform) stop(b *testing.B) *os.ProcessState {
	b.Helper()
	if p.process.ProcessState == nil {
		require.NoError(b, p.process.Process.Signal(syscall.SIGTERM))
		require.NoError(b, p.process.Wait())
	}
	return p.process.ProcessState
}

func (p *platform) send(b *testing.B, bodies [][]byte, encoding string) {
	b.Helper()
	var next atomic.Int64
	senders, ctx := errgroup.WithContext(b.Context())
	for range connections {
		senders.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(bodies) {
					return nil
				}
				if err := p.post(ctx, bodies[n], encoding); err != nil {
					return err
				}
			}
		})
	}
	require.NoError(b, senders.Wait())
}

func (p *platform) post(ctx context.Context, body []byte, encoding string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/ingest/events", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	request.Header.Set("Authorization", "Bearer "+p.token)
	if encoding != "" {
		request.Header.Set("Content-Encoding", encoding)
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

// settle waits until the spool is empty.
func (p *platform) settle(b *testing.B) {
	b.Helper()
	for deadline := time.Now().Add(10 * time.Minute); p.measure(b, "netra_spool_files") > 0; {
		require.True(b, time.Now().Before(deadline), "the spool is not emptied")
		time.Sleep(100 * time.Millisecond)
	}
}

// measure is one of the server's metrics.
func (p *platform) measure(b *testing.B, name string) float64 {
	b.Helper()
	response, err := http.Get(p.url + "/metrics")
	require.NoError(b, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(b, err)
	require.NoError(b, response.Body.Close())
	_, after, found := strings.Cut(string(text), "\n"+name+" ")
	require.True(b, found, name)
	line, _, _ := strings.Cut(after, "\n")
	value, err := strconv.ParseFloat(line, 64)
	require.NoError(b, err)
	return value
}

func (p *platform) count(b *testing.B, query string) (n uint64) {
	b.Helper()
	require.NoError(b, p.db.QueryRow(b.Context(), query).Scan(&n))
	return n
}
