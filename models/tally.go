package models

import (
	"context"
	"sync/atomic"
)

// Tally counts what one operation cost.
type Tally struct {
	Statements atomic.Int64 // sent to PostgreSQL
	Trips      atomic.Int64 // that they made: there and back
	Questions  atomic.Int64 // sent to ClickHouse
}

type tallyKey struct{}

// WithTally returns a context whose statements are counted in t.
func WithTally(ctx context.Context, t *Tally) context.Context {
	return context.WithValue(ctx, tallyKey{}, t)
}

// TallyFrom is the tally of ctx, or one that nobody reads.
func TallyFrom(ctx context.Context) *Tally {
	if t, ok := ctx.Value(tallyKey{}).(*Tally); ok {
		return t
	}
	return new(Tally)
}
