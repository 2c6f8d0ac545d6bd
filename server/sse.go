package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/models"
)

const eventStreamType = "text/event-stream"

// afterVariable is the variable that says where a subscription resumes, by our own convention.
const afterVariable = "after"

// resume puts the id of the last event that a client has seen into the variable. An operation that does not declare it sends no ids.
func resume(params *graphql.RawParams, h http.Header, accepted accepted) {
	last := h.Get("Last-Event-ID")
	if last == "" || !accepted.events {
		return
	}
	params.Variables = maps.Clone(params.Variables)
	if params.Variables == nil {
		params.Variables = map[string]any{}
	}
	params.Variables[afterVariable] = last
}

// stream answers an operation by the protocol graphql-sse, in its mode of distinct connections: events `next` and, when all has been told,
// `complete`. A stream that ends without `complete` is one to be opened again.
func (s *Server) stream(ctx context.Context, w http.ResponseWriter, r *http.Request, operation *graphql.OperationContext, errs gqlerror.List, session Session) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kind := requestFrom(ctx).kindOfOperation()
	e := &eventStream{
		w: w, control: http.NewResponseController(w), cancel: cancel, query: kind != ast.Subscription,
		resumable: operation != nil && operation.Operation != nil && operation.Operation.VariableDefinitions.ForName(afterVariable) != nil,
		settings:  &s.streams.cfg.Settings,
	}
	if !s.streams.enter(e) {
		s.refuse(w, r, plainJSON, &refusal{status: http.StatusServiceUnavailable, err: models.Errorf(models.RateLimited, "the server is going away")})
		return
	}
	defer s.streams.leave(e)
	if session != (Session{}) {
		if err := s.streams.admit(e, session.Viewer); err != nil {
			s.refuse(w, r, plainJSON, &refusal{err: err})
			return
		}
	}
	began := time.Now()
	requestFrom(ctx).setStreamed()
	if !session.Expires.IsZero() {
		expiry := time.AfterFunc(time.Until(session.Expires), func() { e.end("4403 Forbidden: the token has expired") })
		defer expiry.Stop()
	}
	boundUnread(ctx.Value(connKey{}))
	e.open()
	defer e.close()
	s.metrics.operated(kind, s.tell(ctx, e, operation, errs), time.Since(began))
}

// tell executes the operation and writes what comes of it.
func (s *Server) tell(ctx context.Context, e *eventStream, operation *graphql.OperationContext, errs gqlerror.List) (outcome string) {
	ctx = graphql.WithOperationContext(ctx, operation)
	about := requestFrom(ctx)
	if len(errs) > 0 {
		response := s.exec.DispatchError(ctx, errs)
		about.addErrors(response.Errors)
		if e.next(response) {
			e.complete()
		}
		return outcomeRefused
	}
	outcome = outcomeOK
	var responses graphql.ResponseHandler
	dispatch := func() { responses, ctx = s.exec.DispatchOperation(ctx, operation) }
	if e.query {
		dispatch()
	} else if !s.streams.begin(ctx, dispatch) {
		return outcome
	}
	for {
		response := nextResponse(ctx, operation, responses)
		if response == nil {
			break
		}
		if len(response.Errors) > 0 {
			outcome = outcomeOf(response)
			about.addErrors(response.Errors)
		}
		if !e.next(response) {
			return outcome
		}
	}
	if ctx.Err() != nil {
		return outcome
	}
	if stream, ok := streamOf(operation); ok && stream.Err() != nil {
		e.end(strconv.Itoa(1013) + " Begin again: " + stream.Err().Error())
		return outcome
	}
	e.complete()
	return outcome
}

// eventStream is one answer in events. Whoever has something to write does so under the lock, with a deadline.
type eventStream struct {
	w         http.ResponseWriter
	control   *http.ResponseController
	cancel    context.CancelFunc // of the operation
	query     bool               // not a subscription: it ends by itself
	resumable bool               // the operation takes the cursor of an event to go on from
	settings  *StreamSettings

	mu        sync.Mutex
	over      bool // nothing more is written
	heartbeat *time.Timer
}

func (e *eventStream) open() {
	h := e.w.Header()
	h.Set("Content-Type", eventStreamType+"; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-transform") // a proxy that compresses collects events first
	h.Set("X-Accel-Buffering", "no")                 // one kind of proxy collects events unless told not to
	e.w.WriteHeader(http.StatusOK)
	e.mu.Lock()
	defer e.mu.Unlock()
	// After how many milliseconds to open the stream again; not the same for all.
	e.write([]byte("retry: " + strconv.Itoa(1000+rand.IntN(2000)) + "\n\n"))
	e.heartbeat = time.AfterFunc(e.settings.Heartbeat/2+rand.N(e.settings.Heartbeat/2), e.beat)
}

// close returns when nobody writes any more.
func (e *eventStream) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	e.heartbeat.Stop()
}

func (e *eventStream) beat() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.write([]byte(":\n\n")) {
		e.heartbeat.Reset(e.settings.Heartbeat)
	}
}

// next writes one result.
func (e *eventStream) next(response *graphql.Response) bool {
	buf := buffers.Get().(*bytes.Buffer)
	defer putBuffer(buf)
	buf.Reset()
	buf.WriteString("event: next\n")
	if e.resumable {
		if id := cursorOf(response.Data); id != "" {
			buf.WriteString("id: " + id + "\n")
		}
	}
	buf.WriteString("data: ")
	from := buf.Len()
	writeResponse(buf, response)
	for i, c := range buf.Bytes()[from:] {
		if c == '\n' || c == '\r' { // between tokens, where any space will do: within text JSON escapes them
			buf.Bytes()[from+i] = ' '
		}
	}
	buf.WriteString("\n\n")
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.write(buf.Bytes())
}

func (e *eventStream) complete() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.write([]byte("event: complete\ndata:\n\n"))
	e.over = true
}

// end stops the stream without completing it; the reason is a comment, for people.
func (e *eventStream) end(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.write([]byte(": " + reason + "\n\n"))
	e.over = true
	e.cancel()
}

// write is called with the lock held. A client who does not take what is written in time is cut off.
func (e *eventStream) write(text []byte) bool {
	if e.over {
		return false
	}
	_ = e.control.SetWriteDeadline(time.Now().Add(e.settings.WriteTimeout)) // where there are none, writing will tell
	_, err := e.w.Write(text)
	if err = errors.Join(err, e.control.Flush()); err != nil {
		e.over = true
		e.cancel()
		return false
	}
	return true
}

// drain is part of stream.
func (e *eventStream) drain() {
	if !e.query {
		e.end("1012 the server is going away")
	}
}

// revoke is part of stream.
func (e *eventStream) revoke(reason string) { e.end("4403 Forbidden: " + reason) }

// abort is part of stream.
func (e *eventStream) abort() { e.cancel() }

// cursorOf is the cursor of an event, where the operation selects it under its own name; empty where not.
func cursorOf(data []byte) string {
	var root map[string]json.RawMessage
	if json.Unmarshal(data, &root) != nil || len(root) != 1 {
		return ""
	}
	for _, field := range root {
		var event struct{ Cursor string }
		if json.Unmarshal(field, &event) != nil || strings.ContainsAny(event.Cursor, "\r\n\x00") {
			return ""
		}
		return event.Cursor
	}
	return ""
}
