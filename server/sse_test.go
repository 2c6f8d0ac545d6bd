package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
)

// following is the graph with a subscription.
type following struct {
	answers
	watch func(ctx context.Context, after *string) (<-chan *models.RunEvent, error)
}

func (f following) Subscription() graph.SubscriptionResolver { return follower{following: f} }

type follower struct {
	graph.SubscriptionResolver
	following following
}

func (f follower) RunStatusChanged(ctx context.Context, _, _, after *string) (<-chan *models.RunEvent, error) {
	return f.following.watch(ctx, after)
}

func follows(watch func(ctx context.Context, after *string) (<-chan *models.RunEvent, error)) func(*server.Config) {
	return func(cfg *server.Config) { cfg.Resolvers = following{answers{viewer: alice}, watch} }
}

// told is one event of a stream.
type told struct {
	name, id, data string
	comment        string // before it
}

// reader reads server-sent events as a browser does.
type reader struct {
	t        *testing.T
	response *http.Response
	lines    *bufio.Reader
}

func (e *edge) events(t *testing.T, method, path, body string, headers ...string) *reader {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, e.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return &reader{t, response, bufio.NewReader(response.Body)}
}

// follow begins a stream of the ordinary user.
func (e *edge) follow(t *testing.T, query string, headers ...string) *reader {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query})
	require.NoError(t, err)
	r := e.events(t, http.MethodPost, "/graphql", string(body), append([]string{
		"Content-Type", jsonType, "Accept", "text/event-stream", "Authorization", "Bearer " + tokenOf(t, ordinary)}, headers...)...)
	require.Equal(t, http.StatusOK, r.response.StatusCode)
	require.Equal(t, "text/event-stream; charset=utf-8", r.response.Header.Get("Content-Type"))
	return r
}

// next is the next event; false at the end of the stream.
func (r *reader) next() (told, bool) {
	r.t.Helper()
	var e told
	for {
		line, err := r.lines.ReadString('\n')
		if err == io.EOF {
			return e, false
		}
		require.NoError(r.t, err)
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "":
			if line == "\n" && (e.name != "" || e.data != "") {
				return e, true
			}
			if line != "\n" {
				e.comment += value
			}
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "retry":
			require.Regexp(r.t, `^[12]\d\d\d$`, value)
		default:
			require.FailNow(r.t, "a strange line", line)
		}
	}
}

func (r *reader) expect(data string) told {
	r.t.Helper()
	e, ok := r.next()
	require.True(r.t, ok, e.comment)
	require.Equal(r.t, "next", e.name)
	require.JSONEq(r.t, data, e.data)
	return e
}

func (r *reader) expectComplete() {
	r.t.Helper()
	e, ok := r.next()
	require.True(r.t, ok, e.comment)
	require.Equal(r.t, told{name: "complete"}, e)
	e, ok = r.next()
	require.False(r.t, ok, e)
}

// expectBreak is the end without `complete`, after which clients open the stream again.
func (r *reader) expectBreak(comment string) {
	r.t.Helper()
	for {
		e, ok := r.next()
		if !ok {
			require.Equal(r.t, comment, e.comment)
			return
		}
		require.Equal(r.t, "next", e.name)
	}
}

const watchAfter = `subscription ($after: String) { runStatusChanged(after: $after) { cursor version } }`

func counting(from int, n int) <-chan *models.RunEvent {
	events := make(chan *models.RunEvent, n)
	for version := from; version < from+n; version++ {
		at := models.Position{Log: 1, Prior: &models.Snapshot{}, Current: &models.Snapshot{}, Place: models.Place{Seq: int64(version)}}
		events <- &models.RunEvent{Mark: models.Mark{Position: at}, Version: version, NewStatus: models.RunProcessing}
	}
	close(events)
	return events
}

