package models

import (
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// Run is a row of runs: one execution of an agent.
type Run struct {
	bun.BaseModel `bun:"table:runs"`
	Batched       `bun:"-"`

	DatabaseID   uuid.UUID  `bun:"id,pk"`
	ThreadID     *uuid.UUID `bun:"thread_id"`
	UserID       int        `bun:"user_id"`
	Status       RunStatus  `bun:"status"`
	AgentType    *string    `bun:"agent_type"`
	InputData    JSON       `bun:"input_data,type:jsonb"`
	OutputData   JSON       `bun:"output_data,type:jsonb"`
	ErrorMessage *string    `bun:"error_message"`
	StartedAt    *time.Time `bun:"started_at"`
	CompletedAt  *time.Time `bun:"completed_at"`
	CreatedAt    time.Time  `bun:"created_at"`
	Metadata     JSON       `bun:"metadata,type:jsonb"`
	Version      int        `bun:"version"`
}

func (*Run) IsNode()      {}
func (r *Run) ID() string { return uuidID(KindRun, r.DatabaseID) }

// AppendID adds the id to a text.
func (r *Run) AppendID(text []byte) []byte { return appendID(text, KindRun, r.DatabaseID) }

// Cursor is the run's position under order.
func (r *Run) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: CursorTime(r.CreatedAt), ID: r.DatabaseID.String()}
}

// RunOrderField is a column by which runs can be listed.
type RunOrderField string

const RunCreatedAt RunOrderField = "CREATED_AT"

// RunOrder is the argument `orderBy` of a list of runs.
type RunOrder struct {
	Field     RunOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o RunOrder) Order() Order {
	return Order{Column: "created_at", Type: Timestamp, IDType: UUID, Descending: o.Direction == Descending}
}

// RunFilter narrows a list of runs.
type RunFilter struct {
	Status    []RunStatus
	AgentType []string
	CreatedAt *TimeFilter
	Metadata  JSON
}

// RunEvent is a change of a run's status as its subscribers receive it. Versions of one run are dense and begin at 1.
type RunEvent struct {
	Batched
	Mark
	Shared *Shared // with all who receive it

	RunID     uuid.UUID
	ThreadID  *uuid.UUID
	UserID    int
	Version   int
	OldStatus *RunStatus
	NewStatus RunStatus
	At        time.Time
}

// PreviousStatus is nil for a run that has just been made, and for a state.
func (e *RunEvent) PreviousStatus() *RunStatus { return e.OldStatus }

// Status is where the run went.
func (e *RunEvent) Status() RunStatus { return e.NewStatus }

// Snapshot says that this is the run's state and not a change.
func (e *RunEvent) Snapshot() bool { return e.Mark.Snapshot }

// Cursor is the event's place in the stream.
func (e *RunEvent) Cursor() string { return e.Position.Cursor(RunStream) }

// Own is a receiver's copy: in its operation the event joins a cohort, which no other operation may see.
func (e *RunEvent) Own() *RunEvent {
	mine := *e
	return &mine
}

// About is what an event is looked for by.
func (e *RunEvent) About() (run, thread *uuid.UUID, user int) { return &e.RunID, e.ThreadID, e.UserID }

// RunTransition is a row of run_events: one step in a run's history.
type RunTransition struct {
	bun.BaseModel `bun:"table:run_events"`
	Batched       `bun:"-"`

	Seq       int64      `bun:"id"`
	RunID     uuid.UUID  `bun:"run_id"`
	Version   int        `bun:"version"`
	OldStatus *RunStatus `bun:"old_status"`
	NewStatus RunStatus  `bun:"new_status"`
	At        time.Time  `bun:"at"`
}

// PreviousStatus is nil for a run that has just been made.
func (t *RunTransition) PreviousStatus() *RunStatus { return t.OldStatus }

// Status is where the run went.
func (t *RunTransition) Status() RunStatus { return t.NewStatus }

// TimelineOrder is the order of a run's history.
var TimelineOrder = Order{Column: "version", Type: Bigint, IDType: Bigint}

// Cursor is the step's position in its run's history.
func (t *RunTransition) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: strconv.Itoa(t.Version), ID: strconv.FormatInt(t.Seq, 10)}
}
