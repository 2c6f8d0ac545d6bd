package resolvers

import (
	"context"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/models"
)

// StreamExtension is the name under which a subscription's resolver leaves its Stream in the operation's Stats. The two sides run in
// one goroutine: the resolver before the first event, the transport after the last.
const StreamExtension = "stream"

// Stream says why a subscription's events ended: nil for an ordinary end, otherwise something after which the client has to begin
// again, which a transport shows by breaking the connection and not by completing the operation.
type Stream interface{ Err() error }

// Notices tells a client that its cursor could not be honoured, in the extensions of the first response. Clients take an error for the end
// of a subscription, or drop the data beside it; extensions reach those who look and harm nobody.
type Notices struct{}

var _ interface {
	graphql.HandlerExtension
	graphql.ResponseInterceptor
} = Notices{}

func (Notices) ExtensionName() string                   { return "Notices" }
func (Notices) Validate(graphql.ExecutableSchema) error { return nil }

// InterceptResponse is part of graphql.ResponseInterceptor.
func (Notices) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	response := next(ctx)
	if response == nil {
		return nil
	}
	stream, ok := graphql.GetOperationContext(ctx).Stats.GetExtension(StreamExtension).(interface{ Expired() bool })
	if ok && stream.Expired() {
		if response.Extensions == nil {
			response.Extensions = map[string]any{}
		}
		response.Extensions["code"] = models.CursorExpired
		response.Extensions["message"] = "the cursor is too old or of another database: this is the current state"
	}
	return response
}

// aside works in a goroutine of its own. A subscription's goroutine lasts as long as the subscription, and what it once needed as a stack it
// keeps for long; reading the database needs much.
func aside[E any](work func() (<-chan E, error)) (events <-chan E, err error) {
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		events, err = work()
	}()
	<-done
	if panicked != nil {
		panic(panicked) // where gqlgen answers for it
	}
	return events, err
}

// runStatusChanges subscribes for the viewer. It fails with NotFound alike for a run or thread that is absent and for one that is not
// the viewer's to see.
func (r *Resolver) runStatusChanges(ctx context.Context, runID, threadID, after *string) (<-chan *models.RunEvent, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	position, err := position(models.RunStream, after)
	if err != nil {
		return nil, err
	}
	var filter models.StreamFilter
	if !viewer.Superuser {
		filter.UserID = &viewer.UserID
	}
	if runID != nil {
		run, err := lookup(ctx, models.KindRun, *runID, r.Store.Runs)
		if err != nil {
			return begin[*models.RunEvent](ctx, nil, err)
		}
		filter.RunID, filter.UserID = &run.DatabaseID, &run.UserID
	}
	if threadID != nil {
		thread, err := lookup(ctx, models.KindThread, *threadID, r.Store.Threads)
		if err != nil {
			return begin[*models.RunEvent](ctx, nil, err)
		}
		filter.ThreadID, filter.UserID = &thread.DatabaseID, &thread.UserID
	}
	subscription, err := r.Live.RunStatuses(ctx, filter, position)
	return begin(ctx, subscription, err)
}

// messagesAdded subscribes for the viewer. It fails with NotFound as runStatusChanges does.
func (r *Resolver) messagesAdded(ctx context.Context, threadID string, after *string) (<-chan *models.MessageEvent, error) {
	position, err := position(models.MessageStream, after)
	if err != nil {
		return nil, err
	}
	thread, err := lookup(ctx, models.KindThread, threadID, r.Store.Threads)
	if err != nil {
		return begin[*models.MessageEvent](ctx, nil, err)
	}
	subscription, err := r.Live.Messages(ctx, thread.DatabaseID, position)
	return begin(ctx, subscription, err)
}

func position(stream models.Stream, after *string) (*models.Position, error) {
	if after == nil {
		return nil, nil
	}
	return models.ParsePosition(stream, *after)
}

// begin hands a subscription to the transport. A database that is away for now is no error of the operation, after which clients would give up:
// they are to come back.
func begin[E live.Event[E]](ctx context.Context, subscription *live.Subscription[E], err error) (<-chan E, error) {
	if err != nil {
		if subscription, err = live.Refused[E](err); err != nil {
			return nil, err
		}
	}
	graphql.GetOperationContext(ctx).Stats.SetExtension(StreamExtension, Stream(subscription))
	return subscription.Events(), nil
}

// eventRow reads the object that an event is about. Those who received the event and have the same rights share one read of the same fields.
func eventRow[T any](ctx context.Context, shared *models.Shared, key uuid.UUID, read reader[uuid.UUID, *T]) (*T, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	type question struct {
		viewer models.Viewer
		fields string
	}
	fields := selected(ctx)
	row, err := models.Share(ctx, shared, question{viewer, strings.Join(fields, " ")}, func(ctx context.Context) (*T, error) {
		rows, err := read(ctx, []uuid.UUID{key}, fields)
		if err != nil || len(rows) == 0 {
			return nil, err
		}
		return rows[0], nil
	})
	if err != nil {
		return nil, err
	}
	if row == nil {
		return nil, models.Errorf(models.NotFound, "it does not exist any more")
	}
	mine := *row // what a receiver joins to its operation is its own
	return &mine, nil
}