func TestEvents_AnswerOperations(t *testing.T) {
	t.Parallel()
	e := open(t, follows(func(context.Context, *string) (<-chan *models.RunEvent, error) { return counting(1, 3), nil }))
	t.Run("a subscription over POST", func(t *testing.T) {
		t.Parallel()
		r := e.follow(t, watch)
		require.Equal(t, "no-store, no-transform", r.response.Header.Get("Cache-Control"))
		require.Equal(t, "no", r.response.Header.Get("X-Accel-Buffering"))
		for version := 1; version <= 3; version++ {
			require.Empty(t, r.expect(strings.TrimSuffix(strings.SplitN(next("", version), `"payload":`, 2)[1], "}")).id, "it cannot resume")
		}
		r.expectComplete()
	})
	t.Run("a subscription over GET", func(t *testing.T) {
		t.Parallel()
		r := e.events(t, http.MethodGet, "/graphql?query="+url.QueryEscape(`subscription{runStatusChanged{version}}`), "",
			"Accept", "text/event-stream", "Authorization", "Bearer "+tokenOf(t, ordinary))
		for range 3 {
			_, ok := r.next()
			require.True(t, ok)
		}
		r.expectComplete()
	})
	t.Run("a query", func(t *testing.T) {
		t.Parallel()
		r := e.follow(t, `{viewer{email}}`)
		r.expect(whoamiOK)
		r.expectComplete()
	})
	t.Run("what does not validate is an event too", func(t *testing.T) {
		t.Parallel()
		for _, query := range []string{`{nothing}`, `subscription{runStatusChanged{nothing}}`, `{`, `subscription{a:__typename b:__typename}`} {
			r := e.follow(t, query)
			event, ok := r.next()
			require.True(t, ok)
			require.Equal(t, "next", event.name)
			require.Regexp(t, `^{"errors":\[.*"code":"GRAPHQL_(PARSE|VALIDATION)_FAILED"`, event.data)
			require.NotContains(t, event.data, `"data"`)
			r.expectComplete()
		}
	})
	t.Run("a stranger hears why", func(t *testing.T) {
		t.Parallel()
		r := e.events(t, http.MethodPost, "/graphql", `{"query":"subscription{runStatusChanged{version}}"}`, "Content-Type", jsonType, "Accept", "text/event-stream")
		event, ok := r.next()
		require.True(t, ok)
		require.Contains(t, event.data, "UNAUTHENTICATED")
		r.expectComplete()
	})
}

func TestEvents_RefuseAsAnyRequest(t *testing.T) {
	t.Parallel()
	e := open(t, follows(func(context.Context, *string) (<-chan *models.RunEvent, error) { return counting(1, 1), nil }))
	const subscription = `{"query":"subscription{runStatusChanged{version}}"}`
	good := "Bearer " + tokenOf(t, ordinary)
	for name, test := range map[string]struct {
		method, accept, authorization, body string
		status                              int
		code                                string
	}{
		"a bad token":             {"POST", "text/event-stream", "Bearer x", subscription, 401, "UNAUTHENTICATED"},
		"an inactive user":        {"POST", "text/event-stream", "Bearer " + tokenOf(t, inactive), subscription, 401, "UNAUTHENTICATED"},
		"no database":             {"POST", "text/event-stream", "Bearer " + tokenOf(t, homeless), subscription, 503, "DATABASE_UNAVAILABLE"},
		"no JSON":                 {"POST", "text/event-stream", good, "x", 400, "BAD_USER_INPUT"},
		"a mutation over GET":     {"GET", "text/event-stream", good, "?query=" + url.QueryEscape(`mutation{__typename}`), 405, "BAD_USER_INPUT"},
		"a client without events": {"POST", "application/json", good, subscription, 400, "BAD_USER_INPUT"},
		"a client of anything":    {"POST", "*/*", good, subscription, 400, "BAD_USER_INPUT"},
		"a client who refuses":    {"POST", "text/event-stream;q=0, application/json", good, subscription, 400, "BAD_USER_INPUT"},
		"no type of ours":         {"POST", "text/html", good, subscription, 406, "BAD_USER_INPUT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, body := "/graphql", test.body
			if test.method == http.MethodGet {
				path, body = path+body, ""
			}
			x := e.ask(t, test.method, path, body, "Content-Type", jsonType, "Accept", test.accept, "Authorization", test.authorization)
			require.Equal(t, test.status, x.status, x.body)
			require.Equal(t, []string{test.code}, x.codes())
			require.Contains(t, x.header.Get("Content-Type"), "json")
		})
	}
	t.Run("a client of everything gets a query as JSON and a subscription as events", func(t *testing.T) {
		t.Parallel()
		const everything = "application/graphql-response+json, application/json, text/event-stream, multipart/mixed"
		x := e.ask(t, http.MethodPost, "/graphql", `{"query":"{viewer{email}}"}`, "Content-Type", jsonType, "Accept", everything, "Authorization", good)
		require.JSONEq(t, whoamiOK, x.body)
		e.follow(t, watch, "Accept", everything).expect(`{"data":{"runStatusChanged":{"status":"PROCESSING","version":1}}}`)
	})
}

