package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/bench/socket"
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
			sockets[i], err = openSocket(openCtx, c.address, tokens[i], models.GlobalID{Kind: models.KindThread, Key: threadOf(c.data, i, 0).String()}.String())
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

// openSocket returns when the subscription has had its first event.
func openSocket(ctx context.Context, address, token, thread string) (*websocket.Conn, error) {
	conn, err := socket.Open(ctx, address, token)
	if err != nil {
		return nil, err
	}
	if err := socket.Subscribe(conn, "1", watch, map[string]any{"thread": thread}); err != nil {
		return conn, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return conn, err
	}
	var answer struct {
		Type    string
		Payload any
	}
	if err := conn.ReadJSON(&answer); err != nil {
		return conn, err
	}
	if answer.Type != "next" {
		return conn, fmt.Errorf("a subscription was answered with %s: %v", answer.Type, answer.Payload)
	}
	return conn, conn.SetReadDeadline(time.Time{})
}
