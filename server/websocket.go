package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
)

// WebsocketConfig says who may connect and within which bounds.
type WebsocketConfig struct {
	// Authenticate turns a bearer token into a context with its viewer, and says when the token expires; zero is never. An error
	// of code UNAUTHENTICATED or FORBIDDEN refuses the client, any other asks it to try again later.
	Authenticate func(ctx context.Context, bearer string) (context.Context, time.Time, error)
	CheckOrigin  func(*http.Request) bool // nil: browsers only from our own origin

	InitTimeout   time.Duration // for connection_init, and again for authenticating; 3 s unless set
	WriteTimeout  time.Duration // for each frame; 4 s unless set
	PingInterval  time.Duration // a client silent for twice as long is gone; 25 s unless set
	MaxMessage    int64         // bytes of one message from the client; 256 KiB unless set
	MaxOperations int           // that one socket may run at once; 100 unless set
	Log           *slog.Logger
}

// Websocket is a transport for queries and subscriptions over the protocol graphql-transport-ws.
type Websocket struct {
	cfg      WebsocketConfig
	upgrader websocket.Upgrader

	mu       sync.Mutex
	sockets  map[*socket]struct{}
	draining bool
	working  sync.WaitGroup // sockets and operations
}

var _ graphql.Transport = (*Websocket)(nil)

const subprotocol = "graphql-transport-ws"

// NewWebsocket makes the transport.
func NewWebsocket(cfg WebsocketConfig) *Websocket {
	fallback(&cfg.InitTimeout, 3*time.Second)
	fallback(&cfg.WriteTimeout, 4*time.Second)
	fallback(&cfg.PingInterval, 25*time.Second)
	fallback(&cfg.MaxMessage, 256<<10)
	fallback(&cfg.MaxOperations, 100)
	return &Websocket{
		cfg:     cfg,
		sockets: map[*socket]struct{}{},
		upgrader: websocket.Upgrader{
			HandshakeTimeout: cfg.WriteTimeout,
			Subprotocols:     []string{subprotocol},
			CheckOrigin:      cfg.CheckOrigin,
			// An open socket mostly waits: it keeps a small buffer for reading, and borrows one for each write.
			ReadBufferSize:  1024,
			WriteBufferSize: 4096,
			WriteBufferPool: &sync.Pool{},
		},
	}
}

func fallback[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Supports is part of graphql.Transport.
func (t *Websocket) Supports(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// Do is part of graphql.Transport. It returns when the socket is open, so that an open socket does not hold the server's goroutine and
// buffers; the request's context ends then, but its values stay the socket's.
func (t *Websocket) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	if t.isDraining() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the server is going away", http.StatusServiceUnavailable)
		return
	}
	conn, err := t.upgrader.Upgrade(w, r, nil)
	if err != nil { // the client has been told
		t.cfg.Log.DebugContext(r.Context(), "websocket handshake refused", "error", err)
		return
	}
	s := newSocket(t, conn, r, exec)
	if !t.register(s) {
		s.restart()
		s.shut()
		return
	}
	go s.serve()
}

// Sockets is how many are open.
func (t *Websocket) Sockets() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.sockets)
}

func (t *Websocket) isDraining() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.draining
}

func (t *Websocket) register(s *socket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.draining {
		return false
	}
	t.sockets[s] = struct{}{}
	t.working.Add(1)
	return true
}

func (t *Websocket) forget(s *socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sockets, s)
	t.working.Done()
}

const (
	// drainPace is the longest time between two closes while draining, so that few sockets are drained at once.
	drainPace = 20 * time.Millisecond
	// drainWindow is over how long many are spread when ctx has no deadline.
	drainWindow = 10 * time.Second
)

// Drain refuses new sockets and closes the open ones with 1012, so that their clients connect to another replica: spread over the first
// three quarters of the time that ctx leaves, so that they do not all come there at once. A socket with a query running is closed when the
// query has been answered. What is still open when ctx ends is cut off, and the error is ctx's.
func (t *Websocket) Drain(ctx context.Context) error {
	t.mu.Lock()
	t.draining = true
	sockets := make([]*socket, 0, len(t.sockets))
	for s := range t.sockets {
		sockets = append(sockets, s)
	}
	t.mu.Unlock()

	window := drainWindow
	if deadline, ok := ctx.Deadline(); ok {
		window = time.Until(deadline) * 3 / 4
	}
	pace := time.NewTicker(max(min(window/time.Duration(len(sockets)+1), drainPace), time.Microsecond))
	defer pace.Stop()
	for _, s := range sockets {
		go s.drain()
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
	done := make(chan struct{})
	go func() {
		t.working.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		for _, s := range sockets {
			s.abort()
		}
		select {
		case <-done:
		case <-time.After(farewell):
		}
		return ctx.Err()
	}
}
