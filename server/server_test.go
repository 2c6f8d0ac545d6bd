package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

// held is a viewer field that answers only when it is let go, or its context ends.
type held struct {
	entered chan struct{}
	release chan struct{}
	ended   chan error // why the context ended
}

func newHeld() *held {
	return &held{entered: make(chan struct{}, 10), release: make(chan struct{}), ended: make(chan error, 10)}
}

func (h *held) viewer(ctx context.Context) (*models.User, error) {
	h.entered <- struct{}{}
	select {
	case <-h.release:
		return alice(ctx)
	case <-ctx.Done():
		h.ended <- ctx.Err()
		return nil, ctx.Err()
	}
}

// serving is a server on a port of its own, until stop.
type serving struct {
	*edge
	stop context.CancelFunc
	done chan error
}

func serve(t *testing.T, change ...func(*server.Config)) *serving {
	t.Helper()
	cfg := server.Config{Resolvers: answers{viewer: alice}, Authenticate: knownUsers, Secret: secret, Grace: soon}
	for _, c := range change {
		c(&cfg)
	}
	s, err := server.New(cfg)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listener) }()
	t.Cleanup(stop)
	return &serving{edge: &edge{url: "http://" + listener.Addr().String()}, stop: stop, done: done}
}

func within[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case value := <-c:
		return value
	case <-time.After(soon):
		require.FailNow(t, "nothing came in time")
		panic("unreachable")
	}
}

func TestServe_LetsRequestsFinish(t *testing.T) {
	t.Parallel()
	h := newHeld()
	s := serve(t, resolving(answers{viewer: h.viewer}))
	answered := make(chan *exchange, 1)
	go func() { answered <- s.post(t, "{viewer{email}}") }()
	within(t, h.entered)
	s.stop()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	}, soon, time.Millisecond, "no new connections are taken")
	select {
	case err := <-s.done:
		require.FailNow(t, "it did not wait", err)
	default:
	}
	close(h.release)
	require.JSONEq(t, `{"viewer":{"email":"alice@example.com"}}`, string(within(t, answered).answer.Data))
	require.NoError(t, within(t, s.done))
}

func TestServe_EndsWithinTheGracePeriod(t *testing.T) {
	t.Parallel()
	h := newHeld()
	s := serve(t, resolving(answers{viewer: h.viewer}), func(cfg *server.Config) { cfg.Grace = 50 * time.Millisecond })
	go func() {
		r, _ := http.NewRequest(http.MethodPost, s.url+"/graphql", strings.NewReader(`{"query":"{viewer{email}}"}`))
		r.Header.Set("Content-Type", jsonType)
		r.Header.Set("Authorization", "Bearer "+tokenOf(t, ordinary))
		if response, err := http.DefaultClient.Do(r); err == nil { // it is cut off
			_ = response.Body.Close()
		}
	}()
	within(t, h.entered)
	s.stop()
	require.NoError(t, within(t, s.done))
	require.ErrorIs(t, within(t, h.ended), context.Canceled)
}

func TestServe_TellsSocketsToGoElsewhere(t *testing.T) {
	t.Parallel()
	s := serve(t)
	dialer := websocket.Dialer{Subprotocols: []string{subprot}}
	conn, response, err := dialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/graphql", nil)
	require.NoError(t, err)
	require.NotEmpty(t, response.Header.Get("Sec-WebSocket-Accept"))
	c := client{t, conn}
	c.send(fmt.Sprintf(`{"type":"connection_init","payload":{"authorization":"Bearer %s"}}`, tokenOf(t, ordinary)))
	c.expect(ack)
	c.send(subscribe("1", whoami))
	c.expect(`{"id":"1","type":"next","payload":` + whoamiOK + `}`)
	c.expect(`{"id":"1","type":"complete"}`)
	s.stop()
	c.expectClose(websocket.CloseServiceRestart)
	require.NoError(t, within(t, s.done))
}

