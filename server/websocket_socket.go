package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
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
)

// Close codes of graphql-transport-ws, used for the older protocol too, whose client comes back after any. The stock client gives up on 4400,
// 4401, 4406, 4409 and 4429, on 4500 and on 1002 to 1011; it comes back after 4403, 4408, 1006, 1012 and 1013.
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
	streams   *Streams
	protocol  *protocol
	conn      *websocket.Conn
	exec      graphql.GraphExecutor
	token     string          // the handshake's Authorization header; used by the reader only
	ctx       context.Context // with the viewer after connection_ack; used by the reader only, as the fields below
	cancel    context.CancelFunc
	session   Session
	started   bool        // connection_init has come
	ready     bool        // connection_ack is sent
	sentAway  bool        // it will be closed in a while
	limit     *time.Timer // of connection_init, then of authenticating, then the token's end

	closing atomic.Bool

	mu           sync.Mutex // held while writing: what was decided about an operation holds until the frame is out
	operations   map[string]*operation
	acknowledged bool
	running      int // operations, with those that the client has completed and that have not yet stopped
	queries      int // those among them that are not subscriptions
	draining     bool
	ping         *time.Timer
}

type operation struct {
	id     string
	cancel context.CancelFunc
}

func newSocket(t *Websocket, conn *websocket.Conn, r *http.Request, exec graphql.GraphExecutor) *socket {
	s := &socket{
		transport: t, streams: t.cfg.Streams, protocol: protocolOf(conn.Subprotocol()), conn: conn, exec: exec,
		token: r.Header.Get("Authorization"),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(r.Context()))
	boundUnread(conn.NetConn())
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
	// Not after the same while for all who came at once.
	s.ping = time.AfterFunc(s.settings().Heartbeat/2+rand.N(s.settings().Heartbeat/2), s.sendPing)
	s.limit = time.AfterFunc(s.settings().InitTimeout, func() { s.close(closeInitTimeout, "Connection initialisation timeout") })
	return s
}

func (s *socket) settings() *StreamSettings { return &s.streams.cfg.Settings }

// alive gives the client another while to be silent.
func (s *socket) alive() {
	_ = s.conn.SetReadDeadline(time.Now().Add(2*s.settings().Heartbeat + s.settings().WriteTimeout)) // reading will tell
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
	if s.acknowledged {
		s.keepAlive()
	}
	s.ping.Reset(s.settings().Heartbeat)
}

// keepAlive is called with the lock held.
func (s *socket) keepAlive() {
	if s.protocol.keepAlive != "" {
		s.writeFrame([]byte(s.protocol.keepAlive))
	}
}

func (s *socket) writeDeadline() time.Time { return time.Now().Add(s.settings().WriteTimeout) }

