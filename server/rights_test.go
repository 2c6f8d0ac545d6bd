package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

// replicas are two servers over one database, each with connections and a memory of its own.
type replicas struct {
	*platform
	urls [2]string
}

func newReplicas(t *testing.T) *replicas {
	t.Helper()
	p := newPlatform(t)
	rows, err := store.Open(store.Config{URL: p.databases.AppURL, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, rows.Close()) })
	config := p.config
	config.Authenticate, config.AuthenticateKey, config.Standing = rows.Viewer, rows.ViewerByKey, rows.Standing
	second, err := server.New(config)
	require.NoError(t, err)
	listener := httptest.NewServer(second.Handler())
	t.Cleanup(listener.Close)
	return &replicas{platform: p, urls: [2]string{"http://" + p.addr, listener.URL}}
}

// sockets are those of one bearer, with a subscription on each replica.
type sockets [2]client

func (r *replicas) connect(bearer string) (open sockets) {
	r.t.Helper()
	for i, url := range r.urls {
		conn, _, err := (&websocket.Dialer{Subprotocols: []string{subprot}}).Dial("ws"+strings.TrimPrefix(url, "http")+"/graphql", nil)
		require.NoError(r.t, err)
		r.t.Cleanup(func() { _ = conn.Close() })
		open[i] = client{r.t, conn}
		open[i].send(fmt.Sprintf(`{"type":"connection_init","payload":{"authorization":"Bearer %s"}}`, bearer))
		open[i].expect(ack)
		open[i].send(subscribe("1", watch))
	}
	return open
}

// expectEnd waits for the end of both.
func (s sockets) expectEnd(about string) {
	s[0].t.Helper()
	clock := begin(s[0].t)
	for _, c := range s {
		c.expectClose(4403)
	}
	require.Less(s[0].t, clock.took(), 2*time.Second, about)
}

func (s sockets) quiet() {
	for _, c := range s {
		c.quiet()
	}
}

// ask asks the first replica.
func (r *replicas) ask(bearer, query string) string {
	r.t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	require.NoError(r.t, err)
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.urls[0]+"/graphql", strings.NewReader(string(body)))
	require.NoError(r.t, err)
	request.Header.Set("Content-Type", jsonType)
	request.Header.Set("Authorization", "Bearer "+bearer)
	response, err := http.DefaultClient.Do(request)
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(r.t, err)
	return string(text)
}

// Rights that are taken back in PostgreSQL by hand.
func TestRights_TakenBackEndSocketsOnEveryReplicaWithin2s(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	var root int
	r.scan(&root, `INSERT INTO users (email, is_superuser) VALUES ('root@example.com', true) RETURNING id`)
	alice, bob, superuser := r.connect(r.token(r.alice)), r.connect(r.token(r.bob)), r.connect(r.token(root))
	r.subscribed(6)

	ended := func(of sockets, statement string, user int) {
		t.Helper()
		r.exec(statement, user)
		of.expectEnd(statement)
	}
	ended(alice, `UPDATE users SET is_active = false WHERE id = $1`, r.alice)
	ended(superuser, `UPDATE users SET is_superuser = false WHERE id = $1`, root)
	bob.quiet()
	ended(bob, `UPDATE users SET is_active = false WHERE id = $1`, r.bob)
}

func TestRights_OfAnAPIKeyEndItsSocketsOnEveryReplicaWithin2s(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	type made struct {
		APIKey struct{ ID, DatabaseID string }
		Token  string
	}
	key := func(user int, permission string) made {
		t.Helper()
		var answer struct{ Data struct{ CreateAPIKey made } }
		text := r.ask(r.token(user), `mutation{createApiKey(input:{name:"k",permissions:[`+permission+`]}){apiKey{id databaseId} token}}`)
		require.NoError(t, json.Unmarshal([]byte(text), &answer))
		require.NotEmpty(t, answer.Data.CreateAPIKey.Token, text)
		return answer.Data.CreateAPIKey
	}
	revoked, switched, outdated, narrowed, kept, bobs := key(r.alice, "READ"), key(r.alice, "AGENT"), key(r.alice, "WRITE"), key(r.alice, "READ"), key(r.alice, "READ"), key(r.bob, "READ")
	open := map[string]sockets{"alice": r.connect(r.token(r.alice)), "bob": r.connect(r.token(r.bob))}
	for _, k := range []made{revoked, switched, outdated, narrowed, kept, bobs} {
		open[k.Token] = r.connect(k.Token)
	}
	r.subscribed(16)

	require.Contains(t, r.ask(r.token(r.alice), `mutation{revokeApiKey(input:{id:"`+revoked.APIKey.ID+`"}){apiKey{isActive}}}`), `"isActive":false`)
	open[revoked.Token].expectEnd("revokeApiKey")
	for about, k := range map[string]made{
		`UPDATE api_keys SET is_active = false WHERE id = $1`:        switched,
		`UPDATE api_keys SET expires_at = now() WHERE id = $1`:       outdated,
		`UPDATE api_keys SET permissions = '{ingest}' WHERE id = $1`: narrowed,
	} {
		r.exec(about, k.APIKey.DatabaseID)
		open[k.Token].expectEnd(about)
	}
	for _, bearer := range []string{"alice", kept.Token, bobs.Token} {
		open[bearer].quiet()
	}
	r.exec(`UPDATE users SET is_active = false WHERE id = $1`, r.bob)
	open[bobs.Token].expectEnd("the user's deactivation")
	open["bob"].expectEnd("the user's deactivation")
	require.Eventually(t, func() bool { return strings.Contains(r.ask(revoked.Token, "{viewer{id}}"), "UNAUTHENTICATED") }, soon, 10*time.Millisecond)
}

func TestRights_AKeyThatMayNotReadSubscribesToNothing(t *testing.T) {
	t.Parallel()
	r := newReplicas(t)
	var answer struct {
		Data struct{ CreateAPIKey struct{ Token string } }
	}
	require.NoError(t, json.Unmarshal([]byte(r.ask(r.token(r.alice), `mutation{createApiKey(input:{name:"k",permissions:[INGEST]}){token}}`)), &answer))
	for _, c := range r.connect(answer.Data.CreateAPIKey.Token) {
		require.Contains(t, c.receive(), `"code":"FORBIDDEN"`)
	}
}