func TestServe_SaysWhyItCannot(t *testing.T) {
	t.Parallel()
	s, err := server.New(server.Config{Resolvers: answers{}, Authenticate: knownUsers, Secret: secret})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	require.ErrorIs(t, s.Serve(t.Context(), listener), net.ErrClosed)
}

func TestServer_AClientThatLeavesEndsItsOperation(t *testing.T) {
	t.Parallel()
	h := newHeld()
	e := open(t, resolving(answers{viewer: h.viewer}))
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/graphql", strings.NewReader(`{"query":"{viewer{id}}"}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("Authorization", "Bearer "+tokenOf(t, ordinary))
	gone := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(r)
		gone <- err
	}()
	within(t, h.entered)
	leave()
	require.ErrorIs(t, within(t, gone), context.Canceled)
	require.ErrorIs(t, within(t, h.ended), context.Canceled)
	require.Empty(t, e.log.with(t, "operation failed"), "that is nobody's fault")
}

func TestServer_LogsOneLineForEachRequest(t *testing.T) {
	t.Parallel()
	e := open(t)
	x := e.ask(t, http.MethodPost, "/graphql", `{"query":"query Who{viewer{email}}"}`,
		"Content-Type", jsonType, "Authorization", "Bearer "+tokenOf(t, ordinary), "X-Request-Id", "abc-123")
	require.Equal(t, "abc-123", x.header.Get("X-Request-Id"))
	e.ask(t, http.MethodPost, "/graphql", `{"query":"{viewer{email}}"}`, "Content-Type", jsonType, "X-Request-Id", "not\tharmless")
	require.Eventually(t, func() bool { return len(e.log.with(t, "request")) == 2 }, soon, time.Millisecond)
	first, second := e.log.with(t, "request")[0], e.log.with(t, "request")[1]
	require.Equal(t, "abc-123", first["request_id"])
	require.Equal(t, "Who", first["operation"])
	require.Equal(t, "query", first["type"])
	require.EqualValues(t, ordinary, first["user"])
	require.EqualValues(t, 200, first["status"])
	require.EqualValues(t, len(x.body), first["bytes"])
	require.Contains(t, first, "duration")
	require.NotContains(t, first, "errors")
	require.Regexp(t, `^[0-9a-f]{16}$`, second["request_id"])
	require.Equal(t, "UNAUTHENTICATED", second["errors"])
	require.NotContains(t, second, "user")
}

