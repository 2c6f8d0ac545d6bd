package models

import (
	"strconv"
	"time"

	"github.com/google/uuid"
)

// EventInput is a workload event as a client reports it: the columns of workload_events. What may be absent has a default there.
type EventInput struct {
	EventID       *uuid.UUID // one is made when absent
	Timestamp     *time.Time // when it was received, when absent
	UserID        *string    // global id of the tenant; the viewer when absent. Only superusers may name another
	WorkloadID    string
	EventType     *string // "metric" when absent
	EventCategory *string
	Metrics       []*EventMetricInput
	Dimensions    JSON // an object of strings
	Metadata      JSON // an object
}

// EventMetricInput is one measurement of an event. Values of one name in different units are never added up.
type EventMetricInput struct {
	Name  string
	Value float64
	Unit  *string
}

// EventError is what is wrong with one event of a request. The error's message says the place, the column, and what is wrong, in one text.
type EventError struct {
	Place  int    // of the request's events, or lines, from 1
	Column string // as lines call it; empty when it is about the event as a whole
	What   string // is wrong: words that go on from the column's name, in whatever way the sender calls that
	Err    *Error
}

func (e *EventError) Error() string { return e.Err.Message }
func (e *EventError) Unwrap() error { return e.Err }

// EventErrors are the first events of a request with which something is wrong, at least one; none of the request's events was recorded.
type EventErrors struct {
	Errors []*EventError
	More   bool // there may be others behind them
}

func (e *EventErrors) Error() string {
	text := e.Errors[0].Error()
	if n := len(e.Errors) - 1; n > 0 {
		text += " (and " + strconv.Itoa(n) + " more)"
	}
	return text
}

// Unwrap gives the errors, so that the code of all is that of the first.
func (e *EventErrors) Unwrap() []error {
	all := make([]error, len(e.Errors))
	for i, err := range e.Errors {
		all[i] = err
	}
	return all
}
