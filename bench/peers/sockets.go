package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/models"
)

// subscriptions is how many sockets are open beside the reference query, each of another user and with one subscription.
const subscriptions = 1_000

const watch = `subscription($thread: ID) { runStatusChanged(threadId: $thread) { run { id status } status version } }`

// openSockets connects them and returns when each has had its first event. They are closed by what it returns.
func openSockets(ctx context.Context, c *contender, tokens []string) (closeAll func(), err error) {
	sockets := make([]*websocket.Conn, subscriptions)
	closeAll = func() {
		for _, socket := range sockets {
			if socket != nil {
				_ = socket.Close() // it holds nothing
			}
		}
	}
	opening, openCtx := errgroup.WithContext(ctx)
	opening.SetLimit(8)
	for i := range sockets {
		opening.Go(func() (err error) {
			sockets[i], err = openSocket(openCtx, c, tokens[i], models.GlobalID{Kind: models.KindThread, Key: threadOf(c.data, i, 0).String()}.String())
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		closeAll()
		return nil, err
	}
	for _, socket := range sockets {
		go func() {
			for { // answers pings until the socket is closed
				if _, _, err := socket.ReadMessage(); err != nil {
					return
				}
			}
		}()
	}
	return closeAll, nil
}

func openSocket(ctx context.Context, c *contender, token, thread string) (*websocket.Conn, error) {
	socket, _, err := (&websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}}).DialContext(ctx, "ws://"+c.address+"/graphql", nil)
	if err != nil {
		return nil, err
	}
	if err := socket.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return socket, err
	}
	type frame struct {
		ID      string `json:"id,omitempty"`
		Type    string `json:"type"`
		Payload any    `json:"payload,omitempty"`
	}
	for _, exchange := range []struct {
		send   frame
		expect string
	}{
		{frame{Type: "connection_init", Payload: map[string]any{"authorization": "Bearer " + token}}, "connection_ack"},
		{frame{ID: "1", Type: "subscribe", Payload: map[string]any{"query": watch, "variables": map[string]any{"thread": thread}}}, "next"},
	} {
		if err := socket.WriteJSON(exchange.send); err != nil {
			return socket, err
		}
		var answer frame
		if err := socket.ReadJSON(&answer); err != nil {
			return socket, err
		}
		if answer.Type != exchange.expect {
			return socket, fmt.Errorf("%s was answered with %s: %v", exchange.send.Type, answer.Type, answer.Payload)
		}
	}
	return socket, socket.SetReadDeadline(time.Time{})
}
