package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/app"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

// platform is everything that answers a socket, on real PostgreSQL.
type platform struct {
	t         *testing.T
	databases *testdb.DB
	db        *pgx.Conn
	config    server.Config
	hub       *live.Hub
	secret    []byte
	addr      string
	leave     func() error // ends the server and says how that went

	alice, bob int
	thread     uuid.UUID // alice's
}

func newPlatform(t *testing.T, change ...func(*live.Config)) *platform {
	t.Helper()
	databases := testdb.NewPostgres(t)
	p := &platform{t: t, databases: databases, secret: []byte(strings.Repeat("s", server.MinSecret)), addr: "127.0.0.1:0"}
	var err error
	p.db, err = pgx.Connect(t.Context(), databases.OwnerURL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.db.Close(context.Background()) })
	p.scan(&p.alice, `INSERT INTO users (email) VALUES ('alice@example.com') RETURNING id`)
	p.scan(&p.bob, `INSERT INTO users (email) VALUES ('bob@example.com') RETURNING id`)
	p.scan(&p.thread, `INSERT INTO threads (user_id) VALUES ($1) RETURNING id`, p.alice)

	log := slog.New(slog.DiscardHandler)
	rows, err := store.Open(store.Config{URL: databases.AppURL, StatementTimeout: soon, Log: log})
	require.NoError(t, err)
	cfg := live.Config{DatabaseURL: databases.AppURL, Store: rows, Log: log}
	for _, c := range change {
		c(&cfg)
	}
	p.hub = live.New(cfg)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.hub.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		running.Wait()
		require.NoError(t, rows.Close())
	})
	p.config = server.Config{
		Resolvers:       &resolvers.Resolver{Store: rows, App: app.New(rows, nil), Live: p.hub, Loaders: &loaders.Loaders{}},
		Authenticate:    rows.Viewer,
		AuthenticateKey: rows.ViewerByKey,
		Standing:        rows.Standing,
		Secret:          p.secret,
		Grace:           soon,
		Streams:         server.StreamSettings{InitTimeout: soon},
		Log:             log,
	}
	p.serve()
	return p
}

// serve begins a server, which listens where the one before it did.
func (p *platform) serve() {
	p.t.Helper()
	srv, err := server.New(p.config)
	require.NoError(p.t, err)
	listener, err := net.Listen("tcp", p.addr)
	require.NoError(p.t, err)
	p.addr = listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, listener) }()
	p.leave = sync.OnceValue(func() error {
		stop()
		return <-done
	})
	p.t.Cleanup(func() { require.NoError(p.t, p.leave()) })
}

func (p *platform) scan(into any, query string, args ...any) {
	p.t.Helper()
	require.NoError(p.t, p.db.QueryRow(p.t.Context(), query, args...).Scan(into))
}

func (p *platform) exec(query string, args ...any) {
	p.t.Helper()
	_, err := p.db.Exec(p.t.Context(), query, args...)
	require.NoError(p.t, err)
}

func (p *platform) run(user int) uuid.UUID {
	p.t.Helper()
	var id uuid.UUID
	p.scan(&id, `INSERT INTO runs (user_id, thread_id, input_data)
		VALUES ($1, (SELECT id FROM threads WHERE user_id = $1), '{"wide": "column"}') RETURNING id`, user)
	return id
}

// step moves a run on to its next version.
func (p *platform) step(run uuid.UUID) {
	p.t.Helper()
	p.exec(`UPDATE runs SET status = CASE status WHEN 'pending' THEN 'processing' ELSE 'pending' END WHERE id = $1`, run)
}

func (p *platform) token(user int) string {
	p.t.Helper()
	token, err := server.NewToken(p.secret, user, time.Hour)
	require.NoError(p.t, err)
	return token
}

func runID(id uuid.UUID) string {
	return models.GlobalID{Kind: models.KindRun, Key: id.String()}.String()
}
func threadID(id uuid.UUID) string {
	return models.GlobalID{Kind: models.KindThread, Key: id.String()}.String()
}

// stockClient is a stock client in a Node process.
type stockClient struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string
}

var installed = sync.OnceValue(func() error {
	missing := false
	for _, name := range []string{"graphql-ws", "graphql-sse", "subscriptions-transport-ws"} {
		_, err := os.Stat("wsclient/node_modules/" + name)
		missing = missing || err != nil
	}
	if !missing {
		return nil
	}
	install := exec.Command("npm", "ci")
	install.Dir = "wsclient"
	if output, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in server/wsclient: %w\n%s", err, output)
	}
	return nil
})

// stock is graphql-ws.
func (p *platform) stock(tokens ...string) *stockClient {
	p.t.Helper()
	return p.node("client.mjs", append([]string{"ws://" + p.addr + "/graphql"}, tokens...)...)
}

func (p *platform) node(program string, arguments ...string) *stockClient {
	t := p.t
	t.Helper()
	require.NoError(t, installed())
	node := exec.Command("node", append([]string{"wsclient/" + program}, arguments...)...)
	node.Stderr = os.Stderr
	in, err := node.StdinPipe()
	require.NoError(t, err)
	out, err := node.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, node.Start())
	c := &stockClient{t: t, in: in, lines: make(chan string, 10_000)}
	go func() {
		defer close(c.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			c.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_ = in.Close()
		require.NoError(t, node.Wait())
	})
	return c
}

