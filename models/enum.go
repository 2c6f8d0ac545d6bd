package models

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// ThreadStatus is the CHECK constraint of threads.status.
type ThreadStatus string

const (
	ThreadActive   ThreadStatus = "active"
	ThreadArchived ThreadStatus = "archived"
	ThreadDeleted  ThreadStatus = "deleted"
)

// MessageRole is the CHECK constraint of messages.role.
type MessageRole string

const (
	RoleUser      MessageRole = "user"
	RoleAssistant MessageRole = "assistant"
	RoleSystem    MessageRole = "system"
	RoleTool      MessageRole = "tool"
)

// RunStatus is the CHECK constraint of runs.status.
type RunStatus string

const (
	RunPending    RunStatus = "pending"
	RunProcessing RunStatus = "processing"
	RunCompleted  RunStatus = "completed"
	RunFailed     RunStatus = "failed"
	RunCancelled  RunStatus = "cancelled"
)

var (
	threadStatuses = []ThreadStatus{ThreadActive, ThreadArchived, ThreadDeleted}
	messageRoles   = []MessageRole{RoleUser, RoleAssistant, RoleSystem, RoleTool}
	runStatuses    = []RunStatus{RunPending, RunProcessing, RunCompleted, RunFailed, RunCancelled}
)

// The database writes these values in lower case, GraphQL in upper case.

func (s ThreadStatus) MarshalGQL(w io.Writer)    { marshalEnum(w, s) }
func (s *ThreadStatus) UnmarshalGQL(v any) error { return unmarshalEnum(v, s, threadStatuses) }
func (r MessageRole) MarshalGQL(w io.Writer)     { marshalEnum(w, r) }
func (r *MessageRole) UnmarshalGQL(v any) error  { return unmarshalEnum(v, r, messageRoles) }
func (s RunStatus) MarshalGQL(w io.Writer)       { marshalEnum(w, s) }
func (s *RunStatus) UnmarshalGQL(v any) error    { return unmarshalEnum(v, s, runStatuses) }
func (d OrderDirection) MarshalGQL(w io.Writer)  { marshalEnum(w, d) }
func (d *OrderDirection) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, d, []OrderDirection{Ascending, Descending})
}

func marshalEnum[E ~string](w io.Writer, value E) {
	_, _ = io.WriteString(w, strconv.Quote(strings.ToUpper(string(value)))) // the writer is a buffer
}

func unmarshalEnum[E ~string](v any, into *E, allowed []E) error {
	text, ok := v.(string)
	if lower := E(strings.ToLower(text)); ok && strings.ToUpper(text) == text && slices.Contains(allowed, lower) {
		*into = lower
		return nil
	}
	return Errorf(BadUserInput, "%s is not one of %s", quoted(v), strings.ToUpper(fmt.Sprint(allowed)))
}

// unmarshalUpper is for enums that no column holds.
func unmarshalUpper[E ~string](v any, into *E, allowed []E) error {
	text, ok := v.(string)
	if ok && slices.Contains(allowed, E(text)) {
		*into = E(text)
		return nil
	}
	return Errorf(BadUserInput, "%s is not one of %v", quoted(v), allowed)
}

// quoted is v for an error message, short whatever the client sent.
func quoted(v any) string {
	text := fmt.Sprintf("%.40q", fmt.Sprint(v))
	return text
}

func (f UserOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *UserOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []UserOrderField{UserCreatedAt, UserEmail})
}
func (f ThreadOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *ThreadOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []ThreadOrderField{ThreadCreatedAt, ThreadUpdatedAt})
}
func (f MessageOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *MessageOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []MessageOrderField{MessageCreatedAt})
}
func (f RunOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *RunOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []RunOrderField{RunCreatedAt})
}
