package models

import (
	"encoding/base64"
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
func (r *Run) ID() string { return globalID(KindRun, r.DatabaseID.String()) }

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

// RunEvent is a row of run_events: one change of a run's status. Versions of one run are dense and begin at 1.
type RunEvent struct {
	bun.BaseModel `bun:"table:run_events"`
	Batched       `bun:"-"`

	Seq       int64      `bun:"seq,pk"`
	RunID     uuid.UUID  `bun:"run_id"`
	ThreadID  *uuid.UUID `bun:"thread_id"`
	UserID    int        `bun:"user_id"`
	Version   int        `bun:"version"`
	OldStatus *RunStatus `bun:"old_status"`
	NewStatus RunStatus  `bun:"new_status"`
	At        time.Time  `bun:"at"`
}

// PreviousStatus is nil for a run that has just been made.
func (e *RunEvent) PreviousStatus() *RunStatus { return e.OldStatus }

// Status is where the run went.
func (e *RunEvent) Status() RunStatus { return e.NewStatus }

// Cursor is the event's place in the stream.
func (e *RunEvent) Cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte("event:" + strconv.FormatInt(e.Seq, 10)))
}