func (c *stockClient) send(command map[string]any) {
	c.t.Helper()
	line, err := json.Marshal(command)
	require.NoError(c.t, err)
	_, err = c.in.Write(append(line, '\n'))
	require.NoError(c.t, err)
}

func (c *stockClient) receive() string {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		require.True(c.t, ok, "the client has ended")
		return line
	case <-time.After(2 * soon): // Node needs its time on a busy machine
		require.FailNow(c.t, "the client was told nothing")
		return ""
	}
}

func (c *stockClient) expect(line string) {
	c.t.Helper()
	require.JSONEq(c.t, line, c.receive())
}

// watched is the answer to watch at a version that step made.
func watched(id string, version int) string {
	status := []string{"PROCESSING", "PENDING"}[version%2]
	return fmt.Sprintf(`{"id":%q,"next":{"data":{"runStatusChanged":{"status":%q,"version":%d}}}}`, id, status, version)
}

func (c *stockClient) closed(code int) {
	c.t.Helper()
	var told struct {
		Event string
		Code  int
	}
	line := c.receive()
	require.NoError(c.t, json.Unmarshal([]byte(line), &told))
	require.Equal(c.t, "closed", told.Event, line)
	require.Equal(c.t, code, told.Code, line)
}

const connected = `{"event":"connected"}`

// subscribed returns when the hub knows of n subscriptions: what changes from then on is heard.
func (p *platform) subscribed(n int) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return p.hub.Subscribers() == n }, soon, time.Millisecond)
}

func TestStockClient_HearsAnUpdateTypedIntoPostgreSQL(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	run := p.run(p.alice)
	c := p.stock(p.token(p.alice))
	c.expect(connected)
	c.send(map[string]any{"id": "q", "query": `{ viewer { email } }`})
	c.expect(`{"id":"q","next":{"data":{"viewer":{"email":"alice@example.com"}}}}`)
	c.expect(`{"id":"q","complete":true}`)
	c.send(map[string]any{"id": "s", "query": `subscription ($run: ID) { runStatusChanged(runId: $run) {
		run { id status version inputData user { email } thread { id } } previousStatus status version } }`, "variables": map[string]any{"run": runID(run)}})
	c.expect(fmt.Sprintf(`{"id":"s","next":{"data":{"runStatusChanged":{"previousStatus":null,"status":"PENDING","version":1,"run":
		{"id":%q,"status":"PENDING","version":1,"inputData":{"wide":"column"},"user":{"email":"alice@example.com"},"thread":{"id":%q}}}}}}`, runID(run), threadID(p.thread)))
	p.exec(`UPDATE runs SET status = 'processing' WHERE id = $1`, run)
	c.expect(fmt.Sprintf(`{"id":"s","next":{"data":{"runStatusChanged":{"previousStatus":"PENDING","status":"PROCESSING","version":2,"run":
		{"id":%q,"status":"PROCESSING","version":2,"inputData":{"wide":"column"},"user":{"email":"alice@example.com"},"thread":{"id":%q}}}}}}`, runID(run), threadID(p.thread)))
	c.send(map[string]any{"dispose": "s"})
	c.expect(`{"id":"s","complete":true}`)
	p.subscribed(0)
}

func TestStockClient_IsToldWhatIsWrongWithItsSubscription(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	theirs := p.run(p.bob)
	c := p.stock(p.token(p.alice))
	c.expect(connected)
	for id, want := range map[string]string{
		`runId: "` + runID(theirs) + `"`:           `{"message":"no such Run","extensions":{"code":"NOT_FOUND"}}`,
		`runId: "` + runID(uuid.New()) + `"`:       `{"message":"no such Run","extensions":{"code":"NOT_FOUND"}}`,
		`threadId: "` + threadID(uuid.New()) + `"`: `{"message":"no such Thread","extensions":{"code":"NOT_FOUND"}}`,
		`runId: "x"`:                        `{"message":"malformed id: use an id as the API gave it","extensions":{"code":"BAD_USER_INPUT"}}`,
		`threadId: "` + runID(theirs) + `"`: `{"message":"this is the id of a Run, not of a Thread","extensions":{"code":"BAD_USER_INPUT"}}`,
		`runId: 7`:                          ``,
		`unknown: true`:                     ``,
	} {
		c.send(map[string]any{"id": "s", "query": `subscription { runStatusChanged(` + id + `) { status } }`})
		var told struct {
			ID    string
			Error []struct {
				Message    string         `json:"message"`
				Extensions map[string]any `json:"extensions"`
			}
		}
		line := c.receive()
		require.NoError(t, json.Unmarshal([]byte(line), &told))
		require.Len(t, told.Error, 1, line)
		require.NotEqual(t, "INTERNAL", told.Error[0].Extensions["code"])
		if want != "" {
			got, err := json.Marshal(told.Error[0])
			require.NoError(t, err)
			require.JSONEq(t, want, string(got))
		}
	}
	p.subscribed(0)
}

