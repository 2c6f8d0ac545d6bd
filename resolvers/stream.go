package resolvers

import (
	"context"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
)

// StreamExtension is the name under which a subscription's resolver leaves its Stream in the operation's Stats. The two sides take
// turns: the resolver before the first event, the transport afterwards.
const StreamExtension = "stream"

// Stream is where a subscription's events come from.
type Stream interface {
	// Await returns when there is an event for the operation to answer, or the end of all. It comes before each response: what waits
	// for months should not wait with an operation's stack.
	Await()
	// Err says why the events ended: nil for an ordinary end, otherwise something after which the client has to begin again, which a
	// transport shows by breaking the connection and not by completing the operation.
	Err() error
	// Expired says, once, that the client's cursor could not be honoured.
	Expired() bool
}

// stream hands a subscription's events to gqlgen, one at a time.
type stream[E live.Event[E]] struct {
	*live.Subscription[E]
	handed chan E
}

func (s *stream[E]) Await() {
	event, ok := <-s.Events()
	if !ok {
		close(s.handed)
		return
	}
	s.handed <- event
}

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
	stream, ok := graphql.GetOperationContext(ctx).Stats.GetExtension(StreamExtension).(Stream)
	if ok && stream.Expired() {
		if response.Extensions == nil {
			response.Extensions = map[string]any{}
		}
		response.Extensions["code"] = models.CursorExpired
		response.Extensions["message"] = "the cursor is too old or of another database: this is the current state"
	}
	return response
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
		run, err := lookup(ctx, models.KindRun, *runID, r.Store.Runs, runWith)
		if err != nil {
			return begin[*models.RunEvent](ctx, nil, err)
		}
		filter.RunID, filter.UserID = &run.DatabaseID, &run.UserID
	}
	if threadID != nil {
		thread, err := lookup(ctx, models.KindThread, *threadID, r.Store.Threads, threadWith)
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
	thread, err := lookup(ctx, models.KindThread, threadID, r.Store.Threads, threadWith)
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
	s := &stream[E]{subscription, make(chan E, 1)}
	graphql.GetOperationContext(ctx).Stats.SetExtension(StreamExtension, Stream(s))
	return s.handed, nil
}

// eventQuestion is what is asked of the objects that events are about.
type eventQuestion struct {
	viewer models.Viewer
	fields string
}

// eventRows reads the objects that events are about. Those who received the same event and have the same rights share one read of the same
// fields; of different events, what is asked for at the same time is read together.
type eventRows[T any] struct {
	gather loaders.Gather[eventQuestion, uuid.UUID, T]
}

func (e *eventRows[T]) load(ctx context.Context, shared *models.Shared, key uuid.UUID, read reader[uuid.UUID, *T], keyOf func(*T) uuid.UUID) (*T, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	fields := selected(ctx)
	question := eventQuestion{viewer, strings.Join(fields, " ")}
	row, err := models.Share(ctx, shared, question, func(ctx context.Context) (T, error) {
		return e.gather.Load(ctx, question, key, func(ctx context.Context, keys []uuid.UUID) (map[uuid.UUID]T, error) {
			rows, err := read(ctx, keys, fields)
			if err != nil {
				return nil, err
			}
			byKey := make(map[uuid.UUID]T, len(rows))
			for _, row := range rows {
				byKey[keyOf(row)] = *row
			}
			return byKey, nil
		})
	})
	if err != nil {
		return nil, err
	}
	if keyOf(&row) != key {
		return nil, models.Errorf(models.NotFound, "it does not exist any more")
	}
	return &row, nil // what a receiver joins to its operation is its own
}
