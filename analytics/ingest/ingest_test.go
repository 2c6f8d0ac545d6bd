package ingest_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics/ingest"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

const patience = 2 * time.Minute

// rig is an Ingester with databases of its own.
type rig struct {
	*ingest.Ingester
	db  *sql.DB
	cfg ingest.Config
	log *lockedBuffer
	run func() (stop func())
}

func setup(t *testing.T, change ...func(*ingest.Config)) *rig {
	t.Helper()
	databases := testdb.NewClickHouse(t)
	r := &rig{db: databases.ClickHouse(t), log: &lockedBuffer{}}
	r.cfg = ingest.Config{URL: databases.ClickHouseURL, Dir: filepath.Join(t.TempDir(), "spool"), Linger: time.Millisecond, BlockRows: 3000, Log: slog.New(slog.NewTextHandler(r.log, nil))}
	for _, c := range change {
		c(&r.cfg)
	}
	r.open(t)
	return r
}

// spooling is an Ingester from which nothing goes to ClickHouse.
func spooling(t *testing.T) *rig {
	t.Helper()
	r := &rig{log: &lockedBuffer{}}
	r.cfg = ingest.Config{URL: "http://127.0.0.1:1/nowhere", Dir: filepath.Join(t.TempDir(), "spool"), Log: slog.New(slog.NewTextHandler(r.log, nil))}
	r.open(t)
	return r
}

func (r *rig) open(t *testing.T) {
	t.Helper()
	i, err := ingest.New(r.cfg)
	require.NoError(t, err)
	r.Ingester = i
	closed := sync.OnceFunc(func() { _ = i.Close() })
	t.Cleanup(closed)
	r.run = func() func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- i.Run(ctx) }()
		return sync.OnceFunc(func() {
			cancel()
			<-done
			closed()
		})
	}
}

// start runs the Ingester until the test ends.
func (r *rig) start(t *testing.T) *rig {
	t.Helper()
	t.Cleanup(r.run())
	return r
}

// written waits until nothing waits.
func (r *rig) written(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { s := r.Stats(); return s.Files == 0 && s.Bytes == 0 }, patience, 5*time.Millisecond, r.log.String())
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func as(t *testing.T, user int) context.Context {
	return models.WithViewer(t.Context(), models.Viewer{UserID: user})
}

func value[T any](t *testing.T, db *sql.DB, query string) T {
	t.Helper()
	var v T
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&v), query)
	return v
}

// lines are events of two metrics: n has the value n, and one the value 1.
func lines(from, n int) string {
	var text strings.Builder
	now := time.Now().UTC()
	for i := from; i < from+n; i++ {
		at := now.Add(-time.Duration(i%2000) * time.Hour)
		fmt.Fprintf(&text, `{"timestamp":%q,"workload_id":"w%d","metrics":[{"name":"n","value":%d,"unit":"x"},{"name":"one","value":1}],"dimensions":{"model":"m%d"}}`+"\n",
			at.Format(time.RFC3339Nano), i%10, i, i%3)
	}
	return text.String()
}

// exactly is what the tables hold when the events 0 … n-1 were counted once.
func (r *rig) exactly(t *testing.T, n int) {
	t.Helper()
	require.EqualValues(t, n, value[uint64](t, r.db, "SELECT count() FROM workload_events"))
	require.EqualValues(t, n, value[uint64](t, r.db, "SELECT uniqExact(metrics.value[1]) FROM workload_events"))
	require.EqualValues(t, 2*n, value[uint64](t, r.db, "SELECT sum(event_count) FROM aggregated_metrics"))
	require.Equal(t, float64(n)*float64(n-1)/2, value[float64](t, r.db, "SELECT sum(total_value) FROM aggregated_metrics WHERE metric_name = 'n'"))
	require.Equal(t, float64(n), value[float64](t, r.db, "SELECT sum(total_value) FROM aggregated_metrics WHERE metric_name = 'one'"))
}

