package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/99designs/gqlgen/graphql"
	"github.com/gorilla/websocket"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
)

// Close codes of graphql-transport-ws. The stock client gives up on 4400, 4401, 4406, 4409 and 4429, on 4500 and on 1002 to 1011; it comes back
// after 4403, 4408, 1012 and 1013.
const (
	closeInvalidMessage = 4400
	closeUnauthorized   = 4401 // subscribed before connection_ack
	closeForbidden      = 4403
	closeSubprotocol    = 4406
	closeInitTimeout    = 4408
	closeDuplicate      = 4409
	closeTooManyInits   = 4429
)

// farewell is how long a client has to answer our close frame. Cutting the connection at once would make the kernel reset it
// where something of the client's is still unread, and the client would never see the code.
const farewell = time.Second

// socket is one client. It has a goroutine for reading and one for each operation; whoever has something to write does so under the
// lock, with a deadline.
type socket struct {
	transport *Websocket
	conn      *websocket.Conn
	exec      graphql.GraphExecutor
	header    http.Header
	ctx       context.Context // after connection_ack with the viewer
	cancel    context.CancelFunc
	closing   atomic.Bool
	started   bool        // connection_init has come; used by the reader only
	ready     bool        // connection_ack is sent; used by the reader only
	limit     *time.Timer // of connection_init, then of authenticating, then the token's end; used by the reader only

	mu         sync.Mutex // held while writing: what was decided about an operation holds until the frame is out
	operations map[string]*operation
	running    int // operations, with those that the client has completed and that have not yet stopped
	queries    int // those among them that are not subscriptions
	draining   bool
	ping       *time.Timer
}

type operation struct {
	id     string
	cancel context.CancelFunc
}

func newSocket(t *Websocket, conn *websocket.Conn, r *http.Request, exec graphql.GraphExecutor) *socket {
	s := &socket{transport: t, conn: conn, exec: exec, header: r.Header}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(r.Context()))
	conn.SetReadLimit(t.cfg.MaxMessage)
	s.alive()
	conn.SetPongHandler(func(string) error {
		s.alive()
		return nil
	})
	answerPing := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		s.alive()
		return answerPing(data)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ping = time.AfterFunc(t.cfg.PingInterval, s.sendPing)
	s.limit = time.AfterFunc(t.cfg.InitTimeout, func() { s.close(closeInitTimeout, "Connection initialisation timeout") })
	return s
}

// alive gives the client another while to be silent.
func (s *socket) alive() {
	_ = s.conn.SetReadDeadline(time.Now().Add(2*s.transport.cfg.PingInterval + s.transport.cfg.WriteTimeout)) // reading will tell
}

