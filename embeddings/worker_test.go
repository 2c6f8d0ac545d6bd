package embeddings_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embeddings"
	"github.com/netra-ai/netra/internal/embedtest"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

const (
	model   = "words-1"
	patient = 2 * time.Minute // with a machine that has other things to do
)

// lab is a database with two tenants, and an endpoint.
type lab struct {
	db       *testdb.DB
	owner    *sql.DB
	endpoint *embedtest.Server
	log      *logged
}

type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

func setup(t *testing.T) *lab {
	t.Helper()
	db := testdb.NewPostgres(t)
	l := &lab{db: db, owner: db.Owner(t), endpoint: embedtest.New(t), log: &logged{}}
	l.exec(t, `INSERT INTO users (id, email) SELECT n, 'user' || n || '@example.com' FROM generate_series(1, 2) n`)
	return l
}

func (l *lab) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := l.owner.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err)
}

func (l *lab) add(t *testing.T, name, content string) (id uuid.UUID) {
	t.Helper()
	require.NoError(t, l.owner.QueryRowContext(t.Context(), `INSERT INTO "references" (user_id, name, type, content, updated_at) VALUES (1, $1, 'document', $2, '2026-01-01') RETURNING id`, name, content).Scan(&id))
	return id
}

func (l *lab) connect(t *testing.T, config embeddings.Config) (*store.Store, *embeddings.Endpoint) {
	t.Helper()
	s, err := store.Open(store.Config{URL: l.db.AppURL, StatementTimeout: patient, Log: slog.New(slog.NewTextHandler(l.log, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	config.URL, config.Key = l.endpoint.URL, embedtest.Key
	if config.Model == "" {
		config.Model = model
	}
	endpoint, err := embeddings.New(config)
	require.NoError(t, err)
	t.Cleanup(endpoint.Close)
	return s, endpoint
}

// work runs a worker that is in a hurry, until the test ends or stop.
func (l *lab) work(t *testing.T, config embeddings.Config, adjust func(*embeddings.Worker)) (endpoint *embeddings.Endpoint, stop func()) {
	t.Helper()
	s, endpoint := l.connect(t, config)
	w := embeddings.Worker{Store: s, Endpoint: endpoint, Log: slog.New(slog.NewTextHandler(l.log, nil)), Poll: 20 * time.Millisecond, FirstBackoff: 10 * time.Millisecond, LastBackoff: 50 * time.Millisecond}
	if adjust != nil {
		adjust(&w)
	}
	_, err := s.EmbeddingModel(models.WithViewer(t.Context(), models.System), endpoint.Model())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return endpoint, stop
}

// await waits until a statement is true.
func (l *lab) await(t *testing.T, condition string, args ...any) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var ok bool
		require.NoError(c, l.owner.QueryRowContext(t.Context(), "SELECT "+condition, args...).Scan(&ok))
		require.True(c, ok, l.log.String())
	}, patient, 20*time.Millisecond)
}

const allEmbedded = `(SELECT bool_and(embedding IS NOT NULL AND embedding_hash = reference_hash(name, metadata, content)) FROM "references") AND NOT EXISTS (SELECT FROM embedding_jobs)`

// holds says whether a reference has the embedding of a text.
func (l *lab) holds(t *testing.T, id uuid.UUID, model, text string) bool {
	t.Helper()
	vector, err := models.FormatVector(embedtest.Embed(model, text))
	require.NoError(t, err)
	var ok sql.NullBool
	require.NoError(t, l.owner.QueryRowContext(t.Context(), `SELECT embedding <-> $2::text::vector < 0.01 FROM "references" WHERE id = $1`, id, vector).Scan(&ok))
	return ok.Bool
}

func TestWorker_EmbedsEveryReferenceOnceThoughSeveralWork(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.exec(t, `INSERT INTO "references" (user_id, name, type, content, metadata, updated_at) SELECT 1 + n % 2, 'sheet ' || n, 'document', 'content ' || n, '{"description": "described"}', '2026-01-01' FROM generate_series(1, 150) n`)
	l.exec(t, `ANALYZE "references"`)
	var endpoint *embeddings.Endpoint
	for range 2 {
		endpoint, _ = l.work(t, embeddings.Config{}, func(w *embeddings.Worker) { w.Batch, w.Characters = 8, 200 })
	}
	l.await(t, allEmbedded)
	seen := map[string]int{}
	for _, call := range l.endpoint.Calls() {
		require.Equal(t, model, call.Model)
		require.Zero(t, call.Dimensions, "not every server knows it")
		require.LessOrEqual(t, len(strings.Join(call.Input, "")), 200)
		for _, text := range call.Input {
			seen[text]++
		}
	}
	require.Len(t, seen, 150)
	for text, times := range seen {
		require.Equal(t, 1, times, text)
		require.Regexp(t, `^sheet \d+\ndescribed\ncontent \d+$`, text)
	}
	l.await(t, `(SELECT bool_and(updated_at = '2026-01-01' AND embedding_model = 'words-1' AND embedded_at IS NOT NULL AND embedding_error IS NULL) FROM "references")`)
	l.await(t, `(SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = 'idx_references_unembedded')`) // the statement's condition is that of the index
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(endpoint))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
}

