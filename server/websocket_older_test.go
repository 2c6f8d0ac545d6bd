package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

const (
	older = "graphql-ws"
	ka    = `{"type":"ka"}`
)

func start(id, query string) string {
	payload, _ := json.Marshal(map[string]any{"query": query, "variables": nil, "operationName": nil})
	return fmt.Sprintf(`{"id":%q,"type":"start","payload":%s}`, id, payload)
}

func data(id string, version int) string {
	return strings.Replace(next(id, version), `"next"`, `"data"`, 1)
}

func (f *fixture) dialOlder(t *testing.T) client {
	t.Helper()
	conn, _, err := (&websocket.Dialer{Subprotocols: []string{older}}).Dial(f.url, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.Equal(t, older, conn.Subprotocol())
	return client{t, conn}
}

func TestOlderProtocol_MessageRules(t *testing.T) {
	t.Parallel()
	whoamiData := []any{`<{"id":"1","type":"data","payload":` + whoamiOK + `}`, `<{"id":"1","type":"complete"}`}
	for name, steps := range map[string][]any{
		"init is acknowledged, and then kept alive": {">" + initOK, "<" + ack, "<" + ka},
		"a query":                       append([]any{">" + initOK, "<" + ack, "<" + ka, ">" + start("1", whoami)}, whoamiData...),
		"start in one breath with init": append([]any{">" + initOK, ">" + start("1", whoami), "<" + ack, "<" + ka}, whoamiData...),
		"start before init":             {">" + start("1", whoami), 4401},
		"a second init":                 {">" + initOK, "<" + ack, "<" + ka, ">" + initOK, 4429},
		"no token": {`>{"type":"connection_init","payload":{}}`,
			`<{"type":"connection_error","payload":{"message":"send {\"authorization\": \"Bearer …\"}","extensions":{"code":"UNAUTHENTICATED"}}}`, 4403},
		"a bad token": {`>{"type":"connection_init","payload":{"authorization":"Bearer bad"}}`,
			`<{"type":"connection_error","payload":{"message":"the token is not valid","extensions":{"code":"UNAUTHENTICATED"}}}`, 4403},
		"no way to tell": {`>{"type":"connection_init","payload":{"authorization":"Bearer away"}}`, ">" + start("1", whoami),
			`<{"type":"connection_error","payload":{"message":"authenticating is not possible now","extensions":{"code":"DATABASE_UNAVAILABLE"}}}`, 1013},
		"an expiring token":              {`>{"type":"connection_init","payload":{"authorization":"Bearer second"}}`, "<" + ack, "<" + ka, 4403},
		"terminate":                      {">" + initOK, "<" + ack, "<" + ka, `>{"type":"connection_terminate","payload":null}`, 1000},
		"terminate before init":          {`>{"type":"connection_terminate"}`, 1000},
		"stop of an unknown id":          append([]any{">" + initOK, "<" + ack, "<" + ka, `>{"id":"9","type":"stop"}`, ">" + start("1", whoami)}, whoamiData...),
		"an id in use":                   {">" + initOK, "<" + ack, "<" + ka, ">" + start("1", watch), ">" + start("1", watch), 4409},
		"an id again after stop":         append([]any{">" + initOK, "<" + ack, "<" + ka, ">" + start("1", watch), `>{"id":"1","type":"stop"}`, ">" + start("1", whoami)}, whoamiData...),
		"the newer protocol's subscribe": {">" + subscribe("1", whoami), 4400},
		"the newer protocol's ping":      {`>{"type":"ping"}`, 4400},
		"not JSON":                       {`>hello`, 4400},
		"start without payload":          {`>{"id":"1","type":"start"}`, 4400},
		"an error is one, and its id is free": append([]any{">" + initOK, "<" + ack, "<" + ka, ">" + start("1", "{ nothing more }"),
			`<{"id":"1","type":"error","payload":{"message":"Cannot query field \"nothing\" on type \"Query\".","locations":[{"line":1,"column":3}],"extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}}`,
			">" + start("1", whoami)}, whoamiData...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := setup(t).dialOlder(t)
			for _, step := range steps {
				switch step := step.(type) {
				case int:
					c.expectClose(step)
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

func TestOlderProtocol_Streams(t *testing.T) {
	t.Parallel()
	f := setup(t, func(cfg *server.StreamsConfig) { cfg.Settings.Heartbeat = 20 * time.Millisecond })
	events := make(chan *models.RunEvent)
	f.watch = func(context.Context) (<-chan *models.RunEvent, error) { return events, nil }
	c := f.dialOlder(t)
	c.send(initOK)
	c.expect(ack)
	c.expect(ka)
	c.send(start("1", watch))
	c.expect(ka) // in silence
	for version := range 3 {
		events <- event(version)
		message := c.receive()
		for ; message == ka; message = c.receive() {
		}
		require.JSONEq(t, data("1", version), message)
	}
	close(events)
	message := c.receive()
	for ; message == ka; message = c.receive() {
	}
	require.JSONEq(t, `{"id":"1","type":"complete"}`, message)
}

func TestOlderClient_HearsAnUpdateAndComesBackAfterARestart(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	run := p.run(p.alice)
	c := p.node("older.mjs", "ws://"+p.addr+"/graphql", p.token(p.alice))
	c.expect(connected)
	c.send(map[string]any{"id": "q", "query": `{ viewer { email } }`})
	c.expect(`{"id":"q","next":{"data":{"viewer":{"email":"alice@example.com"}}}}`)
	c.expect(`{"id":"q","complete":true}`)
	c.send(map[string]any{"id": "bad", "query": `{ nothing }`})
	c.expect(`{"id":"bad","error":"GRAPHQL_VALIDATION_FAILED"}`)
	c.send(map[string]any{"id": "s", "query": watch})
	c.expect(watched("s", 1))
	p.step(run)
	c.expect(watched("s", 2))
	require.NoError(t, p.leave())
	c.expect(`{"event":"disconnected"}`)
	p.serve()
	line := c.receive()
	for ; strings.Contains(line, "disconnected"); line = c.receive() { // while nobody listened
	}
	require.JSONEq(t, `{"event":"reconnected"}`, line)
	c.expect(watched("s", 2))
	p.step(run)
	c.expect(watched("s", 3))
	c.send(map[string]any{"dispose": "s"})
	p.subscribed(0)
}

func TestOlderClient_IsToldOfARefusal(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	c := p.node("older.mjs", "ws://"+p.addr+"/graphql", "forged")
	c.expect(`{"event":"refused","code":"UNAUTHENTICATED"}`)
	c.expect(`{"event":"disconnected"}`)
}
