package models

import (
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// Thread is a row of threads.
type Thread struct {
	bun.BaseModel `bun:"table:threads"`
	Batched       `bun:"-"`

	DatabaseID uuid.UUID    `bun:"id,pk"`
	UserID     int          `bun:"user_id"`
	Title      *string      `bun:"title"`
	Status     ThreadStatus `bun:"status"`
	CreatedAt  time.Time    `bun:"created_at"`
	UpdatedAt  time.Time    `bun:"updated_at"`
	Metadata   JSON         `bun:"metadata,type:jsonb"`
	Version    int          `bun:"version,nullzero,default:1"`
}

func (*Thread) IsNode()      {}
func (t *Thread) ID() string { return uuidID(KindThread, t.DatabaseID) }

// AppendID adds the id to a text.
func (t *Thread) AppendID(text []byte) []byte { return appendID(text, KindThread, t.DatabaseID) }

// Cursor is the thread's position under order.
func (t *Thread) Cursor(order Order) Cursor {
	at := t.CreatedAt
	if order.Column == "updated_at" {
		at = t.UpdatedAt
	}
	return Cursor{Column: order.Column, Value: CursorTime(at), ID: t.DatabaseID.String()}
}

// ThreadOrderField is a column by which threads can be listed.
type ThreadOrderField string

const (
	ThreadCreatedAt ThreadOrderField = "CREATED_AT"
	ThreadUpdatedAt ThreadOrderField = "UPDATED_AT"
)

// ThreadOrder is the argument `orderBy` of a list of threads.
type ThreadOrder struct {
	Field     ThreadOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o ThreadOrder) Order() Order {
	order := Order{Column: "created_at", Type: Timestamp, IDType: UUID, Descending: o.Direction == Descending}
	if o.Field == ThreadUpdatedAt {
		order.Column = "updated_at"
	}
	return order
}

// ThreadFilter narrows a list of threads.
type ThreadFilter struct {
	Status    []ThreadStatus
	CreatedAt *TimeFilter
	UpdatedAt *TimeFilter
	Metadata  JSON
}
