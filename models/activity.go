package models

import (
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// ThreadActivity is something that happened in a thread: a message was added, or a run changed its status.
type ThreadActivity struct {
	bun.BaseModel `bun:"table:activity"`
	Batched       `bun:"-"`

	ThreadID   uuid.UUID  `bun:"thread_id"`
	At         time.Time  `bun:"at"`
	MessageID  *uuid.UUID `bun:"message_id"` // of a message
	Transition *int64     `bun:"transition"` // seq in run_events
}

// ActivityOrder is newest first. Of one instant, changes come before messages.
var ActivityOrder = Order{Column: "activity", Type: Timestamp, IDType: ActivityKey, Descending: true}

// Cursor is the position in a thread's activity.
func (a *ThreadActivity) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: CursorTime(a.At), ID: a.Key().String()}
}

// Key tells apart what happened at one instant.
func (a *ThreadActivity) Key() ActivityID {
	if a.MessageID != nil {
		return ActivityID{Message: *a.MessageID}
	}
	return ActivityID{Transition: *a.Transition}
}

// ActivityID names a message or a transition, which is never 0.
type ActivityID struct {
	Message    uuid.UUID
	Transition int64
}

func (id ActivityID) String() string {
	if id.Transition != 0 {
		return "r" + strconv.FormatInt(id.Transition, 10)
	}
	return "m" + id.Message.String()
}

// ParseActivityKey reads what String wrote.
func ParseActivityKey(s string) (ActivityID, error) {
	var id ActivityID
	var err error
	switch {
	case len(s) > 1 && s[0] == 'm':
		id.Message, err = uuid.Parse(s[1:])
	case len(s) > 1 && s[0] == 'r':
		id.Transition, err = strconv.ParseInt(s[1:], 10, 64)
	}
	if err != nil || id.String() != s || id.Transition < 0 {
		return ActivityID{}, Errorf(BadUserInput, "malformed cursor: use a cursor as the API gave it")
	}
	return id, nil
}
