package resolvers

import (
	"context"

	"github.com/99designs/gqlgen/graphql"

	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/models"
)

// StreamExtension is the name under which a subscription's resolver leaves its Stream in the operation's Stats. The two sides run in
// one goroutine: the resolver before the first event, the transport after the last.
const StreamExtension = "stream"

// Stream says why a subscription's events ended: nil for an ordinary end, otherwise something after which the client has to begin
// again, which a transport shows by breaking the connection and not by completing the operation.
type Stream interface{ Err() error }

// runStatusChanges subscribes for the viewer. It fails with NotFound alike for a run or thread that is absent and for one that is not
// the viewer's to see.
func (r *Resolver) runStatusChanges(ctx context.Context, runID, threadID *string) (<-chan *models.RunEvent, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	var filter live.Filter
	if !viewer.Superuser {
		filter.UserID = &viewer.UserID
	}
	if runID != nil {
		run, err := lookup(ctx, models.KindRun, *runID, r.Store.Runs)
		if err != nil {
			return nil, err
		}
		filter.RunID = &run.DatabaseID
	}
	if threadID != nil {
		thread, err := lookup(ctx, models.KindThread, *threadID, r.Store.Threads)
		if err != nil {
			return nil, err
		}
		filter.ThreadID = &thread.DatabaseID
	}
	subscription, err := r.Live.Subscribe(ctx, filter)
	if err != nil {
		return nil, err
	}
	graphql.GetOperationContext(ctx).Stats.SetExtension(StreamExtension, Stream(subscription))
	return subscription.Events(), nil
}