func TestWorker_ATextThatChangesMeanwhileGetsItsOwnEmbedding(t *testing.T) {
	t.Parallel()
	l := setup(t)
	changed, given, emptied := l.add(t, "changed", "before"), l.add(t, "given", "text"), l.add(t, "", "emptied")
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.endpoint.Break(func(http.ResponseWriter, *http.Request, embedtest.Call) bool {
		once.Do(func() { close(asked); <-answer })
		return false
	})
	l.work(t, embeddings.Config{}, func(w *embeddings.Worker) { w.Concurrency = 1 })
	<-asked
	own, err := models.FormatVector(embedtest.Embed("own", "own"))
	require.NoError(t, err)
	l.exec(t, `UPDATE "references" SET content = 'after' WHERE id = $1`, changed)
	l.exec(t, `UPDATE "references" SET embedding = $2::text::vector WHERE id = $1`, given, own)
	l.exec(t, `UPDATE "references" SET content = ' ' WHERE id = $1`, emptied)
	close(answer)
	require.Eventually(t, func() bool { return l.holds(t, changed, model, "changed\nafter") }, patient, 20*time.Millisecond)
	l.await(t, `NOT EXISTS (SELECT FROM embedding_jobs)`)
	require.True(t, l.holds(t, given, "own", "own"), "what a writer gives is the writer's")
	l.await(t, `(SELECT embedding IS NULL FROM "references" WHERE id = $1)`, emptied)

	// Later changes are noticed too, with triggers off as well, and an edit is still an edit.
	l.exec(t, `UPDATE "references" SET updated_at = '2026-01-01' WHERE false`)
	l.exec(t, `UPDATE "references" SET metadata = '{"description": "more"}' WHERE id = $1`, changed)
	require.Eventually(t, func() bool { return l.holds(t, changed, model, "changed\nmore\nafter") }, patient, 20*time.Millisecond)
	l.await(t, `(SELECT updated_at <> '2026-01-01' FROM "references" WHERE id = $1)`, changed)
	// A vector in place of ours, and taken away again.
	l.exec(t, `UPDATE "references" SET embedding = $2::text::vector, embedding_model = 'own' WHERE id = $1`, changed, own)
	l.await(t, `(SELECT embedding_model = 'own' AND embedding_hash IS NULL AND embedded_at IS NULL FROM "references" WHERE id = $1)`, changed)
	l.exec(t, `UPDATE "references" SET content = 'never mind' WHERE id = $1`, changed)
	l.exec(t, `UPDATE "references" SET embedding = NULL WHERE id = $1`, given)
	require.Eventually(t, func() bool { return l.holds(t, given, model, "given\ntext") }, patient, 20*time.Millisecond)
	require.True(t, l.holds(t, changed, "own", "own"))
	// A text that is gone takes its embedding along.
	l.exec(t, `UPDATE "references" SET name = '', content = NULL WHERE id = $1`, given)
	l.await(t, `(SELECT embedding IS NULL AND embedding_hash IS NULL AND embedding_model IS NULL AND embedded_at IS NULL FROM "references" WHERE id = $1)`, given)
}

