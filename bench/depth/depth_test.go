// Package depth_test measures that a page deep in a thread costs what its first page costs, and that the reference query needs as many
// statements over a million messages as over a hundred.
package depth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

// 10 threads of 100,000 messages each, of one user among others.
const populate = `
	INSERT INTO users (id, email) SELECT n, 'user' || n || '@example.com' FROM generate_series(1, 100) n;
	INSERT INTO threads (id, user_id, title, created_at) SELECT md5('thread' || n)::uuid, 1 + n / 10, 'thread ' || n, now() - n * interval '1 minute' FROM generate_series(0, 999) n;
	INSERT INTO runs (user_id, thread_id, input_data) SELECT t.user_id, t.id, '{}' FROM threads t, generate_series(1, 5);
	ALTER TABLE messages DISABLE TRIGGER USER;
	INSERT INTO messages (thread_id, user_id, role, content, created_at)
		SELECT md5('thread' || n % 10)::uuid, 1, 'user', repeat('what was said ', 20), timestamptz '2026-01-01' + n * interval '1 second' FROM generate_series(0, 999999) n;
	ALTER TABLE messages ENABLE TRIGGER USER;`

func BenchmarkPageDepth(b *testing.B) {
	db := testdb.New(b)
	owner := db.Owner(b)
	_, err := owner.ExecContext(b.Context(), populate)
	require.NoError(b, err)
	_, err = owner.ExecContext(b.Context(), "VACUUM ANALYZE messages, threads, runs, users")
	require.NoError(b, err)
	api := open(b, db)
	thread := models.GlobalID{Kind: models.KindThread, Key: "0"}
	require.NoError(b, owner.QueryRowContext(b.Context(), "SELECT md5('thread0')::uuid").Scan(&thread.Key))

	const query = `query($thread: ID!, $after: String) { thread(id: $thread) { messages(first: 20, after: $after) { nodes { id role content createdAt } pageInfo { endCursor } } } }`
	var deep string // after 90 % of the thread
	require.NoError(b, owner.QueryRowContext(b.Context(), `SELECT id::text || ' ' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
		FROM messages WHERE thread_id = md5('thread0')::uuid ORDER BY created_at, id OFFSET 90000 LIMIT 1`).Scan(&deep))
	after := models.Cursor{Column: "created_at", Value: deep[37:], ID: deep[:36]}.String()
	first := map[string]any{"thread": thread.String()}
	far := map[string]any{"thread": thread.String(), "after": after}

	var shallow, deeper []time.Duration
	for range 20 { // warm both
		api.ask(b, query, first)
		api.ask(b, query, far)
	}
	for b.Loop() { // alternating, so that both meet the same weather
		shallow = append(shallow, api.ask(b, query, first))
		deeper = append(deeper, api.ask(b, query, far))
	}
	b.ReportMetric(float64(median(deeper))/float64(median(shallow)), "deep/first")
	b.ReportMetric(float64(median(shallow).Microseconds()), "first-µs")
	b.ReportMetric(float64(median(deeper).Microseconds()), "deep-µs")

	const reference = `{ viewer { threads(first: 20) { nodes { title messages(first: 20) { nodes { role content } } runs(first: 5) { nodes { status } } } } } }`
	tally := new(models.Tally)
	api.ctx = models.WithTally(api.ctx, tally)
	api.ask(b, reference, nil)
	b.ReportMetric(float64(tally.Statements.Load()), "reference-statements")
}

type api struct {
	ctx     context.Context
	handler http.Handler
	token   string
}

func open(b *testing.B, db *testdb.DB) *api {
	s, err := store.Open(store.Config{URL: db.AppURL})
	require.NoError(b, err)
	b.Cleanup(func() { _ = s.Close() })
	a, err := analytics.Open(analytics.Config{URL: db.ClickHouseURL})
	require.NoError(b, err)
	b.Cleanup(func() { _ = a.Close() })
	secret := []byte("a secret of a benchmark, long enough for it")
	edge, err := server.New(server.Config{
		Resolvers:    &resolvers.Resolver{Store: s, Analytics: a, Loaders: new(loaders.Loaders)},
		Authenticate: s.Viewer, Secret: secret,
	})
	require.NoError(b, err)
	token, err := server.NewToken(secret, 1, time.Hour)
	require.NoError(b, err)
	return &api{b.Context(), edge.Handler(), token}
}

// ask runs an operation through the whole server and returns how long it took.
func (a *api) ask(b *testing.B, query string, variables map[string]any) time.Duration {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	require.NoError(b, err)
	request := httptest.NewRequestWithContext(a.ctx, http.MethodPost, "/graphql", bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+a.token)
	response := httptest.NewRecorder()
	began := time.Now()
	a.handler.ServeHTTP(response, request)
	took := time.Since(began)
	require.NotContains(b, response.Body.String(), `"errors"`)
	require.Contains(b, response.Body.String(), `"nodes":[{`)
	return took
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
