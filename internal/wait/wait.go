// Package wait lets background work pause.
package wait

import (
	"context"
	"time"
)

// For waits for a while, which may be over already, or until ctx ends. It says whether ctx is still going on.
func For(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