// TestWorker_OutlivesEveryFaultOfTheEndpoint breaks it until the worker has noticed, and nothing may be given up.
func TestWorker_OutlivesEveryFaultOfTheEndpoint(t *testing.T) {
	t.Parallel()
	raw := func(body string) func(http.ResponseWriter, *http.Request, embedtest.Call) {
		return func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) { _, _ = io.WriteString(w, body) }
	}
	vector := "[" + strings.Repeat("1,", models.EmbeddingDimensions-1)
	all := func(embedding string) func(http.ResponseWriter, *http.Request, embedtest.Call) {
		return func(w http.ResponseWriter, _ *http.Request, c embedtest.Call) {
			items := make([]string, len(c.Input))
			for i := range items {
				items[i] = fmt.Sprintf(`{"index":%d,"embedding":%s}`, i, embedding)
			}
			_, _ = io.WriteString(w, `{"data":[`+strings.Join(items, ",")+`]}`)
		}
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, embedtest.Call) {
		return func(w http.ResponseWriter, r *http.Request, _ embedtest.Call) {
			embedtest.Refuse(w, code, "some_code", "about "+r.Header.Get("Authorization"))
		}
	}
	l := setup(t)
	l.work(t, embeddings.Config{Timeout: time.Second}, nil)
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request, embedtest.Call){
		"500": status(500), "502 without JSON": func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) {
			http.Error(w, "<html>", http.StatusBadGateway)
		},
		"401": status(401), "404": status(404), "400 to everything": status(400), "429": status(429),
		"a redirect": func(w http.ResponseWriter, r *http.Request, _ embedtest.Call) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		},
		"silence":             func(_ http.ResponseWriter, r *http.Request, _ embedtest.Call) { <-r.Context().Done() },
		"a broken connection": func(http.ResponseWriter, *http.Request, embedtest.Call) { panic(http.ErrAbortHandler) },
		"half an answer": func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"data":[`)
		},
		"HTML": raw("<html>"), "nothing": raw(""), "too few": raw(`{"data":[]}`), "null": raw("null"),
		"the same index": func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) {
			_, _ = io.WriteString(w, `{"data":[`+strings.Repeat(`{"index":0,"embedding":`+vector+`1]},`, 2)+`{"index":0,"embedding":`+vector+`1]}]}`)
		},
		"few numbers": all("[1,2,3]"), "many numbers": all(vector + "1,1]"), "NaN": all(vector + "NaN]"), "a null among them": all(vector + "null]"),
		"a number over 32 bits": all(vector + "1e300]"), "zeros": all("[" + strings.Repeat("0,", models.EmbeddingDimensions-1) + "0]"), "a string": all(`"AAAA"`),
		"an endless answer": func(w http.ResponseWriter, r *http.Request, _ embedtest.Call) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		},
	} {
		l.log.forget()
		l.endpoint.Break(func(w http.ResponseWriter, r *http.Request, c embedtest.Call) bool { fault(w, r, c); return true })
		l.exec(t, `INSERT INTO "references" (user_id, name, type) SELECT 1, 'sheet ' || n, 'document' FROM generate_series(1, 3) n`)
		require.Eventually(t, func() bool { return strings.Contains(l.log.String(), "references wait") }, patient, 5*time.Millisecond, name)
		l.endpoint.Break(nil)
		l.await(t, allEmbedded)
		l.await(t, `NOT EXISTS (SELECT FROM "references" WHERE embedding_error IS NOT NULL)`)
		for _, secret := range []string{embedtest.Key, "sheet", "127.0.0.1"} {
			require.NotContains(t, l.log.String(), secret, name)
		}
	}
}

func TestWorker_LeavesTheEndpointAloneForAsLongAsItAsks(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.add(t, "sheet", "")
	var first, second atomic.Int64
	l.endpoint.Break(func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) bool {
		if first.CompareAndSwap(0, time.Now().UnixMilli()) {
			w.Header().Set("Retry-After", "1")
			embedtest.Refuse(w, http.StatusTooManyRequests, "rate_limit_exceeded", "slow down")
			return true
		}
		second.CompareAndSwap(0, time.Now().UnixMilli())
		return false
	})
	l.work(t, embeddings.Config{}, nil)
	l.await(t, allEmbedded)
	require.GreaterOrEqual(t, second.Load()-first.Load(), int64(1000))
	require.Contains(t, l.log.String(), "rate_limit_exceeded")
}

func TestWorker_ATextThatIsNotTakenHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.exec(t, `INSERT INTO "references" (user_id, name, type) SELECT 1, 'sheet ' || n, 'document' FROM generate_series(1, 20) n`)
	poison, strange := l.add(t, "poison", ""), l.add(t, "strange", "")
	long := l.add(t, "long", strings.Repeat("word ", 4000))
	l.endpoint.Break(func(w http.ResponseWriter, _ *http.Request, c embedtest.Call) bool {
		for _, text := range c.Input {
			switch {
			case strings.Contains(text, "poison"), len(text) > 4000:
				embedtest.Refuse(w, http.StatusBadRequest, "invalid_input", text)
				return true
			case strings.Contains(text, "strange"):
				_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[NaN]}]}`)
				return true
			}
		}
		return false
	})
	l.work(t, embeddings.Config{}, func(w *embeddings.Worker) { w.Attempts = 2 })
	l.await(t, `(SELECT count(*) FROM "references" WHERE embedding IS NOT NULL) = 21 AND NOT EXISTS (SELECT FROM embedding_jobs)`)
	l.await(t, `(SELECT embedding IS NULL AND embedding_error = 'refused' FROM "references" WHERE id = $1)`, poison)
	l.await(t, `(SELECT embedding IS NULL AND embedding_error = 'malformed' FROM "references" WHERE id = $1)`, strange)
	require.True(t, l.holds(t, long, model, ("long\n" + strings.Repeat("word ", 4000))[:2500]), "as much of it as is taken: a quarter, an eighth and so on")
	require.Contains(t, l.log.String(), poison.String())
	require.NotContains(t, l.log.String(), "poison")

	calls := len(l.endpoint.Calls())
	l.exec(t, `UPDATE "references" SET name = 'remedy' WHERE id = $1`, poison)
	require.Eventually(t, func() bool { return l.holds(t, poison, model, "remedy") }, patient, 20*time.Millisecond)
	l.await(t, `(SELECT embedding_error IS NULL FROM "references" WHERE id = $1)`, poison)
	require.Len(t, l.endpoint.Calls(), calls+1, "what has failed is not tried again by itself")

	// An operator can have it tried again.
	l.endpoint.Break(nil)
	s, _ := l.connect(t, embeddings.Config{})
	n, err := s.RetryEmbeddings(models.WithViewer(t.Context(), models.System))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	l.await(t, allEmbedded)
}