func (s *socket) sendPing() {
	if s.closing.Load() {
		return
	}
	if err := s.conn.WriteControl(websocket.PingMessage, nil, s.writeDeadline()); err != nil {
		s.abort()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ping.Reset(s.transport.cfg.PingInterval)
}

func (s *socket) writeDeadline() time.Time { return time.Now().Add(s.transport.cfg.WriteTimeout) }

// serve reads until the connection ends.
func (s *socket) serve() {
	defer s.transport.forget(s)
	defer s.shut()
	if s.conn.Subprotocol() != subprotocol {
		s.close(closeSubprotocol, "Subprotocol not acceptable")
	}
	for {
		kind, data, err := s.conn.ReadMessage()
		if err != nil {
			s.discard(err)
			return
		}
		if s.closing.Load() {
			continue
		}
		s.alive()
		s.receive(kind, data)
	}
}

// discard waits for a client that broke a rule of RFC 6455 to read the close frame that gorilla has sent it.
func (s *socket) discard(err error) {
	var left *websocket.CloseError
	var broken net.Error
	if errors.As(err, &left) || errors.As(err, &broken) {
		return
	}
	s.closing.Store(true)
	s.cancel()
	conn := s.conn.NetConn()
	_ = conn.SetReadDeadline(time.Now().Add(farewell)) // reading will tell
	_, _ = io.Copy(io.Discard, conn)                   // whatever it is, it is over
}

// shut leaves nothing behind.
func (s *socket) shut() {
	s.abort()
	s.limit.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ping.Stop()
}

func (s *socket) receive(kind int, data []byte) {
	if kind != websocket.TextMessage {
		s.close(closeInvalidMessage, "Messages are text")
		return
	}
	if !utf8.Valid(data) { // a rule of RFC 6455 and not of JSON
		s.close(websocket.CloseInvalidFramePayloadData, "Invalid UTF-8")
		return
	}
	received := graphql.Now()
	m, err := parseMessage(data)
	if err != nil {
		s.close(closeInvalidMessage, err.Error())
		return
	}
	switch m.kind {
	case "connection_init":
		s.initialise(m.payload)
	case "ping":
		s.write("pong", m.payload)
	case "subscribe":
		s.subscribe(m, received)
	case "complete":
		s.complete(m.id)
	case "pong":
	}
}

func (s *socket) initialise(payload map[string]any) {
	if s.started {
		s.close(closeTooManyInits, "Too many initialisation requests")
		return
	}
	s.started = true
	s.limit.Stop()
	token, ok := bearerToken(payload, s.header)
	if !ok {
		s.close(closeForbidden, "Forbidden: send {\"authorization\": \"Bearer …\"} with connection_init")
		return
	}
	s.limit = time.AfterFunc(s.transport.cfg.InitTimeout, func() { s.close(websocket.CloseTryAgainLater, "Authenticating takes too long") })
	ctx, expires, err := s.transport.cfg.Authenticate(s.ctx, token)
	s.limit.Stop()
	if err != nil {
		s.refuse(err)
		return
	}
	s.ctx = ctx
	if !expires.IsZero() {
		s.limit = time.AfterFunc(time.Until(expires), func() { s.close(closeForbidden, "Forbidden: the token has expired") })
	}
	if s.write("connection_ack", nil) {
		s.ready = true
	}
}

// bearerToken is the token of connection_init, or else of the handshake, where clients outside browsers can put it too.
func bearerToken(payload map[string]any, handshake http.Header) (string, bool) {
	value, ok := payload["authorization"]
	if !ok {
		value, ok = payload["Authorization"]
	}
	if !ok {
		value = handshake.Get("Authorization")
	}
	text, _ := value.(string)
	scheme, token, _ := strings.Cut(text, " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

func (s *socket) refuse(err error) {
	var known *models.Error
	if errors.As(err, &known) && (known.Code == models.Unauthenticated || known.Code == models.Forbidden) {
		s.close(closeForbidden, "Forbidden: "+known.Message)
		return
	}
	if s.ctx.Err() == nil {
		s.transport.cfg.Log.ErrorContext(s.ctx, "websocket: authenticate", "error", err)
	}
	s.close(websocket.CloseTryAgainLater, "Authenticating is not possible now")
}

func (s *socket) subscribe(m message, received time.Time) {
	if !s.ready {
		s.close(closeUnauthorized, "Unauthorized")
		return
	}
	s.mu.Lock()
	_, exists := s.operations[m.id]
	full := s.running >= s.transport.cfg.MaxOperations
	if exists || full || s.draining {
		s.mu.Unlock()
		switch {
		case exists:
			s.close(closeDuplicate, "Subscriber for "+m.id+" already exists")
		case full:
			s.writeError(m.id, gqlerror.List{coded("too many operations at once on one connection", models.RateLimited)})
		}
		return // while draining the client hears 1012 and sends the operation to the next server
	}
	ctx, cancel := context.WithCancel(s.ctx)
	op := &operation{id: m.id, cancel: cancel}
	if s.operations == nil {
		s.operations = map[string]*operation{}
	}
	s.operations[m.id] = op
	s.running++
	s.queries++
	s.transport.working.Add(1)
	s.mu.Unlock()
	m.params.Headers = s.header
	m.params.ReadTime.Start, m.params.ReadTime.End = received, graphql.Now()
	go s.run(ctx, op, m.params)
}

// complete is the client's: from now on nothing is sent for the id, and it may be used again.
func (s *socket) complete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op, ok := s.operations[id]; ok {
		delete(s.operations, id)
		op.cancel()
	}
}

func (s *socket) run(ctx context.Context, op *operation, params *graphql.RawParams) {
	defer s.transport.working.Done()
	query := true
	defer func() {
		op.cancel()
		s.mu.Lock()
		if s.operations[op.id] == op {
			delete(s.operations, op.id)
		}
		s.running--
		s.mu.Unlock()
		if query {
			s.queryEnded()
		}
	}()
	ctx = graphql.StartOperationTrace(ctx)
	operation, errs := s.exec.CreateOperationContext(ctx, params)
	ctx = graphql.WithOperationContext(ctx, operation)
	if len(errs) > 0 {
		s.finish(op, "error", s.exec.DispatchError(ctx, errs).Errors)
		return
	}
	defer func() { // resolvers' panics are gqlgen's affair; this is for what runs around them
		if r := recover(); r != nil {
			failure := gqlerror.WrapIfUnwrapped(operation.Recover(ctx, r))
			s.finish(op, "error", s.exec.DispatchError(ctx, gqlerror.List{failure}).Errors)
		}
	}()
	if operation.Operation.Operation == ast.Subscription {
		query = false
		s.queryEnded()
	}
	responses, ctx := s.exec.DispatchOperation(ctx, operation)
	for first := true; ; first = false {
		response := responses(ctx)
		if response == nil {
			break
		}
		// Without data nothing was executed: the request itself failed.
		if first && response.Data == nil && len(response.Errors) > 0 {
			s.finish(op, "error", response.Errors)
			return
		}
		if !s.next(op, response) {
			return
		}
	}
	if ctx.Err() != nil {
		return
	}
	if stream, ok := operation.Stats.GetExtension(resolvers.StreamExtension).(resolvers.Stream); ok && stream.Err() != nil {
		s.close(websocket.CloseTryAgainLater, "Begin again: "+stream.Err().Error())
		return
	}
	s.finish(op, "complete", nil)
}

func (s *socket) queryEnded() {
	s.mu.Lock()
	s.queries--
	idle := s.draining && s.queries == 0
	s.mu.Unlock()
	if idle {
		s.restart()
	}
}

// drain closes the socket once no query is running.
func (s *socket) drain() {
	s.mu.Lock()
	s.draining = true
	idle := s.queries == 0
	s.mu.Unlock()
	if idle {
		s.restart()
	}
}

func (s *socket) restart() { s.close(websocket.CloseServiceRestart, "the server is going away") }

// next sends one result and says whether the operation goes on.
func (s *socket) next(op *operation, response *graphql.Response) bool {
	buf := buffers.Get().(*bytes.Buffer)
	defer putBuffer(buf)
	buf.Reset()
	startMessage(buf, op.id, "next")
	writeResponse(buf, response)
	buf.WriteByte('}')
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.operations[op.id] == op && s.writeFrame(buf.Bytes())
}

// finish sends an operation's last message, `error` with the errors or `complete`; its id is free when the client sees it.
func (s *socket) finish(op *operation, kind string, errs gqlerror.List) {
	var buf bytes.Buffer
	startMessage(&buf, op.id, kind)
	if kind == "error" {
		buf.Write(encode(errs))
	} else {
		buf.Truncate(buf.Len() - len(payloadKey))
	}
	buf.WriteByte('}')
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.operations[op.id] != op {
		return
	}
	delete(s.operations, op.id)
	s.writeFrame(buf.Bytes())
}

// writeError refuses an operation that was never begun.
func (s *socket) writeError(id string, errs gqlerror.List) {
	var buf bytes.Buffer
	startMessage(&buf, id, "error")
	buf.Write(encode(errs))
	buf.WriteByte('}')
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeFrame(buf.Bytes())
}

// write sends a message that belongs to no operation.
func (s *socket) write(kind string, payload map[string]any) bool {
	encoded, err := json.Marshal(struct {
		Type    string         `json:"type"`
		Payload map[string]any `json:"payload,omitzero"`
	}{kind, payload})
	if err != nil {
		s.close(closeInvalidMessage, "invalid message: the payload cannot be repeated")
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeFrame(encoded)
}

// writeFrame is called with the lock held. A client that does not take the frame in time is cut off: there is no room left to tell it
// a code, and clients come back after a connection that broke.
func (s *socket) writeFrame(frame []byte) bool {
	if s.closing.Load() {
		return false
	}
	_ = s.conn.SetWriteDeadline(s.writeDeadline()) // never fails
	if err := s.conn.WriteMessage(websocket.TextMessage, frame); err != nil {
		s.abort()
		return false
	}
	return true
}

// close ends all operations and says goodbye; the reader goes on until the client has answered, but not for long. Only the first
// call counts.
func (s *socket) close(code int, reason string) {
	if s.closing.Swap(true) {
		return
	}
	s.cancel()
	if err := s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, closeReason(reason)), s.writeDeadline()); err != nil {
		_ = s.conn.Close() // it is gone already
		return
	}
	time.AfterFunc(farewell, func() { _ = s.conn.Close() })
}

// abort ends all operations and cuts the connection.
func (s *socket) abort() {
	s.closing.Store(true)
	s.cancel()
	_ = s.conn.Close() // it is gone already
}

// closeReason keeps a reason within the 123 bytes of a close frame.
func closeReason(reason string) string {
	for len(reason) > 123 {
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	return reason
}
