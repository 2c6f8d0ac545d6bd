package live

import (
	"sync"

	"github.com/netra-ai/netra/models"
)

// Subscription is one reader of events. An idle one has no goroutine and no buffer beyond the channel's few places.
type Subscription[E Event[E]] struct {
	filter models.StreamFilter
	limit  int
	events chan E
	done   chan struct{} // closed by end

	mu      sync.Mutex
	held    bool // news only waits in the backlog: the past is still being read
	since   *models.Snapshot
	backlog []E  // what did not fit into the channel, oldest first; shared with other subscriptions
	pumping bool // a goroutine moves the backlog into the channel, and is the only one that sends
	ended   bool
	reason  error
	expired bool // the client has not yet been told that its cursor was of no use
}

func newSubscription[E Event[E]](filter models.StreamFilter, limit int) *Subscription[E] {
	return &Subscription[E]{
		filter: filter,
		limit:  limit,
		events: make(chan E, 4),
		done:   make(chan struct{}),
		held:   true,
		since:  &models.Snapshot{},
	}
}

// Events are the events, in order for each run by version. The channel is closed when the subscription has ended.
func (s *Subscription[E]) Events() <-chan E { return s.events }

// Err says why the subscription ended: nil while it goes on and when its context ended.
func (s *Subscription[E]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// Expired says, once, that the cursor could not be honoured. It is told with the first event.
func (s *Subscription[E]) Expired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	expired := s.expired
	s.expired = false
	return expired
}

// push takes one event and says whether there was room.
func (s *Subscription[E]) push(e E) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended || s.since.Shows(e.Stamp().Xid):
		return true
	case s.held || s.pumping:
		if len(s.backlog) >= s.limit {
			return false
		}
		s.backlog = append(s.backlog, e)
		return true
	}
	select {
	case s.events <- s.own(e):
	default:
		s.backlog = append(s.backlog, e)
		s.pumping = true
		go s.pump()
	}
	return true
}

// hold begins to keep news in the backlog.
func (s *Subscription[E]) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.backlog = true, nil
}

// release hands out what the past had, then what came meanwhile and was no part of it, then news. Since is the snapshot under which the past
// was read; nil where nothing was.
func (s *Subscription[E]) release(past []E, since *models.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	s.limit += len(past) // which is bounded by itself
	if since != nil {
		s.since = since
	}
	backlog := past
	for _, e := range s.backlog {
		if !s.since.Shows(e.Stamp().Xid) {
			backlog = append(backlog, e)
		}
	}
	s.backlog = backlog
	if s.ended {
		close(s.events)
		return
	}
	for len(s.backlog) > 0 {
		select {
		case s.events <- s.own(s.backlog[0]):
			s.backlog = s.backlog[1:]
		default:
			s.pumping = true
			go s.pump()
			return
		}
	}
	s.backlog = nil
}

// pump moves the backlog into the channel and ends when it is empty.
func (s *Subscription[E]) pump() {
	for {
		s.mu.Lock()
		if s.ended || len(s.backlog) == 0 {
			s.pumping, s.backlog = false, nil
			if s.ended {
				close(s.events)
			}
			s.mu.Unlock()
			return
		}
		e := s.backlog[0]
		s.backlog = s.backlog[1:]
		s.mu.Unlock()
		select {
		case s.events <- s.own(e):
		case <-s.done:
		}
	}
}

// end closes the channel; what is still in the backlog is given up. While the subscription is held, the reader of the past closes it.
func (s *Subscription[E]) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended, s.reason = true, reason
	close(s.done)
	if !s.pumping && !s.held {
		close(s.events)
	}
}

// own is the receiver's copy of an event. Its position counts in what was read of the past, which may be further on than the tailer was.
func (s *Subscription[E]) own(e E) E {
	mine := e.Own()
	if mark := mine.Stamp(); mark.Prior != nil && s.since.Compare(mark.Prior) > 0 && !s.since.Shows(mark.Xid) {
		mark.Prior = s.since
	}
	return mine
}