func TestAnEventArrivesAsItWasSent(t *testing.T) {
	t.Parallel()
	r := setup(t).start(t)
	at := time.Now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
	n, err := r.RecordLines(as(t, 7), strings.NewReader(`{"event_id":"0b8f8b0e-6c1f-4c52-9d0f-3a7c0f3d6b11","timestamp":"`+at.Format(time.RFC3339Nano)+`","workload_id":"w\u00e9","event_type":"error",`+
		`"event_category":"compute","metrics":[{"name":"latency","value":-1.5e3,"unit":"ms"},{"value":2,"name":"tokens"}],"dimensions":{"model":"a\"b","k":""},"metadata":{"a":[1]}}`+"\r\n\n"), "")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	r.written(t)
	const row = `SELECT concat(toString(event_id), ' ', toString(timestamp), ' ', toString(user_id), ' ', workload_id, ' ', event_type, ' ', event_category, ' ', toString(metrics.name), toString(metrics.value),
		toString(metrics.unit), ' ', toString(dimensions), ' ', metadata) FROM workload_events`
	require.Equal(t, `0b8f8b0e-6c1f-4c52-9d0f-3a7c0f3d6b11 `+at.Format("2006-01-02 15:04:05.000")+` 7 wé error compute ['latency','tokens'][-1500,2]['ms',''] {'model':'a"b','k':''} {"a":[1]}`, value[string](t, r.db, row))
}

func TestWhatIsAbsentHasADefault(t *testing.T) {
	t.Parallel()
	r := setup(t).start(t)
	before := time.Now().Truncate(time.Millisecond)
	require.NoError(t, r.Record(as(t, 7), []*models.EventInput{{WorkloadID: "w"}}, ""))
	r.written(t)
	require.Equal(t, "7 w metric  [] {} ", value[string](t, r.db, "SELECT concat(toString(user_id), ' ', workload_id, ' ', event_type, ' ', event_category, ' ', toString(metrics.name), ' ', toString(dimensions), ' ', metadata) FROM workload_events"))
	require.WithinRange(t, value[time.Time](t, r.db, "SELECT timestamp FROM workload_events"), before, time.Now())
	require.EqualValues(t, 7, value[uuid.UUID](t, r.db, "SELECT event_id FROM workload_events").Version())
}

func TestTheGraphsEventsAreThoseOfLines(t *testing.T) {
	t.Parallel()
	r := setup(t).start(t)
	id, at, kind, unit := uuid.New(), time.Now().UTC().Truncate(time.Millisecond), "stop", "ms"
	user := models.GlobalID{Kind: models.KindUser, Key: "9"}.String()
	root := models.WithViewer(t.Context(), models.Viewer{UserID: 7, Superuser: true})
	require.NoError(t, r.Record(root, []*models.EventInput{{
		EventID: &id, Timestamp: &at, UserID: &user, WorkloadID: "w", EventType: &kind, EventCategory: &kind,
		Metrics: []*models.EventMetricInput{{Name: "n", Value: 1.25, Unit: &unit}}, Dimensions: models.JSON(`{"k":"v"}`), Metadata: models.JSON(`{"a":1}`),
	}}, ""))
	_, err := r.RecordLines(root, strings.NewReader(fmt.Sprintf(`{"event_id":%q,"timestamp":%q,"user_id":9,"workload_id":"w","event_type":"stop","event_category":"stop",`+
		`"metrics":[{"name":"n","value":1.25,"unit":"ms"}],"dimensions":{"k":"v"},"metadata":{"a":1}}`, id, at.Format(time.RFC3339Nano))), "")
	require.NoError(t, err)
	r.written(t)
	require.EqualValues(t, 2, value[uint64](t, r.db, "SELECT count() FROM workload_events WHERE user_id = 9"))
	require.EqualValues(t, 1, value[uint64](t, r.db, "SELECT uniqExact(tuple(*)) FROM workload_events"))
}