func TestStockClient_ComesBackAfterARestartOfTheServer(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	run := p.run(p.alice)
	c := p.stock(p.token(p.alice))
	c.expect(connected)
	c.send(map[string]any{"id": "s", "query": watch})
	c.expect(watched("s", 1))
	p.step(run)
	c.expect(watched("s", 2))
	require.NoError(t, p.leave())
	c.closed(websocket.CloseServiceRestart)
	p.serve()
	line := c.receive()
	for ; strings.Contains(line, `"closed"`); line = c.receive() { // while nobody listened
	}
	require.JSONEq(t, connected, line)
	c.expect(watched("s", 2))
	p.step(run)
	c.expect(watched("s", 3))
}

func TestStockClient_ComesBackWithAnotherTokenAfterARefusal(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	c := p.stock("forged", p.token(p.alice))
	c.closed(4403)
	c.expect(connected)
}

func TestStockClient_GivesUpAfterAFewRefusals(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	c := p.stock("forged")
	for range 6 {
		c.closed(4403)
	}
	c.expect(`{"event":"gave up","code":4403}`)
}

func TestStockClient_BeginsAgainWhenItWasTooSlow(t *testing.T) {
	t.Parallel()
	p := newPlatform(t, func(cfg *live.Config) { cfg.Mailbox = 10 })
	run := p.run(p.alice)
	c := p.stock(p.token(p.alice))
	c.expect(connected)
	c.send(map[string]any{"id": "s", "query": watch})
	p.subscribed(1)
	p.exec(`INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, 5000)`, p.alice)
	line := c.receive()
	for ; strings.Contains(line, `"next"`); line = c.receive() {
	}
	require.Contains(t, line, `"code":1013`)
	c.expect(connected)
	again := make(chan struct{})
	go func() {
		defer close(again)
		for !strings.Contains(c.receive(), `"PROCESSING"`) { // which only this run ever is
		}
	}()
	require.Eventually(t, func() bool { // a change that comes before it has begun again is part of a state, and only the newest are told of
		p.step(run)
		select {
		case <-again:
			return true
		default:
			return false
		}
	}, soon, 20*time.Millisecond)
}

func TestSubscription_ShowsOnlyTheViewersOwn(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var root int
	p.scan(&root, `INSERT INTO users (email, is_superuser) VALUES ('root@example.com', true) RETURNING id`)
	users := []int{p.alice, p.bob, root}
	runs := []uuid.UUID{p.run(p.alice), p.run(p.bob)}
	events := make([]chan string, len(users))
	for i, user := range users {
		conn, _, err := (&websocket.Dialer{Subprotocols: []string{subprot}}).Dial("ws://"+p.addr+"/graphql", nil)
		require.NoError(t, err)
		defer conn.Close()
		c := client{t, conn}
		c.send(fmt.Sprintf(`{"type":"connection_init","payload":{"authorization":"Bearer %s"}}`, p.token(user)))
		c.expect(ack)
		c.send(subscribe("s", `subscription { runStatusChanged { run { id user { email } } version } }`))
		p.subscribed(i + 1)
		events[i] = make(chan string, 100)
		require.NoError(t, conn.SetReadDeadline(time.Time{}))
		go func() {
			for {
				_, data, err := conn.ReadMessage()
				if err != nil {
					return
				}
				events[i] <- string(data)
			}
		}()
	}
	heard := func() {
		for _, i := range []int{0, 1} {
			require.Contains(t, within(t, events[i]), runID(runs[i]))
			require.Contains(t, within(t, events[2]), runID(runs[i]))
		}
	}
	heard() // the runs as they are
	for range 3 {
		p.step(runs[0])
		p.step(runs[1])
	}
	for range 3 {
		heard()
	}
	for i := range users {
		require.Empty(t, events[i])
	}
}

// What keeps a socket from the data is the same as for a request.
func TestSubscription_NeedsAToken(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	expired, err := server.NewToken(p.secret, p.alice, -time.Minute)
	require.NoError(t, err)
	stranger, err := server.NewToken([]byte(strings.Repeat("x", server.MinSecret)), p.alice, time.Hour)
	require.NoError(t, err)
	var gone int
	p.scan(&gone, `INSERT INTO users (email, is_active) VALUES ('gone@example.com', false) RETURNING id`)
	for _, token := range []string{"", "x", expired, stranger, p.token(gone), p.token(1 << 30)} {
		conn, _, err := (&websocket.Dialer{Subprotocols: []string{subprot}}).Dial("ws://"+p.addr+"/graphql", nil)
		require.NoError(t, err)
		c := client{t, conn}
		c.send(fmt.Sprintf(`{"type":"connection_init","payload":{"authorization":"Bearer %s"}}`, token))
		c.expectClose(4403)
		require.NoError(t, conn.Close())
	}
	_, response, err := (&websocket.Dialer{}).Dial("ws://"+p.addr+"/graphql", http.Header{"Origin": {"https://evil.example"}})
	require.True(t, errors.Is(err, websocket.ErrBadHandshake))
	require.Equal(t, http.StatusForbidden, response.StatusCode)
}
