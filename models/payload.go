package models

// UserError is what is wrong with a mutation's input, for the person who gave it.
type UserError struct {
	Field   []string // from the outside to the inside; places in lists count from 0
	Message string
	Code    string
}

// RecordEventsInput is what the mutation recordEvents takes.
type RecordEventsInput struct {
	Events         []*EventInput
	IdempotencyKey *string
}

// RecordEventsPayload is what it answers: all events were accepted, or none.
type RecordEventsPayload struct {
	Accepted   int
	UserErrors []*UserError
}