func TestRecordRefuses(t *testing.T) {
	t.Parallel()
	r := spooling(t)
	ok := `{"workload_id":"w"}`
	for text, want := range map[string]string{
		``:                                      "there are no events",
		"\n\n":                                  "there are no events",
		`[]`:                                    "line 1: an event must be a JSON object",
		`nonsense`:                              "line 1: malformed JSON at byte 1",
		`{"workload_id":"w"`:                    "line 1: malformed JSON at byte 18",
		ok + "\n" + ok + ok:                     "line 2: something follows the event: write one JSON object a line",
		"{\"workload_id\":\"\xff\"}":            "line 1: not UTF-8",
		`{"workload_id":"\ud800"}`:              "line 1: malformed JSON at byte 16",
		`{"workload_id":"w","workload_id":"w"}`: "line 1: the same key twice, before byte 0",
		`{"workload_id":"w","dimensions":{"a":"1","a":"2"}}`: "line 1: the same key twice, before byte 0",
		`{"workload_id":"w","colour":1}`:                     `line 1: unknown key "colour"`,
		`{}`:                                                 "line 1: workload_id is missing",
		`{"workload_id":1}`:                                  "line 1: workload_id must be a string",
		`{"workload_id":"a\u0000"}`:                          "line 1: workload_id must not contain NUL characters",
		`{"workload_id":"` + strings.Repeat("w", 256) + `"}`:                                                          "line 1: workload_id may have 255 bytes",
		`{"workload_id":"w","event_id":"1"}`:                                                                          "line 1: event_id must be a UUID",
		`{"workload_id":"w","event_type":""}`:                                                                         "line 1: event_type is empty",
		`{"workload_id":"w","timestamp":"yesterday"}`:                                                                 "line 1: timestamp must be an instant in RFC 3339, such as 2026-11-23T09:30:00.000Z",
		`{"workload_id":"w","timestamp":"2020-01-01T00:00:00Z"}`:                                                      "line 1: timestamp is more than 90 days ago",
		`{"workload_id":"w","timestamp":"2999-01-01T00:00:00Z"}`:                                                      "line 1: timestamp is more than 60 minutes ahead",
		`{"workload_id":"w","user_id":"1"}`:                                                                           "line 1: user_id must be a positive whole number",
		`{"workload_id":"w","user_id":2}`:                                                                             "line 1: only superusers may record events of other users",
		`{"workload_id":"w","metrics":{}}`:                                                                            "line 1: metrics must be a list",
		`{"workload_id":"w","metrics":[1]}`:                                                                           "line 1: metrics[0] must be an object",
		`{"workload_id":"w","metrics":[{"name":"n"}]}`:                                                                "line 1: metrics[0].value is missing",
		`{"workload_id":"w","metrics":[{"value":1}]}`:                                                                 "line 1: metrics[0].name is missing",
		`{"workload_id":"w","metrics":[{"name":"n","value":"1"}]}`:                                                    "line 1: metrics[0].value must be a number",
		`{"workload_id":"w","metrics":[{"name":"n","value":1e999}]}`:                                                  "line 1: metrics[0].value must be finite",
		`{"workload_id":"w","metrics":[{"name":"n","value":1,"units":""}]}`:                                           `line 1: metrics[0]: unknown key "units"`,
		`{"workload_id":"w","metrics":[{"name":"n","value":1,"unit":"` + strings.Repeat("u", 51) + `"}]}`:             "line 1: metrics[0].unit may have 50 bytes",
		`{"workload_id":"w","metrics":[` + strings.Repeat(`{"name":"n","value":1},`, 64) + `{"name":"n","value":1}]}`: "line 1: metrics: an event may have 64",
		`{"workload_id":"w","dimensions":{"a":1}}`:                                                                    "line 1: dimensions.a must be a string",
		`{"workload_id":"w","dimensions":{"":"1"}}`:                                                                   "line 1: dimensions has an empty key",
		`{"workload_id":"w","dimensions":{"a":"` + strings.Repeat("v", 1025) + `"}}`:                                  "line 1: dimensions.a may have 1024 bytes",
		`{"workload_id":"w","metadata":[]}`:                                                                           "line 1: metadata must be an object",
		`{"workload_id":"w","metadata":{"a":"` + strings.Repeat("v", 32<<10) + `"}}`:                                  "line 1: metadata may have 32768 bytes",
		`{"workload_id":"w","metadata":{"a":"` + strings.Repeat("v", 256<<10) + `"}}`:                                 "line 1: an event may have 262144 bytes",
		ok + "\n{}\n" + ok + "\n[]":                                                                                   "line 2: workload_id is missing (and 1 more)",
	} {
		_, err := r.RecordLines(as(t, 1), strings.NewReader(text), "")
		require.EqualError(t, err, want, "%.200s", text)
		code := models.BadUserInput
		if strings.Contains(want, "superusers") {
			code = models.Forbidden
		}
		require.Equal(t, code, models.CodeOf(err))
	}
	for want, input := range map[string]*models.EventInput{
		"events[0]: workload_id is missing":                  {},
		"events[0]: metrics[0].value must be finite":         {WorkloadID: "w", Metrics: []*models.EventMetricInput{{Name: "n", Value: math.Inf(1)}}},
		"events[0]: not UTF-8":                               {WorkloadID: "\xff"},
		"events[0]: dimensions.a must be a string":           {WorkloadID: "w", Dimensions: models.JSON(`{"a":1}`)},
		"events[0]: dimensions must be an object of strings": {WorkloadID: "w", Dimensions: models.JSON(`[]`)},
		"events[0]: metadata must be an object":              {WorkloadID: "w", Metadata: models.JSON(`1`)},
	} {
		require.EqualError(t, r.Record(as(t, 1), []*models.EventInput{input}, ""), want)
	}
	require.Equal(t, models.Unauthenticated, models.CodeOf(r.Record(t.Context(), []*models.EventInput{{WorkloadID: "w"}}, "")))
	require.Equal(t, models.BadUserInput, models.CodeOf(r.Record(as(t, 1), []*models.EventInput{{WorkloadID: "w"}}, strings.Repeat("k", 256))))
	require.Zero(t, r.Stats().Files)
}

