package models

import (
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// Message is a row of messages. Messages are history: they are never edited.
type Message struct {
	bun.BaseModel `bun:"table:messages"`
	Batched       `bun:"-"`

	DatabaseID uuid.UUID   `bun:"id,pk"`
	ThreadID   uuid.UUID   `bun:"thread_id"`
	Role       MessageRole `bun:"role"`
	Content    string      `bun:"content"`
	TokensUsed *int        `bun:"tokens_used"`
	Model      *string     `bun:"model"`
	CreatedAt  time.Time   `bun:"created_at"`
	Metadata   JSON        `bun:"metadata,type:jsonb"`
}

func (*Message) IsNode()      {}
func (m *Message) ID() string { return globalID(KindMessage, m.DatabaseID.String()) }

// Cursor is the message's position under order.
func (m *Message) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: CursorTime(m.CreatedAt), ID: m.DatabaseID.String()}
}

// MessageOrderField is a column by which messages can be listed.
type MessageOrderField string

const MessageCreatedAt MessageOrderField = "CREATED_AT"

// MessageOrder is the argument `orderBy` of a list of messages.
type MessageOrder struct {
	Field     MessageOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o MessageOrder) Order() Order {
	return Order{Column: "created_at", Type: Timestamp, IDType: UUID, Descending: o.Direction == Descending}
}

// MessageFilter narrows a list of messages.
type MessageFilter struct {
	Role      []MessageRole
	Model     []string
	CreatedAt *TimeFilter
	Metadata  JSON
}
