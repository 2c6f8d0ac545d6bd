package models

import "github.com/google/uuid"

// EmbeddingJob is a reference whose text is to be embedded.
type EmbeddingJob struct {
	ID       uuid.UUID `bun:"id"`
	Text     string    `bun:"text"`     // empty where it has none any more
	Hash     *int64    `bun:"hash"`     // of the text
	Attempts int       `bun:"attempts"` // that failed because of this text
}
