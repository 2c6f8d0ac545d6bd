package server

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/ast"
)

// WebsocketConfig says how sockets are made.
type WebsocketConfig struct {
	Streams     *Streams                 // who may connect, and within which bounds
	CheckOrigin func(*http.Request) bool // nil: browsers only from our own origin
	MaxMessage  int64                    // bytes of one message from the client; 256 KiB unless set
	Log         *slog.Logger
	// Ended hears of each operation when it is over. nil for nobody.
	Ended func(kind ast.Operation, outcome string, elapsed time.Duration)
}

// Websocket is a transport for queries and subscriptions over the protocol graphql-transport-ws and its predecessor graphql-ws.
type Websocket struct {
	cfg      WebsocketConfig
	upgrader websocket.Upgrader
}

var _ graphql.Transport = (*Websocket)(nil)

// NewWebsocket makes the transport.
func NewWebsocket(cfg WebsocketConfig) *Websocket {
	fallback(&cfg.MaxMessage, 256<<10)
	return &Websocket{
		cfg: cfg,
		upgrader: websocket.Upgrader{
			HandshakeTimeout: cfg.Streams.cfg.Settings.WriteTimeout,
			Subprotocols:     []string{transportWS.name, olderWS.name},
			CheckOrigin:      cfg.CheckOrigin,
			// An open socket mostly waits: it keeps a small buffer for reading, and borrows one for each write.
			ReadBufferSize:  512,
			WriteBufferSize: 4096,
			WriteBufferPool: &sync.Pool{},
		},
	}
}

// Supports is part of graphql.Transport.
func (t *Websocket) Supports(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// Do is part of graphql.Transport. It returns when the socket is open, so that an open socket does not hold the server's goroutine and
// buffers; the request's context ends then, but its values stay the socket's.
func (t *Websocket) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	if t.cfg.Streams.isDraining() {
		w.Header().Set("Retry-After", retryAfter())
		http.Error(w, "the server is going away", http.StatusServiceUnavailable)
		return
	}
	conn, err := t.upgrader.Upgrade(w, r, nil)
	if err != nil { // the client has been told
		t.cfg.Log.DebugContext(r.Context(), "websocket handshake refused", "error", err)
		return
	}
	s := newSocket(t, conn, r, exec)
	if !t.cfg.Streams.enter(s) {
		s.restart()
		s.shut()
		return
	}
	go s.serve()
}
