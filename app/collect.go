package app

import (
	"context"
	"time"

	"github.com/netra-ai/netra/models"
)

const (
	collectEvery = time.Minute
	collectBatch = 100
	deleteWithin = 30 * time.Second // one object
)

// collectSoon tells this replica's collector that there may be orphans.
func (f *Files) collectSoon() {
	select {
	case f.wake <- struct{}{}:
	default: // it has been told
	}
}

// Collect deletes objects that no reference names, and uploads that nobody sent, until ctx ends. Any number of replicas may do it at once: each is given
// other objects. One whose deletion fails, or whose replica dies meanwhile, is given out again some minutes later.
func (f *Files) Collect(ctx context.Context) {
	ctx = models.WithViewer(ctx, models.System)
	for ctx.Err() == nil {
		pause := time.NewTimer(collectEvery)
		if more, err := f.collect(ctx); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "files: collect orphans", "error", err)
		} else if more {
			pause.Stop()
			continue
		}
		select {
		case <-ctx.Done():
		case <-f.wake:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// collect takes one batch; more is whether there may be another.
func (f *Files) collect(ctx context.Context) (more bool, err error) {
	if err := f.store.ExpirePendingUploads(ctx, objectLease); err != nil {
		return false, err
	}
	paths, err := f.store.ClaimOrphans(ctx, collectBatch)
	if err != nil {
		return false, err
	}
	var gone []string
	for _, path := range paths {
		deleting, cancel := context.WithTimeout(ctx, deleteWithin)
		err := f.bucket.Delete(deleting, path)
		cancel()
		if err != nil {
			f.log.WarnContext(ctx, "files: delete an orphan", "path", path, "error", err)
			continue
		}
		gone = append(gone, path)
	}
	if len(gone) > 0 {
		if err := f.store.ForgetObjects(ctx, gone); err != nil {
			return false, err
		}
	}
	return len(paths) == collectBatch, nil
}