func TestMistakesNameTheirColumn(t *testing.T) {
	t.Parallel()
	r := spooling(t)
	long := strings.Repeat("x", 2000)
	nobody := "nobody"
	for want, input := range map[string]*models.EventInput{
		"workload_id|":    {},
		"user_id|: ":      {WorkloadID: "w", UserID: &nobody},
		"event_type| may": {WorkloadID: "w", EventType: &long},
		"metrics|[0].":    {WorkloadID: "w", Metrics: []*models.EventMetricInput{{Name: long}}},
		"dimensions|: a":  {WorkloadID: "w", Dimensions: models.JSON(`{"` + long + `": "x"}`)},
		"dimensions|.a ":  {WorkloadID: "w", Dimensions: models.JSON(`{"a": "` + long + `"}`)},
		"|not UTF-8":      {WorkloadID: "\xff"},
	} {
		var told *models.EventErrors
		require.ErrorAs(t, r.Record(as(t, 1), []*models.EventInput{input}, ""), &told)
		mistake := told.Errors[0]
		require.True(t, strings.HasPrefix(mistake.Column+"|"+mistake.What, want), "%s: %+v", want, mistake)
		require.Equal(t, "events[0]: "+mistake.Column+mistake.What, mistake.Error())
	}
}

func TestNoMoreThanTwentyMistakesAreTold(t *testing.T) {
	t.Parallel()
	r := spooling(t)
	_, err := r.RecordLines(as(t, 1), strings.NewReader(strings.Repeat("{}\n", 100)), "")
	var told *models.EventErrors
	require.ErrorAs(t, err, &told)
	require.Len(t, told.Errors, 20)
	require.True(t, told.More)
	require.Equal(t, 20, told.Errors[19].Place)
}