// Some servers break down over a text that they should refuse.
func TestWorker_ATextThatBreaksTheEndpointHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	l := setup(t)
	poison, long := l.add(t, "poison", ""), l.add(t, "long", strings.Repeat("word ", 4000)) // are tried first
	l.exec(t, `INSERT INTO "references" (user_id, name, type) SELECT 1, 'sheet ' || n, 'document' FROM generate_series(1, 20) n`)
	l.endpoint.Break(func(w http.ResponseWriter, _ *http.Request, c embedtest.Call) bool {
		for _, text := range c.Input {
			if strings.Contains(text, "poison") || len(text) > 4000 {
				embedtest.Refuse(w, http.StatusInternalServerError, "server_error", text)
				return true
			}
		}
		return false
	})
	l.work(t, embeddings.Config{}, func(w *embeddings.Worker) { w.Attempts = 2 })
	l.await(t, `(SELECT count(*) FROM "references" WHERE embedding IS NOT NULL) = 21 AND NOT EXISTS (SELECT FROM embedding_jobs)`)
	l.await(t, `(SELECT embedding IS NULL AND embedding_error = 'failing' FROM "references" WHERE id = $1)`, poison)
	require.True(t, l.holds(t, long, model, ("long\n" + strings.Repeat("word ", 4000))[:2500]), "as much of it as is taken")
	require.NotContains(t, l.log.String(), "poison")
}

