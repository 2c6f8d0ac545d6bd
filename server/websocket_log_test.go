package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

func TestWebsocket_EachOperationIsLoggedAndCountedWhenItEnds(t *testing.T) {
	t.Parallel()
	watched := make(chan *models.RunEvent)
	e := open(t, func(cfg *server.Config) {
		cfg.Resolvers = &graphStub{viewer: alice, watch: func(context.Context) (<-chan *models.RunEvent, error) { return watched, nil }}
	})
	f := &fixture{url: "ws" + strings.TrimPrefix(e.url, "http") + "/graphql"}
	c := f.dial(t)
	c.send(`{"type":"connection_init","payload":{"authorization":"Bearer ` + tokenOf(t, ordinary) + `"}}`)
	c.expect(ack)
	ended := func(n int) map[string]any {
		t.Helper()
		require.Eventually(t, func() bool { return len(e.log.with(t, "operation")) == n }, soon, time.Millisecond)
		line := e.log.with(t, "operation")[n-1]
		require.NotEmpty(t, line["request_id"])
		require.EqualValues(t, subprot, line["transport"])
		require.Positive(t, line["duration"])
		return line
	}

	c.send(`{"id":"s","type":"subscribe","payload":{"query":"subscription Watch { runStatusChanged { version } }"}}`)
	watched <- &models.RunEvent{Version: 1}
	require.Contains(t, c.receive(), `"version":1`)
	c.send(`{"id":"q","type":"subscribe","payload":{"query":"query Who { viewer { email } }"}}`)
	require.Contains(t, c.receive(), "alice@example.com")
	c.expect(`{"id":"q","type":"complete"}`)
	line := ended(1)
	require.Equal(t, []any{"query", "Who", "ok", 1.0, float64(ordinary)}, []any{line["type"], line["operation"], line["outcome"], line["events"], line["user"]})

	c.send(`{"id":"q","type":"subscribe","payload":{"query":"query Bad { nothing }"}}`)
	require.Contains(t, c.receive(), "GRAPHQL_VALIDATION_FAILED")
	line = ended(2)
	require.Equal(t, []any{"query", "Bad", "refused", 0.0, "GRAPHQL_VALIDATION_FAILED"}, []any{line["type"], line["operation"], line["outcome"], line["events"], line["errors"]})

	watched <- &models.RunEvent{Version: 2}
	require.Contains(t, c.receive(), `"version":2`)
	close(watched)
	c.expect(`{"id":"s","type":"complete"}`)
	line = ended(3)
	require.Equal(t, []any{"subscription", "Watch", "ok", 2.0, float64(ordinary)}, []any{line["type"], line["operation"], line["outcome"], line["events"], line["user"]})

	metrics := e.ask(t, http.MethodGet, "/metrics", "").body
	for _, labels := range []string{`outcome="ok",type="query"`, `outcome="refused",type="query"`, `outcome="ok",type="subscription"`} {
		require.Contains(t, metrics, "netra_operation_duration_seconds_count{"+labels+"} 1")
	}
}
