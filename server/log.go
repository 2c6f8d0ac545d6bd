package server

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/models"
)

// request is what the log says about an HTTP request once it is over.
type request struct {
	id string

	mu        sync.Mutex
	userID    int
	operation string // its name
	kind      ast.Operation
	codes     []string
	streamed  bool // the answer was an event stream, whose duration says nothing about the server
}

type requestKey struct{}

// requestFrom never is nil: outside of a request it is one that nobody reads.
func requestFrom(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

func (r *request) setUser(id int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.userID = id
}

func (r *request) setOperation(operation *ast.OperationDefinition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operation, r.kind = shorten(operation.Name, 100), operation.Operation
}

func (r *request) setStreamed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streamed = true
}

func (r *request) isStreamed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.streamed
}

func (r *request) kindOfOperation() ast.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kind
}

// addErrors notes which codes were answered.
func (r *request) addErrors(errs gqlerror.List) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range errs {
		if name, ok := err.Extensions["code"].(string); ok && !slices.Contains(r.codes, name) {
			r.codes = append(r.codes, name)
		}
	}
}

// attributes adds what the log says of the request.
func (r *request) attributes(attributes []slog.Attr) []slog.Attr {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kind != "" {
		attributes = append(attributes, slog.String("type", string(r.kind)), slog.String("operation", r.operation))
	}
	if r.userID != 0 {
		attributes = append(attributes, slog.Int("user", r.userID))
	}
	if len(r.codes) > 0 {
		attributes = append(attributes, slog.String("errors", strings.Join(r.codes, " ")))
	}
	return attributes
}

const (
	requestIDHeader    = "X-Request-Id"
	requestIDAttribute = "request_id"
)

// requestID takes the caller's id where it is harmless in a log, and makes one otherwise.
func requestID(h http.Header) string {
	given := h.Get(requestIDHeader)
	harmless := func(c rune) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_.:", c)
	}
	if given != "" && len(given) <= 100 && strings.IndexFunc(given, func(c rune) bool { return !harmless(c) }) < 0 {
		return given
	}
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

// observe is around every request: its id, its line in the log, its metrics, and the net for panics.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		about := &request{id: requestID(r.Header)}
		w.Header().Set(requestIDHeader, about.id)
		observed := &responseWriter{ResponseWriter: w}
		r = r.WithContext(models.WithOrigin(context.WithValue(r.Context(), requestKey{}, about), s.originOf(r, about.id)))
		route := routeOf(r.URL.Path)
		s.metrics.inFlight.Add(1)
		defer func() {
			s.metrics.inFlight.Add(-1)
			if value := recover(); value != nil {
				if value == http.ErrAbortHandler {
					panic(value)
				}
				s.panicked(observed, r, value)
			}
			elapsed := time.Since(began)
			if !about.isStreamed() {
				s.metrics.requested(route, r.Method, observed.status, elapsed)
			}
			level := slog.LevelInfo
			if route == routeHealth || route == routeReady || route == routeMetrics || route == "playground" {
				level = slog.LevelDebug
			}
			if !s.log.Enabled(r.Context(), level) {
				return
			}
			line := slog.NewRecord(began.Add(elapsed), level, "request", 0) // whose place in the source slog would look for
			var room [10]slog.Attr
			attributes := about.attributes(append(room[:0], slog.String("method", r.Method), slog.String("path", loggedPath(route, r.URL.Path)),
				slog.Int("status", observed.status), slog.Duration("duration", elapsed), slog.Int64("bytes", observed.bytes)))
			line.AddAttrs(append(attributes, slog.String(requestIDAttribute, about.id))...)
			_ = s.lines.Handle(r.Context(), line) // as slog itself has it: there is nobody to tell
		}()
		next.ServeHTTP(observed, r)
	})
}

// loggedPath is a path without the token that the URL of an upload is.
func loggedPath(route, path string) string {
	if route == routeUploads {
		return routeUploads + "…"
	}
	return shorten(path, 200)
}

func (s *Server) panicked(w *responseWriter, r *http.Request, value any) {
	err := s.present(r.Context(), gqlerror.Wrap(&panicked{value, debug.Stack()}))
	if w.status == 0 {
		respondErrors(w, plainJSON, http.StatusInternalServerError, gqlerror.List{err})
	}
}

// responseWriter remembers what was answered.
type responseWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *responseWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Hijack is for websockets.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, buffer, err
}

func (w *responseWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// LogHandler adds the request's id to every line that is written with a request's context.
func LogHandler(next slog.Handler) slog.Handler { return logHandlerOf(next) }

func logHandlerOf(next slog.Handler) logHandler {
	if already, ok := next.(logHandler); ok {
		return already
	}
	return logHandler{next}
}

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	if about := requestFrom(ctx); about.id != "" {
		record = record.Clone()
		record.AddAttrs(slog.String(requestIDAttribute, about.id))
	}
	return h.Handler.Handle(ctx, record)
}

func (h logHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attributes)}
}

func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }
