package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
)

const (
	soon     = time.Minute // for what takes no time, on a machine that has other things to do
	initOK   = `{"type":"connection_init","payload":{"authorization":"Bearer good"}}`
	ack      = `{"type":"connection_ack"}`
	watch    = `subscription { runStatusChanged { status version } }`
	whoami   = `{ viewer { email } }`
	subprot  = "graphql-transport-ws"
	whoamiOK = `{"data":{"viewer":{"email":"alice@example.com"}}}`
)

// graphStub is the real schema over answers that a test controls.
type graphStub struct {
	graph.ResolverRoot
	viewer func(ctx context.Context) (*models.User, error)
	watch  func(ctx context.Context) (<-chan *models.RunEvent, error)
}

func (g *graphStub) Query() graph.QueryResolver               { return queries{stub: g} }
func (g *graphStub) Subscription() graph.SubscriptionResolver { return subscriptions{stub: g} }

type queries struct {
	graph.QueryResolver
	stub *graphStub
}

func (q queries) Node(context.Context, string) (models.Node, error) {
	return nil, errors.New("no node")
}

func (q queries) Viewer(ctx context.Context) (*models.User, error) { return q.stub.viewer(ctx) }

type subscriptions struct {
	graph.SubscriptionResolver
	stub *graphStub
}

func (s subscriptions) RunStatusChanged(ctx context.Context, _, _, _ *string) (<-chan *models.RunEvent, error) {
	return s.stub.watch(ctx)
}

type fixture struct {
	*graphStub
	streams *server.Streams
	exec    *executor.Executor
	url     string
}

func setup(t *testing.T, change ...func(*server.StreamsConfig)) *fixture {
	t.Helper()
	f := &fixture{graphStub: &graphStub{
		viewer: func(ctx context.Context) (*models.User, error) {
			_, err := models.ViewerFrom(ctx)
			return &models.User{Email: "alice@example.com"}, err
		},
		watch: func(context.Context) (<-chan *models.RunEvent, error) { return make(chan *models.RunEvent), nil },
	}}
	log := slog.New(slog.DiscardHandler)
	cfg := server.StreamsConfig{Authenticate: authenticate, Log: log, Settings: server.StreamSettings{InitTimeout: soon}}
	for _, c := range change {
		c(&cfg)
	}
	f.streams = server.NewStreams(cfg)
	ws := server.NewWebsocket(server.WebsocketConfig{Streams: f.streams, Log: log})
	f.exec = executor.New(graph.NewExecutableSchema(graph.Config{Resolvers: f.graphStub}))
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ws.Do(w, r, f.exec) }))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		require.NoError(t, f.streams.Drain(ctx))
		listener.Close()
	})
	f.url = "ws" + strings.TrimPrefix(listener.URL, "http")
	return f
}

// byKey is user 1 by an API key.
var byKey = models.Viewer{UserID: 1, APIKey: uuid.New(), Permissions: models.NewPermissionSet([]models.Permission{models.PermissionRead})}

// authenticate knows the tokens of user 1, who also has an API key, of root and of user 2.
func authenticate(ctx context.Context, bearer string) (server.Session, error) {
	one := models.Viewer{UserID: 1}
	switch bearer {
	case "good":
		return server.Session{Viewer: one}, nil
	case "key":
		return server.Session{Viewer: byKey}, nil
	case "second":
		return server.Session{Viewer: one, Expires: time.Now().Add(time.Second)}, nil
	case "seconds":
		return server.Session{Viewer: one, Expires: time.Now().Add(3 * time.Second)}, nil
	case "hour":
		return server.Session{Viewer: one, Expires: time.Now().Add(time.Hour)}, nil
	case "long":
		return server.Session{Viewer: one, Expires: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
	case "other":
		return server.Session{Viewer: models.Viewer{UserID: 2}}, nil
	case "root":
		return server.Session{Viewer: models.Viewer{UserID: 3, Superuser: true}}, nil
	case "fallen":
		return server.Session{Viewer: models.Viewer{UserID: 3}}, nil
	case "away":
		return server.Session{}, models.Errorf(models.DatabaseUnavailable, "no database")
	case "hang":
		<-ctx.Done()
		return server.Session{}, ctx.Err()
	default:
		return server.Session{}, models.Errorf(models.Unauthenticated, "the token is not valid")
	}
}

// client speaks raw messages.
type client struct {
	t *testing.T
	*websocket.Conn
}

func (f *fixture) dial(t *testing.T) client {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{subprot}}
	conn, _, err := dialer.Dial(f.url, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return client{t, conn}
}

// ready is a client with an acknowledged connection.
func (f *fixture) ready(t *testing.T) client {
	t.Helper()
	c := f.dial(t)
	c.send(initOK)
	c.expect(ack)
	return c
}

func (c client) send(message string) {
	c.t.Helper()
	require.NoError(c.t, c.WriteMessage(websocket.TextMessage, []byte(message)))
}

func (c client) receive() string {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(soon)))
	kind, data, err := c.ReadMessage()
	require.NoError(c.t, err)
	require.Equal(c.t, websocket.TextMessage, kind)
	return string(data)
}

