package server_test

import (
	"context"
	"encoding/json"
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

// gqlgen panics at a directive whose argument is null, which a variable with a default may be.
func TestServer_ADirectiveNeedsAValue(t *testing.T) {
	t.Parallel()
	e := open(t)
	c := (&fixture{url: "ws" + strings.TrimPrefix(e.url, "http") + "/graphql"}).dial(t)
	c.send(`{"type":"connection_init","payload":{"authorization":"Bearer ` + tokenOf(t, ordinary) + `"}}`)
	c.expect(ack)
	for _, query := range []string{
		`query($x: Boolean = true) { viewer { id @skip(if: $x) } }`,
		`query($x: Boolean = true) { viewer @include(if: $x) { id } }`,
		`query($x: Boolean = true) { ...F ...F @skip(if: $x) } fragment F on Query { viewer { id } }`,
		`query($x: Boolean = true) { ... on Query { ...F } } fragment F on Query { viewer { ... @skip(if: $x) { id } } }`,
	} {
		x := e.postWith(t, query, map[string]any{"x": nil})
		require.Contains(t, x.body, string(models.BadUserInput), query)
		require.Contains(t, e.postWith(t, query, nil).body, `"data"`, query)
		payload, err := json.Marshal(map[string]any{"query": query, "variables": map[string]any{"x": nil}})
		require.NoError(t, err)
		c.send(`{"id":"x","type":"subscribe","payload":` + string(payload) + `}`)
		require.Contains(t, c.receive(), string(models.BadUserInput), query)
	}
	require.Contains(t, e.postWith(t, `query($x: Boolean = true, $y: String = "") { viewer { email @include(if: $x) } }`, map[string]any{"y": nil}).body, "$y", "it is used nowhere")
	c.send(`{"id":"q","type":"subscribe","payload":{"query":"{ viewer { email } }"}}`)
	require.Contains(t, c.receive(), "alice@example.com")
	c.expect(`{"id":"q","type":"complete"}`)
}
