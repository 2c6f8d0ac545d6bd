package live

import (
	"context"
	"log/slog"
	"time"

	"github.com/netra-ai/netra/internal/wait"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// Retention deletes events that are older than Keep, in the background: a batch at a time, on whichever replica comes first. Messages
// are their own log and stay.
type Retention struct {
	Store *store.Store
	Keep  time.Duration // at least an hour, which the database insists on
	Every time.Duration // between two looks when there is nothing to do; 5 minutes unless set
	Batch int           // 1,000 unless set: how many rows one statement deletes
	Log   *slog.Logger
}

// breath is the pause between two batches, so that deletion leaves the database to others.
const breath = 50 * time.Millisecond

// Run deletes until ctx ends.
func (r Retention) Run(ctx context.Context) {
	fallback(&r.Every, 5*time.Minute)
	fallback(&r.Batch, 1000)
	system := models.WithViewer(ctx, models.System)
	for {
		pause := r.Every
		gone, err := r.Store.ExpireRunEvents(system, r.Keep, r.Batch)
		switch {
		case err != nil && ctx.Err() == nil:
			r.Log.WarnContext(ctx, "live: delete old events", "error", err)
		case gone > 0:
			pause = breath
		}
		if !wait.For(ctx, pause) {
			return
		}
	}
}