func (c client) expect(message string) {
	c.t.Helper()
	require.JSONEq(c.t, message, c.receive())
}

// quiet shows that the server has nothing to say: everything before was answered before the pong.
func (c client) quiet() {
	c.t.Helper()
	c.send(`{"type":"ping","payload":{"quiet":true}}`)
	c.expect(`{"type":"pong","payload":{"quiet":true}}`)
}

func (c client) expectClose(code int) string {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(soon)))
	for {
		_, _, err := c.ReadMessage()
		var closed *websocket.CloseError
		if errors.As(err, &closed) {
			require.Equal(c.t, code, closed.Code, closed.Text)
			return closed.Text
		}
		require.NoError(c.t, err)
	}
}

func subscribe(id, query string) string {
	payload, _ := json.Marshal(map[string]any{"query": query})
	return fmt.Sprintf(`{"id":%q,"type":"subscribe","payload":%s}`, id, payload)
}

func event(version int) *models.RunEvent {
	return &models.RunEvent{Version: version, NewStatus: models.RunProcessing}
}

func next(id string, version int) string {
	return fmt.Sprintf(`{"id":%q,"type":"next","payload":{"data":{"runStatusChanged":{"status":"PROCESSING","version":%d}}}}`, id, version)
}

func TestWebsocket_MessageRules(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 100)
	// Messages after the first > are the client's, after < the server's; a number is the close code.
	for name, steps := range map[string][]any{
		"init is acknowledged":                   {">" + initOK, "<" + ack},
		"the key of the token may be a header's": {`>{"type":"connection_init","payload":{"Authorization":"bearer good"}}`, "<" + ack},
		"ping is answered before init":           {`>{"type":"ping"}`, `<{"type":"pong"}`},
		"ping's payload comes back":              {`>{"type":"ping","payload":{"a":[1]}}`, `<{"type":"pong","payload":{"a":[1]}}`},
		"null is as good as absent":              {`>{"type":"ping","payload":null}`, `<{"type":"pong"}`},
		"pong needs no ping":                     {`>{"type":"pong","payload":{}}`, `>{"type":"ping"}`, `<{"type":"pong"}`},
		"a second init":                          {">" + initOK, "<" + ack, ">" + initOK, 4429},
		"a second init in the same breath":       {">" + initOK, ">" + initOK, 4429},
		"a second init after a refused one":      {`>{"type":"connection_init"}`, ">" + initOK, 4403},
		"subscribe in the same breath as init": {">" + initOK, ">" + subscribe("1", whoami), "<" + ack,
			`<{"id":"1","type":"next","payload":` + whoamiOK + `}`, `<{"id":"1","type":"complete"}`},
		"subscribe before init":   {">" + subscribe("1", whoami), 4401},
		"no token":                {`>{"type":"connection_init"}`, 4403},
		"no payload":              {`>{"type":"connection_init","payload":null}`, 4403},
		"another scheme":          {`>{"type":"connection_init","payload":{"authorization":"Basic good"}}`, 4403},
		"a token that is no text": {`>{"type":"connection_init","payload":{"authorization":7}}`, 4403},
		"a bad token":             {`>{"type":"connection_init","payload":{"authorization":"Bearer bad"}}`, 4403},
		"no way to tell whether the token is good": {`>{"type":"connection_init","payload":{"authorization":"Bearer away"}}`, 1013},
		"an expiring token":                        {`>{"type":"connection_init","payload":{"authorization":"Bearer second"}}`, "<" + ack, 4403},
		"init's payload is an array":               {`>{"type":"connection_init","payload":[]}`, 4400},
		"not JSON":                                 {`>hello`, 4400},
		"empty":                                    {`>`, 4400},
		"two documents":                            {`>{"type":"ping"}{"type":"ping"}`, 4400},
		"an array":                                 {`>[]`, 4400},
		"null":                                     {`>null`, 4400},
		"no type":                                  {`>{}`, 4400},
		"a type that is no text":                   {`>{"type":1}`, 4400},
		"an unknown type":                          {`>{"type":"hello"}`, 4400},
		"a type of the older protocol":             {`>{"id":"1","type":"start","payload":{"query":"{a}"}}`, 4400},
		"another case":                             {`>{"Type":"ping"}`, 4400},
		"the server's ack":                         {`>{"type":"connection_ack"}`, 4400},
		"the server's next":                        {`>{"id":"1","type":"next","payload":{}}`, 4400},
		"the server's error":                       {`>{"id":"1","type":"error","payload":[{"message":""}]}`, 4400},
		"ping's payload is text":                   {`>{"type":"ping","payload":"x"}`, 4400},
		"pong's payload is a number":               {`>{"type":"pong","payload":1}`, 4400},
		"subscribe without id":                     {`>{"type":"subscribe","payload":{"query":"{a}"}}`, 4400},
		"subscribe with an empty id":               {`>{"id":"","type":"subscribe","payload":{"query":"{a}"}}`, 4400},
		"subscribe with a number for id":           {`>{"id":1,"type":"subscribe","payload":{"query":"{a}"}}`, 4400},
		"subscribe with an endless id":             {`>{"id":"` + long + long + `","type":"subscribe","payload":{"query":"{a}"}}`, 4400},
		"subscribe without payload":                {`>{"id":"1","type":"subscribe"}`, 4400},
		"subscribe's payload is text":              {`>{"id":"1","type":"subscribe","payload":"{a}"}`, 4400},
		"subscribe without query":                  {`>{"id":"1","type":"subscribe","payload":{}}`, 4400},
		"subscribe with a number for query":        {`>{"id":"1","type":"subscribe","payload":{"query":1}}`, 4400},
		"variables are an array":                   {`>{"id":"1","type":"subscribe","payload":{"query":"{a}","variables":[]}}`, 4400},
		"operationName is a number":                {`>{"id":"1","type":"subscribe","payload":{"query":"{a}","operationName":1}}`, 4400},
		"extensions are text":                      {`>{"id":"1","type":"subscribe","payload":{"query":"{a}","extensions":""}}`, 4400},
		"complete without id":                      {`>{"type":"complete"}`, 4400},
		"complete of an unknown id":                {`>{"id":"1","type":"complete"}`, `>{"type":"ping"}`, `<{"type":"pong"}`},
		"a message over the limit":                 {`>{"type":"ping","payload":{"a":"` + strings.Repeat("x", 256<<10) + `"}}`, 1009},
		"an id in use":                             {">" + initOK, "<" + ack, ">" + subscribe("1", watch), ">" + subscribe("1", watch), 4409},
		"a long id in use":                         {">" + initOK, "<" + ack, ">" + subscribe(long, watch), ">" + subscribe(long, watch), 4409},
		"a query": {">" + initOK, "<" + ack,
			">" + subscribe("1", whoami), `<{"id":"1","type":"next","payload":` + whoamiOK + `}`, `<{"id":"1","type":"complete"}`},
		"null options": {">" + initOK, "<" + ack,
			`>{"id":"1","type":"subscribe","payload":{"query":"{__typename}","variables":null,"operationName":null,"extensions":null}}`,
			`<{"id":"1","type":"next","payload":{"data":{"__typename":"Query"}}}`, `<{"id":"1","type":"complete"}`},
		"variables and the operation's name": {">" + initOK, "<" + ack,
			`>{"id":"1","type":"subscribe","payload":{"query":"query A { __typename } query B($x: Boolean!) { a: __typename @include(if: $x) }","operationName":"B","variables":{"x":true}}}`,
			`<{"id":"1","type":"next","payload":{"data":{"a":"Query"}}}`, `<{"id":"1","type":"complete"}`},
		"an id again after the server's complete": {">" + initOK, "<" + ack,
			">" + subscribe("1", whoami), `<{"id":"1","type":"next","payload":` + whoamiOK + `}`, `<{"id":"1","type":"complete"}`,
			">" + subscribe("1", whoami), `<{"id":"1","type":"next","payload":` + whoamiOK + `}`, `<{"id":"1","type":"complete"}`},
		"an id again after the client's complete": {">" + initOK, "<" + ack,
			">" + subscribe("1", watch), `>{"id":"1","type":"complete"}`,
			">" + subscribe("1", whoami), `<{"id":"1","type":"next","payload":` + whoamiOK + `}`, `<{"id":"1","type":"complete"}`},
		"an error within the answer is a result": {">" + initOK, "<" + ack, ">" + subscribe("1", `{ __typename node(id: "x") { id } }`),
			`<{"id":"1","type":"next","payload":{"errors":[{"message":"no node","path":["node"],"locations":[{"line":1,"column":14}]}],"data":{"__typename":"Query","node":null}}}`,
			`<{"id":"1","type":"complete"}`},
		"an operation that the document lacks": {">" + initOK, "<" + ack,
			`>{"id":"1","type":"subscribe","payload":{"query":"query A { __typename }","operationName":"B"}}`,
			`<{"id":"1","type":"error","payload":[{"message":"operation B not found","extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]}`, ">" + subscribe("1", "{__typename}"),
			`<{"id":"1","type":"next","payload":{"data":{"__typename":"Query"}}}`, `<{"id":"1","type":"complete"}`},
		"a newer token": {`>{"type":"connection_init","payload":{"authorization":"Bearer hour"}}`, "<" + ack,
			`>{"type":"ping","payload":{"authorization":"Bearer long"}}`, `<{"type":"pong","payload":{"authorized":true,"expires":"2100-01-01T00:00:00Z"}}`},
		"a token without end":        {">" + initOK, "<" + ack, `>{"type":"ping","payload":{"Authorization":"Bearer good"}}`, `<{"type":"pong","payload":{"authorized":true}}`},
		"a token in place of a key":  {`>{"type":"connection_init","payload":{"authorization":"Bearer key"}}`, "<" + ack, `>{"type":"ping","payload":{"authorization":"Bearer good"}}`, `<{"type":"pong","payload":{"authorized":true}}`},
		"another user's token":       {">" + initOK, "<" + ack, `>{"type":"ping","payload":{"authorization":"Bearer other"}}`, `<{"type":"pong","payload":{"authorized":false,"code":"FORBIDDEN","message":"the token is another user's: connect again for that"}}`},
		"a newer token that is bad":  {">" + initOK, "<" + ack, `>{"type":"ping","payload":{"authorization":"Bearer bad"}}`, `<{"type":"pong","payload":{"authorized":false,"code":"UNAUTHENTICATED","message":"the token is not valid"}}`},
		"a newer token of no scheme": {">" + initOK, "<" + ack, `>{"type":"ping","payload":{"authorization":"good"}}`, `<{"type":"pong","payload":{"authorized":false,"code":"UNAUTHENTICATED","message":"send {\"authorization\": \"Bearer …\"}"}}`},
		"no way to tell whether the newer token is good": {">" + initOK, "<" + ack, `>{"type":"ping","payload":{"authorization":"Bearer away"}}`,
			`<{"type":"pong","payload":{"authorized":false,"code":"DATABASE_UNAVAILABLE","message":"authenticating is not possible now"}}`},
		"a newer token with fewer rights":         {`>{"type":"connection_init","payload":{"authorization":"Bearer root"}}`, "<" + ack, `>{"type":"ping","payload":{"authorization":"Bearer fallen"}}`, 4403},
		"a token in a ping before init is a ping": {`>{"type":"ping","payload":{"authorization":"Bearer good"}}`, `<{"type":"pong","payload":{"authorization":"Bearer good"}}`, ">" + subscribe("1", whoami), 4401},
		"no complete after error, and the id is free": {">" + initOK, "<" + ack,
			">" + subscribe("1", "{ nothing }"),
			`<{"id":"1","type":"error","payload":[{"message":"Cannot query field \"nothing\" on type \"Query\".","locations":[{"line":1,"column":3}],"extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]}`,
			`>{"type":"ping"}`, `<{"type":"pong"}`,
			">" + subscribe("1", whoami), `<{"id":"1","type":"next","payload":` + whoamiOK + `}`, `<{"id":"1","type":"complete"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := setup(t).dial(t)
			for _, step := range steps {
				switch step := step.(type) {
				case int:
					require.LessOrEqual(t, len(c.expectClose(step)), 123)
				case string:
					if message, ok := strings.CutPrefix(step, ">"); ok {
						c.send(message)
					} else {
						c.expect(step[1:])
					}
				}
			}
		})
	}
}

func TestWebsocket_FrameRules(t *testing.T) {
	t.Parallel()
	t.Run("messages are text", func(t *testing.T) {
		t.Parallel()
		c := setup(t).dial(t)
		require.NoError(t, c.WriteMessage(websocket.BinaryMessage, []byte(`{"type":"ping"}`)))
		c.expectClose(4400)
	})
	t.Run("text is UTF-8", func(t *testing.T) {
		t.Parallel()
		c := setup(t).dial(t)
		c.send("{\"type\":\"ping\",\"payload\":{\"a\":\"\xff\"}}")
		c.expectClose(1007)
	})
	t.Run("the client's frames are masked", func(t *testing.T) {
		t.Parallel()
		c := setup(t).dial(t)
		_, err := c.NetConn().Write([]byte{0x81, 2, '{', '}'})
		require.NoError(t, err)
		c.expectClose(1002)
	})
	t.Run("a message may come in pieces with a ping between them", func(t *testing.T) {
		t.Parallel()
		c := setup(t).dial(t)
		var pongs atomic.Int32
		c.SetPongHandler(func(string) error { pongs.Add(1); return nil })
		masked := func(first byte, text string) []byte { // with a key of zeros the text is its own mask
			return append([]byte{first, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
		}
		for _, frame := range [][]byte{masked(0x01, `{"type":`), masked(0x89, "hi"), masked(0x80, `"ping"}`)} {
			_, err := c.NetConn().Write(frame)
			require.NoError(t, err)
		}
		c.expect(`{"type":"pong"}`)
		require.EqualValues(t, 1, pongs.Load())
	})
	t.Run("the client's goodbye is answered in kind", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		for _, code := range []int{1000, 1001, 4499} {
			c := f.ready(t)
			c.send(subscribe("1", watch))
			require.NoError(t, c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "bye"), time.Now().Add(soon)))
			c.expectClose(code)
		}
		require.Eventually(t, func() bool { return f.streams.Open() == 0 }, soon, time.Millisecond)
	})
	t.Run("a frame of a reserved kind", func(t *testing.T) {
		t.Parallel()
		c := setup(t).dial(t)
		_, err := c.NetConn().Write([]byte{0x83, 0x80, 0, 0, 0, 0})
		require.NoError(t, err)
		c.expectClose(1002)
	})
	t.Run("nothing is compressed", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		dialer := websocket.Dialer{Subprotocols: []string{subprot}, EnableCompression: true}
		conn, response, err := dialer.Dial(f.url, nil)
		require.NoError(t, err)
		defer conn.Close()
		require.Empty(t, response.Header.Get("Sec-Websocket-Extensions"))
	})
}

func TestWebsocket_Handshake(t *testing.T) {
	t.Parallel()
	dial := func(t *testing.T, f *fixture, header http.Header, protocols ...string) (client, *http.Response, error) {
		t.Helper()
		dialer := websocket.Dialer{Subprotocols: protocols}
		conn, response, err := dialer.Dial(f.url, header)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
		}
		return client{t, conn}, response, err
	}
	t.Run("other subprotocols are closed with 4406", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		for _, protocols := range [][]string{nil, {"graphql"}, {"mqtt", "soap"}} {
			c, _, err := dial(t, f, nil, protocols...)
			require.NoError(t, err)
			c.expectClose(4406)
		}
	})
	t.Run("ours is found among others", func(t *testing.T) {
		t.Parallel()
		c, _, err := dial(t, setup(t), nil, "graphql-ws", subprot)
		require.NoError(t, err)
		require.Equal(t, subprot, c.Subprotocol())
	})
	t.Run("pages of another origin are refused", func(t *testing.T) {
		t.Parallel()
		_, response, err := dial(t, setup(t), http.Header{"Origin": {"https://evil.example"}}, subprot)
		require.Error(t, err)
		require.Equal(t, http.StatusForbidden, response.StatusCode)
	})
	t.Run("pages of our own origin are not", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		_, _, err := dial(t, f, http.Header{"Origin": {"http" + strings.TrimPrefix(f.url, "ws")}}, subprot)
		require.NoError(t, err)
	})
	t.Run("a program can send its token with the handshake", func(t *testing.T) {
		t.Parallel()
		c, _, err := dial(t, setup(t), http.Header{"Authorization": {"Bearer good"}}, subprot)
		require.NoError(t, err)
		c.send(`{"type":"connection_init"}`)
		c.expect(ack)
	})
}

func TestWebsocket_Deadlines(t *testing.T) {
	t.Parallel()
	t.Run("without init the socket is closed with 4408", func(t *testing.T) {
		t.Parallel()
		c := setup(t, func(cfg *server.StreamsConfig) { cfg.Settings.InitTimeout = 50 * time.Millisecond }).dial(t)
		c.expectClose(4408)
	})
	t.Run("with init it is not", func(t *testing.T) {
		t.Parallel()
		f := setup(t, func(cfg *server.StreamsConfig) {
			cfg.Settings.InitTimeout = 2 * time.Second
			cfg.Settings.Heartbeat = 250 * time.Millisecond
		})
		c := f.ready(t)
		pings := 0
		c.SetPingHandler(func(string) error {
			if pings++; pings == 10 { // later than that
				go c.send(`{"type":"ping"}`)
			}
			return c.WriteControl(websocket.PongMessage, nil, time.Now().Add(soon))
		})
		c.expect(`{"type":"pong"}`)
	})
	t.Run("authenticating that hangs asks the client to come again", func(t *testing.T) {
		t.Parallel()
		c := setup(t, func(cfg *server.StreamsConfig) { cfg.Settings.InitTimeout = 50 * time.Millisecond }).dial(t)
		c.send(`{"type":"connection_init","payload":{"authorization":"Bearer hang"}}`)
		c.expectClose(1013)
	})
	t.Run("a client that answers no ping is cut off", func(t *testing.T) {
		t.Parallel()
		f := setup(t, func(cfg *server.StreamsConfig) {
			cfg.Settings.Heartbeat, cfg.Settings.WriteTimeout = 500*time.Millisecond, time.Second
		})
		f.ready(t) // and nobody reads, so nobody answers
		require.Eventually(t, func() bool { return f.streams.Open() == 0 }, soon, 5*time.Millisecond)
	})
	t.Run("a client that reads nothing is cut off within 5 s", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.watch = func(ctx context.Context) (<-chan *models.RunEvent, error) { return flood(ctx, nil), nil }
		stalled := f.ready(t)
		require.NoError(t, stalled.NetConn().(*net.TCPConn).SetReadBuffer(1024))
		stalled.send(subscribe("1", watch))
		clock := begin(t)
		require.Eventually(t, func() bool { return f.streams.Open() == 0 }, soon, time.Millisecond)
		require.Less(t, clock.took(), 5*time.Second)
	})
	t.Run("a client that reads nothing is cut off and harms no other", func(t *testing.T) {
		t.Parallel()
		f := setup(t, func(cfg *server.StreamsConfig) { cfg.Settings.WriteTimeout = time.Second })
		stop := make(chan struct{})
		f.watch = func(ctx context.Context) (<-chan *models.RunEvent, error) { return flood(ctx, stop), nil }
		stalled, other := f.ready(t), f.ready(t)
		require.NoError(t, stalled.NetConn().(*net.TCPConn).SetReadBuffer(1024))
		stalled.send(subscribe("1", watch))
		for f.streams.Open() == 2 {
			other.quiet()
		}
		close(stop)
		other.quiet()
	})
}

// flood never ends by itself.
func flood(ctx context.Context, stop <-chan struct{}) <-chan *models.RunEvent {
	return steady(ctx, stop, 0)
}

func TestWebsocket_Subscriptions(t *testing.T) {
	t.Parallel()
	t.Run("events come in order and the end is complete", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		events := make(chan *models.RunEvent)
		f.watch = func(context.Context) (<-chan *models.RunEvent, error) { return events, nil }
		c := f.ready(t)
		c.send(subscribe("a", watch))
		for version := range 100 {
			events <- event(version)
			c.expect(next("a", version))
		}
		close(events)
		c.expect(`{"id":"a","type":"complete"}`)
	})
	t.Run("every event has a response of its own", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		var responses atomic.Int32
		f.exec.AroundResponses(func(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
			responses.Add(1)
			return next(ctx)
		})
		events := make(chan *models.RunEvent, 3)
		events <- event(1)
		events <- event(2)
		events <- event(3)
		close(events)
		f.watch = func(context.Context) (<-chan *models.RunEvent, error) { return events, nil }
		c := f.ready(t)
		c.send(subscribe("a", watch))
		for version := 1; version <= 3; version++ {
			c.expect(next("a", version))
		}
		c.expect(`{"id":"a","type":"complete"}`)
		require.EqualValues(t, 4, responses.Load(), "three events and the end")
	})
	t.Run("a source that cannot begin is an error", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.watch = func(context.Context) (<-chan *models.RunEvent, error) {
			return nil, models.Errorf(models.NotFound, "no such Run")
		}
		c := f.ready(t)
		c.send(subscribe("a", watch))
		c.expect(`{"id":"a","type":"error","payload":[{"message":"no such Run","path":["runStatusChanged"],"locations":[{"line":1,"column":16}]}]}`)
		c.quiet()
	})
	t.Run("nothing comes for an id after the client's complete", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		var running atomic.Int32
		f.watch = func(ctx context.Context) (<-chan *models.RunEvent, error) {
			running.Add(1)
			context.AfterFunc(ctx, func() { running.Add(-1) })
			return flood(ctx, nil), nil
		}
		c := f.ready(t)
		for range 50 {
			c.send(subscribe("a", watch))
			c.expect(next("a", 1))
			c.send(`{"id":"a","type":"complete"}`)
			c.send(`{"type":"ping"}`)
			for c.receive() != `{"type":"pong"}` { // what was under way before the server heard
			}
			c.quiet()
		}
		require.Eventually(t, func() bool { return running.Load() == 0 }, soon, time.Millisecond, "producers leak")
	})
	t.Run("several run side by side", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		c := f.ready(t)
		for i := range 10 {
			c.send(subscribe(fmt.Sprint(i), watch))
		}
		c.send(subscribe("query", whoami))
		c.expect(`{"id":"query","type":"next","payload":` + whoamiOK + `}`)
		c.expect(`{"id":"query","type":"complete"}`)
	})
	t.Run("too many at once are refused one by one", func(t *testing.T) {
		t.Parallel()
		f := setup(t, func(cfg *server.StreamsConfig) { cfg.Settings.Operations = 2 })
		c := f.ready(t)
		c.send(subscribe("1", watch))
		c.send(subscribe("2", watch))
		c.send(subscribe("3", watch))
		c.expect(`{"id":"3","type":"error","payload":[{"message":"too many operations at once on one connection","extensions":{"code":"RATE_LIMITED"}}]}`)
		c.quiet()
	})
	t.Run("a source that broke off breaks the connection, so that clients begin again", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.watch = func(ctx context.Context) (<-chan *models.RunEvent, error) {
			graphql.GetOperationContext(ctx).Stats.SetExtension(resolvers.StreamExtension, resolvers.Stream(broken{}))
			events := make(chan *models.RunEvent, 1)
			events <- event(1)
			close(events)
			return events, nil
		}
		c := f.ready(t)
		c.send(subscribe("1", watch))
		c.expect(next("1", 1))
		c.expectClose(1013)
	})
	t.Run("a panic is one operation's affair", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.exec.SetRecoverFunc(func(context.Context, any) error { return errors.New("internal") })
		f.exec.AroundOperations(func(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
			if graphql.GetOperationContext(ctx).Operation.Name == "Boom" {
				panic("boom")
			}
			return next(ctx)
		})
		c := f.ready(t)
		c.send(subscribe("1", "query Boom { __typename }"))
		c.expect(`{"id":"1","type":"error","payload":[{"message":"internal"}]}`)
		c.quiet()
	})
}

type broken struct{}

func (broken) Await()        {}
func (broken) Err() error    { return errors.New("the reader was too slow") }
func (broken) Expired() bool { return false }

func TestWebsocket_Drain(t *testing.T) {
	t.Parallel()
	drain := func(f *fixture, grace time.Duration) <-chan error {
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), grace)
			defer cancel()
			done <- f.streams.Drain(ctx)
		}()
		return done
	}
	t.Run("sockets hear 1012 and new ones are refused", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		clients := make([]client, 20)
		for i := range clients {
			clients[i] = f.ready(t)
			clients[i].send(subscribe("1", watch))
			clients[i].quiet()
		}
		done := drain(f, soon)
		for _, c := range clients {
			c.expectClose(1012)
		}
		require.NoError(t, <-done)
		require.Zero(t, f.streams.Open())
		_, response, err := (&websocket.Dialer{}).Dial(f.url, nil)
		require.Error(t, err)
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	})
	t.Run("a running query is answered first", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		asked, answer := make(chan struct{}), make(chan struct{})
		f.viewer = func(context.Context) (*models.User, error) {
			close(asked)
			<-answer
			return &models.User{Email: "alice@example.com"}, nil
		}
		c := f.ready(t)
		c.send(subscribe("1", whoami))
		<-asked
		done := drain(f, soon)
		require.Eventually(t, func() bool {
			_, response, _ := (&websocket.Dialer{}).Dial(f.url, nil)
			return response.StatusCode == http.StatusServiceUnavailable
		}, soon, time.Millisecond)
		c.quiet()
		close(answer)
		c.expect(`{"id":"1","type":"next","payload":` + whoamiOK + `}`)
		c.expect(`{"id":"1","type":"complete"}`)
		c.expectClose(1012)
		require.NoError(t, <-done)
	})
	t.Run("the grace period ends for everybody", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		f.viewer = func(ctx context.Context) (*models.User, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		c := f.ready(t)
		c.send(subscribe("1", whoami))
		c.quiet()
		require.ErrorIs(t, <-drain(f, 100*time.Millisecond), context.DeadlineExceeded)
		require.Eventually(t, func() bool { return f.streams.Open() == 0 }, soon, time.Millisecond)
	})
}

// Not parallel: it counts this process's goroutines.
func TestWebsocket_LeavesNothingBehind(t *testing.T) {
	f := setup(t)
	var sources atomic.Int32
	f.watch = func(ctx context.Context) (<-chan *models.RunEvent, error) {
		sources.Add(1)
		context.AfterFunc(ctx, func() { sources.Add(-1) })
		return flood(ctx, nil), nil
	}
	cycle := func(i int) {
		c := f.ready(t)
		c.send(subscribe("1", watch))
		c.expect(next("1", 1))
		switch i % 3 {
		case 0: // gone without a word
			require.NoError(t, c.NetConn().(*net.TCPConn).SetLinger(0))
		case 1:
			c.send(`{"id":"1","type":"complete"}`)
		case 2:
			require.NoError(t, c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(soon)))
			_, _ = io.Copy(io.Discard, c.NetConn())
		}
		require.NoError(t, c.NetConn().Close())
	}
	settled := func() bool { return f.streams.Open() == 0 && sources.Load() == 0 }
	for i := range 30 {
		cycle(i)
	}
	require.Eventually(t, settled, soon, time.Millisecond)
	http.DefaultClient.CloseIdleConnections()
	before := runtime.NumGoroutine()
	for i := range 1000 {
		cycle(i)
	}
	require.Eventually(t, settled, soon, time.Millisecond)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, soon, 10*time.Millisecond)
}
