package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/models"
)

const (
	bodyTimeout  = 20 * time.Second // to send a request's body
	writeTimeout = 60 * time.Second // to take the answer, beyond the operation's own time
)

// Values of headers that answers share: net/http reads them.
var (
	noStore, noSniff = []string{"no-store"}, []string{"nosniff"}
	contentTypes     = map[string][]string{responseJSON: {responseJSON + "; charset=utf-8"}, plainJSON: {plainJSON + "; charset=utf-8"}}
)

// serveGraphQL is GraphQL over HTTP: POST with JSON, and GET for queries. Whatever goes wrong, the answer is JSON with coded errors. Only an
// operation with @defer is answered in parts, to clients who read them; each part is JSON too. Clients who ask for events get events.
func (s *Server) serveGraphQL(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff
	if s.websocket.Supports(r) {
		s.websocket.Do(w, r, s.exec)
		return
	}
	accepted := s.acceptedBy(r.Header)
	if accepted.html && r.Method == http.MethodGet && !r.URL.Query().Has("query") {
		http.Redirect(w, r, "/", http.StatusSeeOther) // a person with a browser wants the playground
		return
	}
	mediaType := accepted.mediaType()
	if accepted.json == "" && !accepted.events {
		s.refuse(w, r, plainJSON, refuse(http.StatusNotAcceptable, "the answer can only be %s or %s", responseJSON, plainJSON))
		return
	}
	session, err := s.sessionOf(r, accepted)
	if err != nil {
		s.refuse(w, r, mediaType, &refusal{err: err})
		return
	}
	if s.files != nil && isMultipart(r) {
		ctx := session.context(r.Context())
		params, release, err := s.readMultipart(ctx, w, r)
		defer release()
		if err != nil {
			s.refuseFile(w, r, err)
			return
		}
		s.execute(ctx, w, r, params, accepted, session)
		return
	}
	params, refused := s.read(w, r)
	if refused != nil {
		s.refuse(w, r, mediaType, refused)
		return
	}
	s.execute(session.context(r.Context()), w, r, params, accepted, session)
}

func (s *Server) read(w http.ResponseWriter, r *http.Request) (*graphql.RawParams, *refusal) {
	control := http.NewResponseController(w)
	// Deadlines are those of the connection and not every ResponseWriter has one; without it there is nobody to wait for.
	_ = control.SetWriteDeadline(time.Now().Add(bodyTimeout + s.limits.Timeout + writeTimeout))
	switch r.Method {
	case http.MethodGet:
		return readURL(r.URL)
	case http.MethodPost:
		_ = control.SetReadDeadline(time.Now().Add(bodyTimeout)) // which net/http takes away when all of the body is there
		return readBody(w, r, s.limits.Body)
	default:
		refused := refuse(http.StatusMethodNotAllowed, "use POST, or GET for queries")
		refused.allow = "GET, POST, OPTIONS"
		return nil, refused
	}
}

func (s *Server) execute(ctx context.Context, w http.ResponseWriter, r *http.Request, params *graphql.RawParams, accepted accepted, session Session) {
	mediaType := accepted.mediaType()
	began := time.Now()
	ctx = graphql.StartOperationTrace(ctx)
	params.Headers = r.Header
	resume(params, r.Header, accepted)
	taken := &parts{}
	if accepted.parts {
		ctx = context.WithValue(ctx, partsKey{}, taken)
	}
	operation, errs := s.exec.CreateOperationContext(ctx, params)
	kind := requestFrom(ctx).kindOfOperation()
	events := accepted.eventsFor(kind)
	if refused := refuseKind(r.Method, kind, events); refused != nil {
		s.metrics.operated(kind, outcomeRefused, time.Since(began))
		s.refuse(w, r, mediaType, refused)
		return
	}
	if events {
		s.stream(ctx, w, r, operation, errs, session)
		return
	}
	if len(errs) == 0 && taken.first != nil {
		outcome := s.deliver(ctx, w, operation, taken.first, mediaType)
		s.metrics.operated(kind, outcome, time.Since(began))
		return
	}
	var response *graphql.Response
	if len(errs) > 0 {
		response = s.exec.DispatchError(graphql.WithOperationContext(ctx, operation), errs)
	} else {
		var next graphql.ResponseHandler
		next, ctx = s.exec.DispatchOperation(ctx, operation)
		response = next(ctx)
	}
	if response == nil {
		response = s.unanswered(ctx)
	}
	requestFrom(ctx).addErrors(response.Errors)
	s.metrics.operated(kind, outcomeOf(response), time.Since(began))
	respond(w, mediaType, response)
}

