package server_test

import (
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

// Two replicas, each with connections and a memory of its own, and rights that are taken back in PostgreSQL by hand.
func TestRights_TakenBackEndSocketsOnEveryReplicaWithin2s(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	var root int
	p.scan(&root, `INSERT INTO users (email, is_superuser) VALUES ('root@example.com', true) RETURNING id`)
	rows, err := store.Open(store.Config{URL: p.databases.AppURL, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, rows.Close()) })
	config := p.config
	config.Authenticate = rows.Viewer
	config.Standing = rows.Standing
	second, err := server.New(config)
	require.NoError(t, err)
	replica := httptest.NewServer(second.Handler())
	t.Cleanup(replica.Close)

	connect := func(url string, user int) client {
		conn, _, err := (&websocket.Dialer{Subprotocols: []string{subprot}}).Dial("ws"+strings.TrimPrefix(url, "http")+"/graphql", nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		c := client{t, conn}
		c.send(fmt.Sprintf(`{"type":"connection_init","payload":{"authorization":"Bearer %s"}}`, p.token(user)))
		c.expect(ack)
		c.send(subscribe("1", watch))
		return c
	}
	type replicas [2]client
	everywhere := func(user int) replicas { return replicas{connect("http://"+p.addr, user), connect(replica.URL, user)} }
	alice, bob, superuser := everywhere(p.alice), everywhere(p.bob), everywhere(root)
	p.subscribed(6)

	ended := func(clients replicas, statement string, user int) {
		t.Helper()
		p.exec(statement, user)
		began := time.Now()
		for _, c := range clients {
			c.expectClose(4403)
		}
		require.Less(t, time.Since(began), 2*time.Second, statement)
	}
	ended(alice, `UPDATE users SET is_active = false WHERE id = $1`, p.alice)
	ended(superuser, `UPDATE users SET is_superuser = false WHERE id = $1`, root)
	for _, c := range bob {
		c.quiet()
	}
	ended(bob, `UPDATE users SET is_active = false WHERE id = $1`, p.bob)
}
