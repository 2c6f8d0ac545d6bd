package live

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// maxStates is how many runs that go on the current state tells of.
const maxStates = 100

// RunStatuses begins a subscription to runs that lasts until ctx ends: the current state and every change after it, or, with a position,
// every change after that. Viewer's rights are those of ctx.
//
// A subscription that cannot begin now, but may soon, ends at once with the reason as its Err. Errors are those of the store that are for good.
func (h *Hub) RunStatuses(ctx context.Context, filter models.StreamFilter, after *models.Position) (*Subscription[*models.RunEvent], error) {
	return subscribe(ctx, h, &h.runs, filter, after, past[*models.RunEvent]{
		after: func(ctx context.Context, p *models.Position, limit int) (*models.Stretch[*models.RunEvent], error) {
			return h.cfg.Store.RunEventsAfter(ctx, filter, p, h.lastKnown(), limit)
		},
		states: func(ctx context.Context) (*models.Stretch[*models.RunEvent], error) {
			return h.cfg.Store.RunStates(ctx, filter, h.lastKnown(), maxStates)
		},
		beginsWithStates: true,
	})
}

// Messages begins a subscription to the messages of a thread, which lasts until ctx ends: every message that is committed after it returns,
// or, with a position, every message after that. Errors are those of RunStatuses.
func (h *Hub) Messages(ctx context.Context, threadID uuid.UUID, after *models.Position) (*Subscription[*models.MessageEvent], error) {
	return subscribe(ctx, h, &h.messages, models.StreamFilter{ThreadID: &threadID}, after, past[*models.MessageEvent]{
		after: func(ctx context.Context, p *models.Position, limit int) (*models.Stretch[*models.MessageEvent], error) {
			return h.cfg.Store.MessagesAfter(ctx, threadID, p, h.lastKnown(), limit)
		},
		states: func(ctx context.Context) (*models.Stretch[*models.MessageEvent], error) {
			return h.cfg.Store.LatestMessage(ctx, threadID, h.lastKnown())
		},
	})
}

// past is how what was before a subscription is read.
type past[E Event[E]] struct {
	after            func(ctx context.Context, p *models.Position, limit int) (*models.Stretch[E], error)
	states           func(context.Context) (*models.Stretch[E], error)
	beginsWithStates bool
}

// subscribe registers first and reads the past then, so that nothing falls between: news waits until the past is read, and what the past's
// snapshot shows is no news.
func subscribe[E Event[E]](ctx context.Context, h *Hub, routes *routes[E], filter models.StreamFilter, after *models.Position, past past[E]) (*Subscription[E], error) {
	s := newSubscription[E](filter, h.cfg.Mailbox)
	if err := h.awaitReady(ctx); err != nil {
		return s, s.refuse(err)
	}
	log, err := register(h, routes, s)
	if err != nil {
		return s, s.refuse(err)
	}
	context.AfterFunc(ctx, func() {
		deregister(h, routes, s)
		s.end(nil)
	})
	begin := after == nil
	if after != nil && after.Current == nil { // a state in the midst of others: they are sent anew
		begin, after = true, nil
		past.beginsWithStates = true
	}
	if begin && !past.beginsWithStates {
		s.release(nil, nil)
		return s, nil
	}
	var stretch *models.Stretch[E]
	if !begin {
		stretch, err = past.after(ctx, after, h.cfg.Page)
		s.expired = err == nil && stretch.Expired
	}
	if err == nil && (begin || stretch.Expired) {
		stretch, err = past.states(ctx)
	}
	if err == nil && stretch.Log != log { // the store has reached another database than the tailer
		err = ErrLost
	}
	if err != nil {
		deregister(h, routes, s)
		return s, s.refuse(err)
	}
	if stretch.More {
		deregister(h, routes, s)
		go catchUp(ctx, h, routes, s, stretch, past)
		return s, nil
	}
	s.release(stretch.Rows, stretch.At)
	return s, nil
}

// Each read of a long past goes through all that is left of it, so reads grow with what the reader has taken: by pageGrowth, up to maxPages
// of the first. That bounds what is kept in memory for one reader, and a hundred thousand events are eight reads instead of a hundred.
const (
	pageGrowth = 4
	maxPages   = 16
)

// catchUp hands out a long past at the reader's pace. Only when its end is near does the subscription register, so that its mailbox does
// not fill meanwhile.
func catchUp[E Event[E]](ctx context.Context, h *Hub, routes *routes[E], s *Subscription[E], stretch *models.Stretch[E], past past[E]) {
	for limit := h.cfg.Page; ; {
		for _, e := range stretch.Rows {
			select {
			case s.events <- s.own(e):
			case <-s.done:
				s.release(nil, nil)
				return
			}
		}
		last := stretch.Rows[len(stretch.Rows)-1].Stamp().Position
		s.hold()
		log, err := register(h, routes, s)
		if err == nil {
			limit = min(limit*pageGrowth, h.cfg.Page*maxPages)
			stretch, err = past.after(ctx, &last, limit)
		}
		switch {
		case err == nil && (stretch.Log != log || stretch.Expired): // expired meanwhile: the client hears it when it comes back
			err = ErrLost
		case err != nil && !errors.Is(err, ErrClosed):
			err = ErrUnavailable
		}
		if err != nil {
			deregister(h, routes, s)
			s.end(err)
			s.release(nil, nil)
			return
		}
		if !stretch.More {
			s.release(stretch.Rows, stretch.At)
			return
		}
		deregister(h, routes, s)
	}
}

// Refused is a subscription that ended before it began, where err may be better soon, so that the client comes back. Other errors are returned.
func Refused[E Event[E]](err error) (*Subscription[E], error) {
	s := newSubscription[E](models.StreamFilter{}, 0)
	return s, s.refuse(err)
}

// refuse ends a subscription that has not begun. What may be better soon is the reason of its end, so that the client comes back; what will
// not is an error.
func (s *Subscription[E]) refuse(err error) error {
	reason := err
	switch code := models.CodeOf(err); {
	case errors.Is(err, ErrClosed), errors.Is(err, ErrLost):
	case code == models.DatabaseUnavailable || code == models.Timeout:
		reason = ErrUnavailable
	default:
		s.end(nil)
		s.release(nil, nil)
		return err
	}
	s.end(reason)
	s.release(nil, nil)
	return nil
}