func TestEvents_Resume(t *testing.T) {
	t.Parallel()
	var asked atomic.Pointer[string]
	e := open(t, follows(func(_ context.Context, after *string) (<-chan *models.RunEvent, error) {
		asked.Store(after)
		return counting(1, 2), nil
	}))
	r := e.follow(t, watchAfter)
	require.Nil(t, asked.Load())
	first, _ := r.next()
	second, _ := r.next()
	require.NotEmpty(t, first.id)
	require.NotEqual(t, first.id, second.id)
	require.Contains(t, second.data, `"cursor":"`+second.id+`"`)
	r.expectComplete()

	e.follow(t, watchAfter, "Last-Event-ID", second.id).next()
	require.Equal(t, second.id, *asked.Load(), "in place of the variable")
	e.follow(t, watch, "Last-Event-ID", second.id).next()
	require.Nil(t, asked.Load(), "an operation without the variable begins anew")
	r = e.follow(t, `query ($after: ID!) { node(id: $after) { cursor: __typename } }`, "Last-Event-ID", "x")
	event, _ := r.next()
	require.NotContains(t, event.data, "BAD_USER_INPUT", "a required variable is filled too")
}

func TestEvents_EndWithWhatTheyNeed(t *testing.T) {
	t.Parallel()
	flooding := func(running *atomic.Int32) func(*server.Config) {
		return follows(func(ctx context.Context, _ *string) (<-chan *models.RunEvent, error) {
			running.Add(1)
			context.AfterFunc(ctx, func() { running.Add(-1) })
			return flood(ctx, nil), nil
		})
	}
	silent := follows(func(context.Context, *string) (<-chan *models.RunEvent, error) {
		return make(chan *models.RunEvent), nil
	})
	t.Run("the client", func(t *testing.T) {
		t.Parallel()
		var running atomic.Int32
		r := open(t, flooding(&running)).follow(t, watch)
		r.next()
		require.EqualValues(t, 1, running.Load())
		require.NoError(t, r.response.Body.Close())
		require.Eventually(t, func() bool { return running.Load() == 0 }, soon, time.Millisecond)
	})
	t.Run("the token", func(t *testing.T) {
		t.Parallel()
		token, err := server.NewToken(secret, ordinary, 2*time.Second)
		require.NoError(t, err)
		e, clock := open(t, silent), begin(t)
		e.follow(t, watch, "Authorization", "Bearer "+token).expectBreak("4403 Forbidden: the token has expired")
		require.Less(t, clock.took(), 3*time.Second)
	})
	t.Run("the account", func(t *testing.T) {
		t.Parallel()
		var gone atomic.Bool
		r := open(t, silent, func(cfg *server.Config) {
			cfg.Streams.Standing = 5 * time.Millisecond
			cfg.Standing = func(_ context.Context, viewers []models.Viewer) ([]models.Viewer, error) {
				if gone.Load() {
					return nil, nil
				}
				return viewers, nil
			}
		}).follow(t, watch)
		gone.Store(true)
		r.expectBreak("4403 Forbidden: the account or the key can no longer be used")
	})
	t.Run("the source, when it breaks off", func(t *testing.T) {
		t.Parallel()
		r := open(t, follows(func(ctx context.Context, _ *string) (<-chan *models.RunEvent, error) {
			graphql.GetOperationContext(ctx).Stats.SetExtension(resolvers.StreamExtension, resolvers.Stream(broken{}))
			return counting(1, 1), nil
		})).follow(t, watch)
		r.next()
		r.expectBreak("1013 Begin again: the reader was too slow")
	})
	t.Run("the server", func(t *testing.T) {
		t.Parallel()
		h := newHeld()
		s := serve(t, silent, func(cfg *server.Config) {
			cfg.Resolvers = following{answers{viewer: h.viewer}, cfg.Resolvers.(following).watch}
		})
		r, query := s.follow(t, watch), s.follow(t, `{viewer{email}}`)
		within(t, h.entered)
		s.stop()
		r.expectBreak("1012 the server is going away")
		close(h.release)
		query.expect(whoamiOK)
		query.expectComplete()
		require.NoError(t, within(t, s.done))
	})
	t.Run("a client who reads nothing", func(t *testing.T) {
		t.Parallel()
		var running atomic.Int32
		r := serve(t, flooding(&running), func(cfg *server.Config) { cfg.Streams.WriteTimeout = 200 * time.Millisecond }).follow(t, watch)
		require.Eventually(t, func() bool { return running.Load() == 1 }, soon, time.Millisecond)
		require.Eventually(t, func() bool { return running.Load() == 0 }, soon, time.Millisecond)
		_, err := io.Copy(io.Discard, r.response.Body)
		require.Error(t, err, "it was cut off, not completed")
	})
	t.Run("too many of one user", func(t *testing.T) {
		t.Parallel()
		e := open(t, silent, func(cfg *server.Config) { cfg.Streams.PerUser = 1 })
		e.follow(t, watch)
		x := e.ask(t, http.MethodPost, "/graphql", `{"query":"subscription{runStatusChanged{version}}"}`,
			"Content-Type", jsonType, "Accept", "text/event-stream", "Authorization", "Bearer "+tokenOf(t, ordinary))
		require.Equal(t, http.StatusTooManyRequests, x.status)
		require.Equal(t, []string{"RATE_LIMITED"}, x.codes())
		require.Regexp(t, `^[1-3]$`, x.header.Get("Retry-After"))
	})
}

func TestEvents_ShowThatTheServerIsThere(t *testing.T) {
	t.Parallel()
	events := make(chan *models.RunEvent)
	r := open(t, follows(func(context.Context, *string) (<-chan *models.RunEvent, error) { return events, nil }),
		func(cfg *server.Config) { cfg.Streams.Heartbeat = 10 * time.Millisecond }).follow(t, watch)
	for range 3 {
		for {
			line, err := r.lines.ReadString('\n')
			require.NoError(t, err)
			if line == ":\n" {
				break
			}
		}
	}
	close(events)
	r.expectComplete()
}

func TestEventsClient_HearsAnUpdateAndComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	run := p.run(p.alice)
	c := p.node("events.mjs", "http://"+p.addr+"/graphql", p.token(p.alice))
	c.send(map[string]any{"id": "q", "query": `{ viewer { email } }`})
	c.expect(`{"id":"q","next":{"data":{"viewer":{"email":"alice@example.com"}}}}`)
	c.expect(`{"id":"q","complete":true}`)
	c.send(map[string]any{"id": "s", "query": watch})
	c.expect(watched("s", 1))
	p.step(run)
	c.expect(watched("s", 2))
	require.NoError(t, p.leave())
	const again = `{"id":"s","event":"connecting again"}`
	c.expect(again)
	p.serve()
	line := c.receive()
	for ; line == again; line = c.receive() { // while nobody listened
	}
	require.JSONEq(t, watched("s", 2), line)
	p.step(run)
	c.expect(watched("s", 3))
	c.send(map[string]any{"dispose": "s"})
	p.subscribed(0)
}

func TestEvents_ResumeExactlyAfterTheLastEvent(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	run := p.run(p.alice)
	e := &edge{url: "http://" + p.addr}
	authorization := "Bearer " + p.token(p.alice)
	event := func(r *reader, version int) string {
		t.Helper()
		e, ok := r.next()
		require.True(t, ok, e.comment)
		require.Contains(t, e.data, fmt.Sprintf(`"version":%d}`, version))
		require.NotEmpty(t, e.id)
		return e.id
	}
	r := e.follow(t, watchAfter, "Authorization", authorization)
	event(r, 1)
	p.step(run)
	last := event(r, 2)
	require.NoError(t, r.response.Body.Close())
	p.step(run)
	p.step(run)
	r = e.follow(t, watchAfter, "Authorization", authorization, "Last-Event-ID", last)
	event(r, 3)
	event(r, 4)
	p.step(run)
	event(r, 5)
}
