package live

import (
	"sync"

	"github.com/netra-ai/netra/models"
)

// Subscription is one reader of events. An idle one has no goroutine and no buffer beyond the channel's few places.
type Subscription struct {
	filter Filter
	limit  int
	events chan *models.RunEvent
	done   chan struct{} // closed by end

	mu      sync.Mutex
	backlog []*models.RunEvent // what did not fit into the channel, oldest first; shared with other subscriptions
	pumping bool               // a goroutine moves the backlog into the channel, and is the only one that sends
	ended   bool
	reason  error
}

func newSubscription(filter Filter, limit int) *Subscription {
	return &Subscription{
		filter: filter,
		limit:  limit,
		events: make(chan *models.RunEvent, 8),
		done:   make(chan struct{}),
	}
}

// Events are the changes, in order for each run by version. The channel is closed when the subscription has ended.
func (s *Subscription) Events() <-chan *models.RunEvent { return s.events }

// Err says why the subscription ended: nil while it goes on and when its context ended.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// push takes one event and says whether there was room.
func (s *Subscription) push(e *models.RunEvent) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return true
	case s.pumping:
		if len(s.backlog) >= s.limit {
			return false
		}
		s.backlog = append(s.backlog, e)
		return true
	}
	select {
	case s.events <- own(e):
	default:
		s.backlog = append(s.backlog, e)
		s.pumping = true
		go s.pump()
	}
	return true
}

// pump moves the backlog into the channel and ends when it is empty.
func (s *Subscription) pump() {
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
		case s.events <- own(e):
		case <-s.done:
		}
	}
}

// end closes the channel; what is still in the backlog is given up.
func (s *Subscription) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended, s.reason = true, reason
	close(s.done)
	if !s.pumping {
		close(s.events)
	}
}

// own is the receiver's copy of an event: in its operation the event joins a cohort, which no other operation may see.
func own(e *models.RunEvent) *models.RunEvent {
	mine := *e
	return &mine
}
