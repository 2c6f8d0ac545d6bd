// Package edge runs the whole server in a benchmark's own process, on the databases of a test.
package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

// Edge is the server, without a network before it.
type Edge struct {
	handler http.Handler
	tokens  map[int]string // of the users who have asked
}

var secret = bytes.Repeat([]byte("s"), server.MinSecret)

// Open assembles a server that ends with the benchmark.
func Open(b testing.TB, db *testdb.DB) *Edge {
	b.Helper()
	s, err := store.Open(store.Config{URL: db.AppURL, Log: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	b.Cleanup(func() { _ = s.Close() })
	a, err := analytics.Open(analytics.Config{URL: db.ClickHouseURL})
	require.NoError(b, err)
	b.Cleanup(func() { _ = a.Close() })
	edge, err := server.New(server.Config{
		Resolvers:    &resolvers.Resolver{Store: s, Analytics: a, Loaders: new(loaders.Loaders)},
		Authenticate: s.Viewer, Secret: secret,
	})
	require.NoError(b, err)
	return &Edge{handler: edge.Handler(), tokens: map[int]string{}}
}

// Ask has a user ask one operation, and returns the answer, which has no errors, and how long it took. It is for one goroutine.
func (e *Edge) Ask(ctx context.Context, b testing.TB, user int, query string, variables map[string]any) ([]byte, time.Duration) {
	b.Helper()
	if e.tokens[user] == "" {
		token, err := server.NewToken(secret, user, 5*time.Hour)
		require.NoError(b, err)
		e.tokens[user] = token
	}
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	require.NoError(b, err)
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/graphql", bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+e.tokens[user])
	response := httptest.NewRecorder()
	began := time.Now()
	e.handler.ServeHTTP(response, request)
	took := time.Since(began)
	require.NotContains(b, response.Body.String(), `"errors"`)
	return response.Body.Bytes(), took
}

// Percentile is the time that p of a hundred requests did not exceed.
func Percentile(times []time.Duration, p int) time.Duration {
	times = slices.Sorted(slices.Values(times))
	return times[(len(times)-1)*p/100]
}