func TestWorker_DemandsShortVectorsOfModelsThatGiveLongOnes(t *testing.T) {
	t.Parallel()
	l := setup(t)
	id := l.add(t, "sheet", "")
	l.endpoint.Break(func(w http.ResponseWriter, _ *http.Request, c embedtest.Call) bool {
		if c.Dimensions == models.EmbeddingDimensions {
			return false
		}
		_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[`+strings.Repeat("1,", 3071)+`1]}]}`)
		return true
	})
	l.work(t, embeddings.Config{}, nil)
	l.await(t, allEmbedded)
	require.True(t, l.holds(t, id, model, "sheet"))
}

func TestWorker_WhoIsGoneLosesTheWorkToOthers(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.add(t, "sheet", "")
	s, endpoint := l.connect(t, embeddings.Config{})
	system := models.WithViewer(t.Context(), models.System)
	_, err := s.EmbeddingModel(system, endpoint.Model())
	require.NoError(t, err)
	gone := uuid.New()
	jobs, err := s.ClaimEmbeddings(system, model, gone, 10, time.Minute)
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	again, err := s.ClaimEmbeddings(system, model, uuid.New(), 10, time.Minute)
	require.NoError(t, err)
	require.Empty(t, again, "a lease is a lease")
	l.exec(t, `UPDATE embedding_jobs SET due = clock_timestamp()`) // a minute has passed
	l.work(t, embeddings.Config{}, nil)
	l.await(t, allEmbedded)
	l.exec(t, `UPDATE "references" SET embedding_hash = 0`)
	written, err := s.SettleEmbedding(system, gone, jobs[0], model, "", "late")
	require.NoError(t, err)
	require.False(t, written, "who comes late changes nothing")
}

func TestWorker_StopsInTheMiddleAndLeavesTheWorkToOthers(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.add(t, "sheet", "")
	asked := make(chan struct{}, 10)
	l.endpoint.Break(func(_ http.ResponseWriter, r *http.Request, _ embedtest.Call) bool {
		asked <- struct{}{}
		<-r.Context().Done()
		return true
	})
	_, stop := l.work(t, embeddings.Config{}, nil)
	<-asked
	stop()
	l.endpoint.Break(nil)
	began := time.Now()
	l.work(t, embeddings.Config{}, nil)
	l.await(t, allEmbedded)
	require.Less(t, time.Since(began), time.Minute, "nobody waits for a lease of five")
}

func TestWorker_LeavesNoLeaseWheneverItIsStopped(t *testing.T) {
	t.Parallel()
	l := setup(t)
	l.add(t, "sheet", "")
	l.endpoint.Break(func(_ http.ResponseWriter, r *http.Request, _ embedtest.Call) bool {
		<-r.Context().Done()
		return true
	})
	s, endpoint := l.connect(t, embeddings.Config{})
	_, err := s.EmbeddingModel(models.WithViewer(t.Context(), models.System), endpoint.Model())
	require.NoError(t, err)
	for moment := range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(moment)*200*time.Microsecond)
		embeddings.Worker{Store: s, Endpoint: endpoint, Log: slog.New(slog.DiscardHandler)}.Run(ctx)
		cancel()
		var leases int
		require.NoError(t, l.owner.QueryRowContext(t.Context(), `SELECT count(*) FROM embedding_jobs WHERE due > clock_timestamp()`).Scan(&leases))
		require.Zero(t, leases, "stopped after %d × 200 µs", moment)
	}
}

func TestWorker_EmbedsAnewWhenTheModelIsChanged(t *testing.T) {
	t.Parallel()
	l := setup(t)
	id := l.add(t, "sheet", "")
	own := l.add(t, "own", "")
	vector, err := models.FormatVector(embedtest.Embed("own", "own"))
	require.NoError(t, err)
	l.exec(t, `UPDATE "references" SET embedding = $2::text::vector WHERE id = $1`, own, vector)
	l.work(t, embeddings.Config{}, nil)
	l.await(t, `(SELECT embedding_model = 'words-1' FROM "references" WHERE id = $1)`, id)

	// A replica with another model waits for the word.
	l.work(t, embeddings.Config{Model: "words-2"}, nil)
	require.Eventually(t, func() bool { return strings.Contains(l.log.String(), "another model embeds for this database") }, patient, 20*time.Millisecond)
	later := l.add(t, "later", "")
	l.await(t, `(SELECT embedding_model = 'words-1' FROM "references" WHERE id = $1)`, later)
	s, _ := l.connect(t, embeddings.Config{})
	system := models.WithViewer(t.Context(), models.System)
	require.NoError(t, s.SetEmbeddingModel(system, "words-2"))
	l.await(t, `(SELECT bool_and(embedding_model = 'words-2') FROM "references" WHERE id <> $1)`, own)
	require.True(t, l.holds(t, id, "words-2", "sheet"))
	require.True(t, l.holds(t, own, "own", "own"), "what a writer gave stays")
	for _, call := range l.endpoint.Calls() {
		require.NotContains(t, call.Input, "own")
	}
	used, counts, err := s.EmbeddingStates(system)
	require.NoError(t, err)
	require.Equal(t, "words-2", used)
	require.Equal(t, map[models.EmbeddingStatus]int{models.EmbeddingReady: 3}, counts)
}

func TestEndpoint_AsksForNobodyWithoutAViewer(t *testing.T) {
	t.Parallel()
	server := embedtest.New(t)
	endpoint, err := embeddings.New(embeddings.Config{URL: server.URL, Model: model, Key: embedtest.Key})
	require.NoError(t, err)
	defer endpoint.Close()
	_, err = endpoint.Query(t.Context(), "text")
	require.Equal(t, models.Unauthenticated, models.CodeOf(err))
	require.Empty(t, server.Calls())
}

func TestEndpoint_OneUserCannotHoldAllPlaces(t *testing.T) {
	t.Parallel()
	server := embedtest.New(t)
	endpoint, err := embeddings.New(embeddings.Config{URL: server.URL, Model: model, Key: embedtest.Key, Queries: 3, Waiting: 1, QueryDeadline: time.Minute})
	require.NoError(t, err)
	defer endpoint.Close()
	stalled := make(chan struct{})
	arrived := make(chan struct{}, 3)
	server.Break(func(_ http.ResponseWriter, _ *http.Request, c embedtest.Call) bool {
		if strings.HasPrefix(c.Input[0], "slow") {
			arrived <- struct{}{}
			<-stalled
		}
		return false
	})
	alice, bob := models.WithViewer(t.Context(), models.Viewer{UserID: 1}), models.WithViewer(t.Context(), models.Viewer{UserID: 2})
	failures := make(chan error, 4)
	for i := range 4 {
		go func() {
			_, err := endpoint.Query(alice, fmt.Sprint("slow ", i))
			failures <- err
		}()
	}
	<-arrived
	<-arrived
	require.Equal(t, models.RateLimited, models.CodeOf(<-failures), "two of hers are embedded, one waits, and that is all")
	_, err = endpoint.Query(bob, "quick")
	require.NoError(t, err)
	close(stalled)
	for range 3 {
		require.NoError(t, <-failures)
	}
}
