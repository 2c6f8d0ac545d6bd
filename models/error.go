package models

import (
	"errors"
	"fmt"
)

// Code tells a client what kind of failure it met; it is `extensions.code` of a GraphQL error.
type Code string

const (
	Unauthenticated       Code = "UNAUTHENTICATED"        // no valid credentials
	Forbidden             Code = "FORBIDDEN"              // valid credentials that do not suffice
	NotFound              Code = "NOT_FOUND"              // absent, or not the viewer's to see: the two are never told apart
	BadUserInput          Code = "BAD_USER_INPUT"         // an argument that can never work
	Conflict              Code = "CONFLICT"               // the state does not allow it
	RateLimited           Code = "RATE_LIMITED"           // too much at once; try again later
	CursorExpired         Code = "CURSOR_EXPIRED"         // a subscription's cursor is too old or of another database: it goes on from a snapshot
	TooComplex            Code = "TOO_COMPLEX"            // the operation is over a limit of size or cost
	UnsupportedMediaType  Code = "UNSUPPORTED_MEDIA_TYPE" // a file of a kind that is not taken, or not of the kind that it was said to be
	AnalyticsUnavailable  Code = "ANALYTICS_UNAVAILABLE"  // ClickHouse cannot answer now
	EmbeddingsUnavailable Code = "EMBEDDINGS_UNAVAILABLE" // there is no endpoint that embeds texts, or it cannot answer now
	StorageUnavailable    Code = "STORAGE_UNAVAILABLE"    // the storage of files cannot answer now
	DatabaseUnavailable   Code = "DATABASE_UNAVAILABLE"   // PostgreSQL cannot answer now
	Timeout               Code = "TIMEOUT"                // it took longer than it may
	Internal              Code = "INTERNAL"               // our fault; the log has the details under the reference given
)

// Error is the one error type that a client may see: its message is written for the client and says nothing internal.
type Error struct {
	Code    Code
	Message string
	cause   error
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause, which is for the log and never for the client.
func (e *Error) Unwrap() error { return e.cause }

// Errorf makes an Error from a message for the client.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap hides cause behind a message for the client.
func Wrap(cause error, code Code, message string) *Error {
	return &Error{Code: code, Message: message, cause: cause}
}

// CodeOf is the code of the first Error in err's chain, Internal where there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
