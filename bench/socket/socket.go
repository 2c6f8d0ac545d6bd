// Package socket is a client of graphql-transport-ws that costs little, for benchmarks that open thousands.
package socket

import (
	"context"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
)

// patience is how long the handshake and the acknowledgement may take each: a herd of clients waits its turn.
const patience = 30 * time.Second

// Open connects to a server at host:port and signs in.
func Open(ctx context.Context, address, token string) (*websocket.Conn, error) {
	dialer := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}, ReadBufferSize: 512, WriteBufferSize: 512, HandshakeTimeout: patience}
	conn, _, err := dialer.DialContext(ctx, "ws://"+address+"/graphql", nil)
	if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	if err := signIn(conn, token); err != nil {
		_ = conn.Close() // it is of no use
		return nil, err
	}
	return conn, nil
}

func signIn(conn *websocket.Conn, token string) error {
	if err := conn.WriteJSON(map[string]any{"type": "connection_init", "payload": map[string]any{"authorization": "Bearer " + token}}); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var ack struct{ Type string }
	if err := conn.ReadJSON(&ack); err != nil {
		return fmt.Errorf("wait for the acknowledgement: %w", err)
	}
	if ack.Type != "connection_ack" {
		return fmt.Errorf("not acknowledged: %q", ack.Type)
	}
	return conn.SetReadDeadline(time.Time{})
}

// Subscribe begins an operation. What comes is for whoever reads the socket.
func Subscribe(conn *websocket.Conn, id, query string, variables map[string]any) error {
	err := conn.WriteJSON(map[string]any{"id": id, "type": "subscribe", "payload": map[string]any{"query": query, "variables": variables}})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}