// serve reads until the connection ends.
func (s *socket) serve() {
	defer s.streams.leave(s)
	defer s.shut()
	if s.protocol == nil {
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
	m, err := s.protocol.parse(data)
	if err != nil {
		s.close(closeInvalidMessage, err.Error())
		return
	}
	if s.sentAway {
		return
	}
	switch m.kind {
	case kindInit:
		s.initialise(m.payload)
	case kindPing:
		if _, given := authorization(m.payload); s.ready && given {
			s.reauthenticate(m.payload)
			return
		}
		s.write("pong", m.payload)
	case kindSubscribe:
		s.subscribe(m, received)
	case kindComplete:
		s.complete(m.id)
	case kindTerminate:
		s.close(websocket.CloseNormalClosure, "")
	case kindPong:
	}
}

func (s *socket) initialise(payload map[string]any) {
	if s.started {
		s.close(closeTooManyInits, "Too many initialisation requests")
		return
	}
	s.started = true
	s.limit.Stop()
	value, given := authorization(payload)
	if !given {
		value = s.token
	}
	s.token = ""
	session, err := s.authenticate(value)
	if err == nil {
		err = s.streams.admit(s, session.Viewer)
	}
	if err != nil {
		s.refuse(err)
		return
	}
	s.use(session)
	if !s.write("connection_ack", nil) {
		return
	}
	s.ready = true
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acknowledged = true
	s.keepAlive()
}

// authorization is the value for a token in a payload, under the header's name.
func authorization(payload map[string]any) (value any, given bool) {
	for _, key := range []string{"authorization", "Authorization"} {
		if value, given = payload[key]; given {
			return value, true
		}
	}
	return nil, false
}

// authenticate asks for what a token gives. A socket whose client leaves meanwhile, or which takes too long, is closed by the timer.
func (s *socket) authenticate(value any) (Session, error) {
	text, _ := value.(string)
	scheme, token, _ := strings.Cut(text, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Session{}, models.Errorf(models.Unauthenticated, "send {\"authorization\": \"Bearer …\"}")
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.settings().InitTimeout)
	defer cancel()
	var session Session
	var err error
	aside(func() { session, err = s.streams.authenticate(ctx, token) })
	return session, err
}

// use makes a session the socket's: operations that begin from now on are its viewer's.
func (s *socket) use(session Session) {
	s.limit.Stop()
	if !session.Expires.IsZero() {
		s.limit = time.AfterFunc(time.Until(session.Expires), func() { s.close(closeForbidden, "Forbidden: the token has expired") })
	}
	if session.Viewer != s.session.Viewer {
		s.ctx = models.WithViewer(s.ctx, session.Viewer)
	}
	s.session = session
}

// reauthenticate takes a newer token without ending anything. One that is refused changes nothing: the one before is good until its own end.
func (s *socket) reauthenticate(payload map[string]any) {
	value, _ := authorization(payload)
	session, err := s.authenticate(value)
	if err == nil && session.Viewer.UserID != s.session.Viewer.UserID {
		err = models.Errorf(models.Forbidden, "the token is another user's: connect again for that")
	}
	if err == nil && hasLost(s.session.Viewer, session.Viewer) {
		s.revoke("a right was taken back")
		return
	}
	if err == nil {
		err = s.streams.admit(s, session.Viewer)
	}
	if err != nil {
		code, message := s.reason(err)
		s.write("pong", map[string]any{"authorized": false, "code": code, "message": message})
		return
	}
	s.use(session)
	answer := map[string]any{"authorized": true}
	if !session.Expires.IsZero() {
		answer["expires"] = session.Expires.UTC().Format(time.RFC3339)
	}
	s.write("pong", answer)
}

// reason is what a client may know of why it was not authenticated.
func (s *socket) reason(err error) (models.Code, string) {
	var known *models.Error
	if errors.As(err, &known) {
		switch known.Code {
		case models.Unauthenticated, models.Forbidden, models.RateLimited:
			return known.Code, known.Message
		}
	}
	if s.ctx.Err() == nil {
		s.transport.cfg.Log.ErrorContext(s.ctx, "websocket: authenticate", "error", err)
	}
	return models.DatabaseUnavailable, "authenticating is not possible now"
}

// refuse ends a socket that was not authenticated. Those who are not at fault are to come again, and not all at once.
func (s *socket) refuse(err error) {
	code, message := s.reason(err)
	if s.protocol.older {
		s.write("connection_error", map[string]any{"message": message, "extensions": map[string]any{"code": code}})
	}
	if code == models.Unauthenticated || code == models.Forbidden {
		s.close(closeForbidden, "Forbidden: "+message)
		return
	}
	s.sentAway = true
	s.limit = time.AfterFunc(rand.N(dispersal), func() { s.close(websocket.CloseTryAgainLater, "Try again later: "+message) })
}

// revoke is part of stream.
func (s *socket) revoke(reason string) { s.close(closeForbidden, "Forbidden: "+reason) }

func (s *socket) subscribe(m message, received time.Time) {
	if !s.ready {
		s.close(closeUnauthorized, "Unauthorized")
		return
	}
	s.mu.Lock()
	_, exists := s.operations[m.id]
	full := s.running >= s.settings().Operations
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
	s.streams.working.Add(1)
	s.mu.Unlock()
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
	defer s.streams.working.Done()
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
	ctx = context.WithValue(ctx, requestKey{}, &request{id: requestFrom(ctx).id})
	did := deed{began: time.Now(), outcome: outcomeOK}
	defer func() { s.record(ctx, did) }()
	ctx = graphql.StartOperationTrace(ctx)
	var operation *graphql.OperationContext
	var errs gqlerror.List
	aside(func() { operation, errs = s.exec.CreateOperationContext(ctx, params) })
	ctx = graphql.WithOperationContext(ctx, operation)
	if len(errs) > 0 {
		response := s.exec.DispatchError(ctx, errs)
		did.answered(ctx, response)
		s.finish(op, "error", response.Errors)
		return
	}
	defer func() { // resolvers' panics are gqlgen's affair; this is for what runs around them
		if r := recover(); r != nil {
			failure := gqlerror.WrapIfUnwrapped(operation.Recover(ctx, r))
			response := s.exec.DispatchError(ctx, gqlerror.List{failure})
			did.answered(ctx, response)
			s.finish(op, "error", response.Errors)
		}
	}()
	var responses graphql.ResponseHandler
	dispatch := func() { aside(func() { responses, ctx = s.exec.DispatchOperation(ctx, operation) }) }
	if operation.Operation.Operation == ast.Subscription {
		query = false
		s.queryEnded()
		if !s.streams.begin(ctx, dispatch) {
			return
		}
	} else {
		dispatch()
	}
	for first := true; ; first = false {
		response := nextResponse(ctx, operation, responses)
		if response == nil {
			break
		}
		did.answered(ctx, response)
		// Without data nothing was executed: the request itself failed.
		if first && response.Data == nil && len(response.Errors) > 0 {
			s.finish(op, "error", response.Errors)
			return
		}
		if !s.next(op, response) {
			return
		}
		did.events++
	}
	if ctx.Err() != nil {
		return
	}
	if stream, ok := streamOf(operation); ok && stream.Err() != nil {
		s.close(websocket.CloseTryAgainLater, "Begin again: "+stream.Err().Error())
		return
	}
	s.finish(op, "complete", nil)
}

// deed is what is told of an operation once it is over.
type deed struct {
	began   time.Time
	outcome string
	events  int // results that the client was sent
}

func (d *deed) answered(ctx context.Context, response *graphql.Response) {
	if len(response.Errors) > 0 {
		d.outcome = outcomeOf(response)
		requestFrom(ctx).addErrors(response.Errors)
	}
}

// record gives an operation its line in the log and its place in the metrics, as a request over HTTP has them.
func (s *socket) record(ctx context.Context, did deed) {
	about, elapsed := requestFrom(ctx), time.Since(did.began)
	if viewer, err := models.ViewerFrom(ctx); err == nil {
		about.setUser(viewer.UserID)
	}
	if s.transport.cfg.Ended != nil {
		s.transport.cfg.Ended(about.kindOfOperation(), did.outcome, elapsed)
	}
	s.transport.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "operation", about.attributes([]slog.Attr{
		slog.String("transport", s.conn.Subprotocol()), slog.String("outcome", did.outcome), slog.Duration("duration", elapsed), slog.Int("events", did.events),
	})...)
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
	startMessage(buf, op.id, s.protocol.next)
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
		buf.Write(s.protocol.errors(errs))
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
	buf.Write(s.protocol.errors(errs))
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
