// Package live tells subscribers of every change of a run's status, whoever made it. One tailer in each replica reads the table
// run_events, which is the truth; NOTIFY is only a doorbell, and the table is read once a second without it too.
package live

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Why a subscription ended that its owner did not close. After each of them the client has to begin again.
var (
	ErrOverflow = errors.New("the reader was too slow")
	ErrLost     = errors.New("the database was replaced")
	ErrClosed   = errors.New("the server is going away")
)

// Config says where the events are.
type Config struct {
	DatabaseURL string        // of PostgreSQL, as the application role; a primary, since standbys have no doorbell
	Poll        time.Duration // between two looks at the table when no bell rings; 1 s unless set
	Mailbox     int           // how many events may wait for one subscriber; 16,384 unless set
	Log         *slog.Logger
}

// Hub hands the events of one database to this replica's subscribers.
type Hub struct {
	cfg   Config
	ready chan struct{} // closed when the tailer first knows where it stands

	mu     sync.Mutex
	closed bool
	routes routes
}

// New makes a hub. Nothing arrives until Run.
func New(cfg Config) *Hub {
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.Mailbox == 0 {
		cfg.Mailbox = 16_384
	}
	return &Hub{cfg: cfg, ready: make(chan struct{}), routes: newRoutes()}
}

// Filter says which events a subscriber wants; conditions are combined with AND.
type Filter struct {
	UserID   *int // the tenant; nil only for those who may see every tenant
	RunID    *uuid.UUID
	ThreadID *uuid.UUID
}

func (f *Filter) matches(e *models.RunEvent) bool {
	return (f.UserID == nil || *f.UserID == e.UserID) &&
		(f.RunID == nil || *f.RunID == e.RunID) &&
		(f.ThreadID == nil || e.ThreadID != nil && *f.ThreadID == *e.ThreadID)
}

// patience bounds how long Subscribe waits for a database that has not answered since the server began.
const patience = 5 * time.Second

// Subscribe begins a subscription that lasts until ctx ends: every change that is committed after it returns will arrive. It fails
// with DatabaseUnavailable while the tailer has not reached the database for the first time, and when the hub is closed.
func (h *Hub) Subscribe(ctx context.Context, filter Filter) (*Subscription, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-h.ready:
	case <-timer.C:
		return nil, models.Errorf(models.DatabaseUnavailable, "the database does not answer")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := newSubscription(filter, h.cfg.Mailbox)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, models.Wrap(ErrClosed, models.DatabaseUnavailable, "the server is going away")
	}
	h.routes.add(s)
	context.AfterFunc(ctx, func() { h.drop(s) })
	return s, nil
}

func (h *Hub) drop(s *Subscription) {
	h.mu.Lock()
	h.routes.remove(s)
	h.mu.Unlock()
	s.end(nil)
}

// Subscribers is how many subscriptions there are.
func (h *Hub) Subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.routes.count
}

// publish puts an event into the mailboxes of those who want it. It never waits for one of them.
func (h *Hub) publish(e *models.RunEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.routes.candidates(e) {
		if s.filter.matches(e) && !s.push(e) {
			h.routes.remove(s)
			s.end(ErrOverflow)
		}
	}
}

// endAll ends every subscription with a reason.
func (h *Hub) endAll(reason error) {
	h.mu.Lock()
	ended := h.routes
	h.routes = newRoutes()
	h.mu.Unlock()
	for s := range ended.all() {
		s.end(reason)
	}
}

func (h *Hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.endAll(ErrClosed)
}