func TestEventsOfAllSizesOfRequestsCountOnce(t *testing.T) {
	t.Parallel()
	r := setup(t).start(t)
	const requests, each, large = 40, 25, 7_500
	var all sync.WaitGroup
	for n := range requests {
		all.Go(func() {
			if _, err := r.RecordLines(as(t, 1+n%2), strings.NewReader(lines(n*each, each)), ""); err != nil {
				t.Error(err)
			}
		})
	}
	accepted, err := r.RecordLines(as(t, 3), strings.NewReader(lines(requests*each, large)), "")
	require.NoError(t, err)
	require.Equal(t, large, accepted)
	all.Wait()
	r.written(t)
	r.exactly(t, requests*each+large)
	require.EqualValues(t, requests*each/2, value[uint64](t, r.db, "SELECT count() FROM workload_events WHERE user_id = 2"))
	stats := r.Stats()
	require.EqualValues(t, requests*each+large, stats.Accepted)
	require.Equal(t, stats.Accepted, stats.Written)
	const late = `level=WARN msg="events could not be written to ClickHouse and will be tried again"` // on a busy machine
	require.NotContains(t, strings.ReplaceAll(r.log.String(), late, ""), "level=WARN")
}

func TestAKeyCountsOnceForItsUser(t *testing.T) {
	t.Parallel()
	r := setup(t).start(t)
	for _, user := range []int{1, 1, 2} {
		_, err := r.RecordLines(as(t, user), strings.NewReader(lines(0, 100)), "key")
		require.NoError(t, err)
		r.written(t)
	}
	require.EqualValues(t, 100, value[uint64](t, r.db, "SELECT count() FROM workload_events WHERE user_id = 1"))
	require.EqualValues(t, 100, value[uint64](t, r.db, "SELECT count() FROM workload_events WHERE user_id = 2"))
	require.EqualValues(t, 400, value[uint64](t, r.db, "SELECT sum(event_count) FROM aggregated_metrics"))
}

func TestALargeRequestWithAKeyCountsOnce(t *testing.T) {
	t.Parallel()
	r := setup(t).start(t)
	for range 2 {
		_, err := r.RecordLines(as(t, 1), strings.NewReader(lines(0, 7_500)), "key")
		require.NoError(t, err)
	}
	r.written(t)
	r.exactly(t, 7_500)
}

func TestTheSpoolIsReplayed(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for n := range 30 {
		_, err := r.RecordLines(as(t, 1), strings.NewReader(lines(n*10, 10)), "")
		require.NoError(t, err)
	}
	_, err := r.RecordLines(as(t, 1), strings.NewReader(lines(300, 7_000)), "")
	require.NoError(t, err)
	require.EqualValues(t, 31, r.Stats().Files)
	require.NoError(t, os.WriteFile(filepath.Join(r.cfg.Dir, "tmp", "batch-1"), []byte("unfinished"), 0o600))
	require.NoError(t, r.Close())
	r.open(t)
	require.EqualValues(t, 31, r.Stats().Files)
	require.NoFileExists(t, filepath.Join(r.cfg.Dir, "tmp", "batch-1"))
	r.start(t).written(t)
	r.exactly(t, 7_300)
}

func TestAGroupThatACrashLeftIsOneInsert(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for n := range 3 {
		_, err := r.RecordLines(as(t, 1), strings.NewReader(lines(n*10, 10)), "")
		require.NoError(t, err)
	}
	require.NoError(t, r.Close())
	queue := filepath.Join(r.cfg.Dir, "queue")
	kept := map[string][]byte{}
	var names string
	entries, err := os.ReadDir(queue)
	require.NoError(t, err)
	require.Len(t, entries, 3)
	for _, entry := range entries {
		kept[entry.Name()], err = os.ReadFile(filepath.Join(queue, entry.Name()))
		require.NoError(t, err)
		names += entry.Name() + "\n"
	}
	kept["0123.group"] = []byte(names)
	leave := func(left map[string][]byte) {
		for name, content := range left {
			require.NoError(t, os.WriteFile(filepath.Join(queue, name), content, 0o600))
		}
		r.open(t)
	}
	for range 2 { // as before and after its insert
		leave(kept)
		require.EqualValues(t, 3, r.Stats().Files)
		stop := r.run()
		r.written(t)
		stop()
		r.exactly(t, 30)
	}
	for name := range kept { // and after the first of its batches was removed
		if name != "0123.group" {
			delete(kept, name)
			break
		}
	}
	leave(kept)
	require.Zero(t, r.Stats().Files)
	require.Empty(t, func() []string { names, _ := filepath.Glob(filepath.Join(queue, "*")); return names }())
	r.exactly(t, 30)
}