// unanswered is the response to an operation whose client left, or whose time was over, before it began.
func (s *Server) unanswered(ctx context.Context) *graphql.Response {
	return &graphql.Response{Errors: gqlerror.List{s.present(ctx, gqlerror.Wrap(context.Cause(ctx)))}}
}

// refuseKind keeps subscriptions out of answers in one piece, and mutations out of GET, which has no effects, by HTTP's own rules.
func refuseKind(method string, kind ast.Operation, events bool) *refusal {
	switch {
	case kind == ast.Subscription && !events:
		return refuse(http.StatusBadRequest, "subscriptions are served to clients who accept text/event-stream, and over a websocket with the protocol graphql-transport-ws")
	case method == http.MethodGet && kind == ast.Mutation:
		refused := refuse(http.StatusMethodNotAllowed, "GET is for queries only: use POST")
		refused.allow = http.MethodPost
		return refused
	default:
		return nil
	}
}

func outcomeOf(response *graphql.Response) string {
	switch {
	case response.Data == nil:
		return outcomeRefused
	case len(response.Errors) > 0:
		return outcomeErrors
	default:
		return outcomeOK
	}
}

// refuse answers a request that never became an operation.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, mediaType string, why *refusal) {
	failure := s.present(r.Context(), gqlerror.Wrap(why.err))
	errs := gqlerror.List{failure}
	status := why.status
	if status == 0 {
		status = statusOf(errs)
	}
	h := w.Header()
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", challenge(failure.Message))
	case http.StatusMethodNotAllowed:
		h.Set("Allow", why.allow)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", retryAfter())
	}
	requestFrom(r.Context()).addErrors(errs)
	respondErrors(w, mediaType, status, errs)
}

func respondErrors(w http.ResponseWriter, mediaType string, status int, errs gqlerror.List) {
	send(w, mediaType, status, &graphql.Response{Errors: errs})
}

// respond answers an operation. Without data it was refused, which the older media type does not show in the status.
func respond(w http.ResponseWriter, mediaType string, response *graphql.Response) {
	status := http.StatusOK
	if response.Data == nil {
		if status = statusOf(response.Errors); mediaType == plainJSON && status == http.StatusBadRequest {
			status = http.StatusOK
		}
	}
	send(w, mediaType, status, response)
}

// send writes the data as the executor made it: encoding/json would read and copy all of it once more. Without data there is no key "data".
func send(w http.ResponseWriter, mediaType string, status int, response *graphql.Response) {
	head, tail := []byte(`{`), []byte(`}`)
	if len(response.Errors) > 0 {
		head = append(append(head, `"errors":`...), encode(response.Errors)...)
	}
	if response.Data != nil {
		if len(head) > 1 {
			head = append(head, ',')
		}
		head = append(head, `"data":`...)
	}
	if len(response.Extensions) > 0 {
		tail = append(append([]byte(`,"extensions":`), encode(response.Extensions)...), '}')
	}
	rest := append(response.Data, tail...) // the executor's buffer has room, and what is written at once is one packet less
	h := w.Header()
	h["Content-Type"], h["Content-Length"] = contentTypes[mediaType], []string{strconv.Itoa(len(head) + len(rest))}
	w.WriteHeader(status)
	for _, part := range [][]byte{head, rest} {
		if _, err := w.Write(part); err != nil {
			break // the client has left
		}
	}
	plain.Release(rest)
}

// encode fails only for values that no error and no extension of ours holds.
func encode(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		text, _ = json.Marshal(gqlerror.List{coded("the answer could not be encoded", models.Internal)})
	}
	return text
}
