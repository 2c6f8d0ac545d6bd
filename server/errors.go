package server

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/models"
)

// The codes of what GraphQL itself finds wrong with a document, as gqlgen writes them.
const (
	parseFailed      = "GRAPHQL_PARSE_FAILED"
	validationFailed = "GRAPHQL_VALIDATION_FAILED"
)

const (
	maxMessage = 500 // characters of an error's message
	maxLogged  = 20  // faults of one response that are written to the log
)

// faults is what went wrong within one response. All of it is logged under one reference.
type faults struct {
	mu        sync.Mutex
	reference string
	logged    int
}

type faultsKey struct{}

// record gives the response's reference, and whether there is room for another line in the log.
func (f *faults) record() (reference string, logged bool) {
	if f == nil {
		return newReference(), true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reference == "" {
		f.reference = newReference()
	}
	f.logged++
	return f.reference, f.logged <= maxLogged
}

func newReference() string {
	var raw [5]byte
	_, _ = rand.Read(raw[:]) // never fails
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw[:]))
}

// panicked is a recovered panic. Its text and stack are for the log.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func recovered(_ context.Context, value any) error { return &panicked{value, debug.Stack()} }

// present decides what a client sees of an error. Known codes keep their message, faults of ours become a reference to the log; what has been
// told in an earlier part is not told again.
func (s *Server) present(ctx context.Context, err error) *gqlerror.Error {
	if errors.Is(err, errTold) {
		return nil
	}
	shown := &gqlerror.Error{}
	var located *gqlerror.Error
	if errors.As(err, &located) {
		shown.Path, shown.Locations = located.Path, located.Locations
	}
	shown.Message, shown.Extensions = s.describe(ctx, err, located)
	shown.Message = shorten(shown.Message, maxMessage)
	if shown.Extensions["code"] == string(models.BadUserInput) && isVariable(shown.Path) {
		shown.Path = nil // a path is a place in the answer
	}
	return shown
}

func (s *Server) describe(ctx context.Context, err error, located *gqlerror.Error) (string, map[string]any) {
	var known *models.Error
	switch {
	case errors.As(err, &known) && known.Code != models.Internal:
		if cause := known.Unwrap(); cause != nil && !errors.Is(cause, context.Canceled) {
			s.fault(ctx, slog.LevelWarn, err, cause)
		}
		return known.Message, code(known.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return "the operation took too long", code(models.Timeout)
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return "the operation was cancelled", code(models.Timeout)
	}
	if located != nil && located.Err == nil && known == nil {
		switch located.Extensions["code"] {
		case parseFailed:
			return located.Message, code(parseFailed)
		case validationFailed:
			if isVariable(located.Path) {
				return "variable $" + located.Path[1:].String() + ": " + located.Message, code(models.BadUserInput)
			}
			return located.Message, code(validationFailed)
		}
	}
	return "internal error, reference " + s.fault(ctx, slog.LevelError, err, err), code(models.Internal)
}

// isVariable tells the paths that gqlparser gives to what is wrong with a variable.
func isVariable(path ast.Path) bool {
	return len(path) > 1 && path[0] == ast.PathName("variable")
}

// fault logs what a client must not see, without the values of variables, and gives the reference.
func (s *Server) fault(ctx context.Context, level slog.Level, err, cause error) string {
	account, _ := ctx.Value(faultsKey{}).(*faults)
	reference, room := account.record()
	if !room {
		return reference
	}
	attributes := []slog.Attr{slog.String("reference", reference), slog.String("error", cause.Error())}
	var located *gqlerror.Error
	if errors.As(err, &located) && len(located.Path) > 0 {
		attributes = append(attributes, slog.String("path", located.Path.String()))
	}
	var p *panicked
	if errors.As(err, &p) {
		attributes = append(attributes, slog.String("stack", string(p.stack)))
	}
	s.log.LogAttrs(ctx, level, "operation failed", attributes...)
	return reference
}

func code[C ~string](c C) map[string]any { return map[string]any{"code": string(c)} }

func coded(message string, c models.Code) *gqlerror.Error {
	return &gqlerror.Error{Message: message, Extensions: code(c)}
}

// statusOf is the HTTP status of a request that was refused for the given errors.
func statusOf(errs gqlerror.List) int {
	if len(errs) == 0 {
		return http.StatusInternalServerError
	}
	name, _ := errs[0].Extensions["code"].(string)
	switch models.Code(name) {
	case parseFailed, validationFailed, models.BadUserInput, models.TooComplex:
		return http.StatusBadRequest
	case models.Unauthenticated:
		return http.StatusUnauthorized
	case models.Forbidden:
		return http.StatusForbidden
	case models.NotFound:
		return http.StatusNotFound
	case models.Conflict:
		return http.StatusConflict
	case models.UnsupportedMediaType:
		return http.StatusUnsupportedMediaType
	case models.RateLimited:
		return http.StatusTooManyRequests
	case models.DatabaseUnavailable, models.AnalyticsUnavailable, models.EmbeddingsUnavailable, models.StorageUnavailable:
		return http.StatusServiceUnavailable
	case models.Timeout:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

func shorten(text string, characters int) string {
	if utf8.RuneCountInString(text) <= characters {
		return text
	}
	return string([]rune(text)[:characters-1]) + "…"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
