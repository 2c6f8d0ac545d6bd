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
func (m *Message) ID() string { return uuidID(KindMessage, m.DatabaseID) }

// AppendID adds the id to a text.
func (m *Message) AppendID(text []byte) []byte { return appendID(text, KindMessage, m.DatabaseID) }

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

// MessageEvent is a message that has been added, as its subscribers receive it.
type MessageEvent struct {
	Batched
	Mark
	Shared *Shared // with all who receive it

	MessageID uuid.UUID
	ThreadID  uuid.UUID
	UserID    int
}

// Snapshot says that the message is the latest and not a new one.
func (e *MessageEvent) Snapshot() bool { return e.Mark.Snapshot }

// Cursor is the event's place in the stream.
func (e *MessageEvent) Cursor() string { return e.Position.Cursor(MessageStream) }

// Own is a receiver's copy: in its operation the event joins a cohort, which no other operation may see.
func (e *MessageEvent) Own() *MessageEvent {
	mine := *e
	return &mine
}

// About is what an event is looked for by.
func (e *MessageEvent) About() (run, thread *uuid.UUID, user int) { return nil, &e.ThreadID, e.UserID }