func TestServer_Readiness(t *testing.T) {
	t.Parallel()
	fine := func(context.Context) error { return nil }
	away := func(context.Context) error { return errors.New("password=hunter2") }
	hanging := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, test := range map[string]struct {
		postgres, clickhouse func(context.Context) error
		status               int
		body                 string
	}{
		"both there":      {fine, fine, 200, `{"status":"ready","checks":{"postgres":"ok","clickhouse":"ok"}}`},
		"no analytics":    {fine, away, 200, `{"status":"degraded","checks":{"postgres":"ok","clickhouse":"unavailable"}}`},
		"no database":     {away, fine, 503, `{"status":"unavailable","checks":{"postgres":"unavailable","clickhouse":"ok"}}`},
		"nothing":         {away, away, 503, `{"status":"unavailable","checks":{"postgres":"unavailable","clickhouse":"unavailable"}}`},
		"hanging is away": {fine, hanging, 200, `{"status":"degraded","checks":{"postgres":"ok","clickhouse":"unavailable"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t, func(cfg *server.Config) {
				cfg.Ready = []server.Check{{Name: "postgres", Required: true, Probe: test.postgres}, {Name: "clickhouse", Probe: test.clickhouse}}
			})
			x := e.ask(t, http.MethodGet, "/readyz", "")
			require.Equal(t, test.status, x.status)
			require.JSONEq(t, test.body, x.body)
			x = e.ask(t, http.MethodGet, "/healthz", "")
			require.Equal(t, http.StatusOK, x.status)
			require.JSONEq(t, `{"status":"ok"}`, x.body)
		})
	}
}

func TestServer_MetricsAreNotForEverybody(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.post(t, "{viewer{id}}")
	e.post(t, "query CardinalityBomb{nothing}")
	for name, test := range map[string]struct {
		headers []string
		status  int
	}{
		"this machine":              {nil, 200},
		"a stranger behind a proxy": {[]string{"X-Forwarded-For", "192.0.2.1"}, 401},
		"an ordinary user":          {[]string{"X-Forwarded-For", "192.0.2.1", "Authorization", "Bearer " + tokenOf(t, ordinary)}, 403},
		"a superuser":               {[]string{"Forwarded", "for=192.0.2.1", "Authorization", "Bearer " + tokenOf(t, super)}, 200},
		"a bad token":               {[]string{"X-Forwarded-For", "192.0.2.1", "Authorization", "Bearer x"}, 401},
	} {
		x := e.ask(t, http.MethodGet, "/metrics", "", test.headers...)
		require.Equal(t, test.status, x.status, name)
		if test.status == http.StatusOK {
			require.Contains(t, x.body, `netra_operation_duration_seconds_count{outcome="ok",type="query"} 1`)
			require.Contains(t, x.body, `netra_operation_duration_seconds_count{outcome="refused",type="query"} 1`)
			require.Contains(t, x.body, `netra_http_request_duration_seconds_count{method="POST",route="/graphql",status="200"} 1`)
			require.Contains(t, x.body, "netra_streams 0")
			require.Contains(t, x.body, "go_goroutines")
			require.NotContains(t, x.body, "CardinalityBomb")
		}
	}
}

func TestServer_PagesOfOtherOrigins(t *testing.T) {
	t.Parallel()
	const app = "https://app.example.com"
	strict := open(t)
	shared := open(t, func(cfg *server.Config) { cfg.AllowedOrigins = []string{app} })
	for name, test := range map[string]struct {
		at      *edge
		origin  string
		allowed string
	}{
		"none may read by default": {strict, app, ""},
		"the listed one may":       {shared, app, app},
		"others may not":           {shared, "https://evil.example.com", ""},
		"null may not":             {shared, "null", ""},
	} {
		for _, method := range []string{http.MethodOptions, http.MethodPost} {
			x := test.at.ask(t, method, "/graphql", `{"query":"{__typename}"}`, "Origin", test.origin, "Content-Type", jsonType)
			require.Equal(t, test.allowed, x.header.Get("Access-Control-Allow-Origin"), name)
			require.Empty(t, x.header.Get("Access-Control-Allow-Credentials"))
			require.Equal(t, "Origin, Accept, Authorization", x.header.Get("Vary"))
			if method == http.MethodOptions {
				require.Equal(t, http.StatusNoContent, x.status)
				require.Equal(t, test.allowed != "", strings.Contains(x.header.Get("Access-Control-Allow-Headers"), "Authorization"))
			}
		}
		dialer := websocket.Dialer{Subprotocols: []string{subprot}}
		conn, response, err := dialer.Dial("ws"+strings.TrimPrefix(test.at.url, "http")+"/graphql", http.Header{"Origin": {test.origin}})
		if test.allowed == "" {
			require.ErrorIs(t, err, websocket.ErrBadHandshake, name)
			require.Equal(t, http.StatusForbidden, response.StatusCode)
			continue
		}
		require.NoError(t, err, name)
		require.NoError(t, conn.Close())
	}
}

func TestServer_ServesThePlaygroundBesideItsOwn(t *testing.T) {
	t.Parallel()
	e := open(t, func(cfg *server.Config) {
		cfg.Playground = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				panic("hunter2")
			}
			_, _ = io.WriteString(w, "the page")
		})
	})
	require.Equal(t, "the page", e.ask(t, http.MethodGet, "/", "").body)
	x := e.ask(t, http.MethodGet, "/panic", "")
	require.Equal(t, http.StatusInternalServerError, x.status)
	require.Equal(t, []string{"INTERNAL"}, x.codes())
	require.NotContains(t, x.body, "hunter2")
	require.Len(t, e.log.with(t, "operation failed"), 1)
}