func TestASpoolHasOneProcess(t *testing.T) {
	t.Parallel()
	r := spooling(t)
	_, err := ingest.New(r.cfg)
	require.EqualError(t, err, fmt.Sprintf("the spool %s is in use by another netra (process %d): give each its own directory", r.cfg.Dir, os.Getpid()))
}

func TestAFullSpoolRefuses(t *testing.T) {
	t.Parallel()
	r := setup(t, func(cfg *ingest.Config) { cfg.Limit = 20_000 })
	var err error
	accepted := 0
	for accepted < 100_000 && err == nil {
		var n int
		n, err = r.RecordLines(as(t, 1), strings.NewReader(lines(accepted, 100)), "")
		accepted += n
	}
	require.Equal(t, models.AnalyticsUnavailable, models.CodeOf(err))
	_, err = r.RecordLines(as(t, 1), strings.NewReader(lines(0, 7_000)), "")
	require.Equal(t, models.AnalyticsUnavailable, models.CodeOf(err))
	require.EqualValues(t, 2, r.Stats().Refusals)
	entries, err := os.ReadDir(filepath.Join(r.cfg.Dir, "tmp"))
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is left of what was refused")
	r.start(t).written(t)
	r.exactly(t, accepted)
	_, err = r.RecordLines(as(t, 1), strings.NewReader(lines(accepted, 10)), "")
	require.NoError(t, err, "there is room again")
}

func TestACorruptFileIsPutAsideAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, err := r.RecordLines(as(t, 1), strings.NewReader(lines(0, 2900)), "")
	require.NoError(t, err)
	names, err := filepath.Glob(filepath.Join(r.cfg.Dir, "queue", "*.events"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	content, err := os.ReadFile(names[0])
	require.NoError(t, err)
	content[len(content)/2] ^= 1
	require.NoError(t, r.Close())
	require.NoError(t, os.WriteFile(names[0], content, 0o600))
	r.open(t)
	_, err = r.RecordLines(as(t, 1), strings.NewReader(lines(0, 2500)), "")
	require.NoError(t, err)
	r.start(t).written(t)
	r.exactly(t, 2500)
	require.EqualValues(t, 2900, r.Stats().Rejected)
	require.FileExists(t, filepath.Join(r.cfg.Dir, "rejected", filepath.Base(names[0])))
	require.Contains(t, r.log.String(), "level=ERROR")
}

func TestActivityAddsUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	stop := r.run()
	for n := range 1000 {
		r.Activity(1+n%2, "Dashboard", 3*time.Millisecond)
	}
	for n := range 300 {
		r.Activity(3, fmt.Sprint("Name", n), time.Millisecond)
	}
	r.Activity(4, strings.Repeat("é", 100), time.Millisecond)
	stop()                                                       // which writes what is left
	if strings.Contains(r.log.String(), "will be tried again") { // unless the machine is too busy: then the next one does
		r.start(t).written(t)
	}
	require.Zero(t, r.Stats().Files, r.log.String())
	require.Equal(t, "500 1500", value[string](t, r.db, "SELECT concat(toString(sum(count)), ' ', toString(sum(total_duration_ms))) FROM user_activity WHERE user_id = 1 AND action = 'Dashboard' AND date >= toDate(now('UTC')) - 1"))
	require.EqualValues(t, 100, value[uint64](t, r.db, "SELECT sum(count) FROM user_activity WHERE user_id = 3 AND action = 'other'"))
	require.EqualValues(t, 50, value[uint64](t, r.db, "SELECT lengthUTF8(action) FROM user_activity WHERE user_id = 4"))
}
