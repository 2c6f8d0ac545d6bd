// Package live tells subscribers of every change of a run's status and of every added message, whoever made it. One tailer in each replica
// reads the logs, which are the truth: the table run_events, and messages itself. NOTIFY is only a doorbell, and the logs are read once
// a second without it too.
package live

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// Why a subscription ended that its owner did not close. After each of them the client has to begin again, with its last cursor.
var (
	ErrOverflow    = errors.New("the reader was too slow")
	ErrLost        = errors.New("the database was replaced")
	ErrUnavailable = errors.New("the database does not answer")
	ErrClosed      = errors.New("the server is going away")
)

// Config says where the events are.
type Config struct {
	DatabaseURL string        // of PostgreSQL, as the application role; a primary, since standbys have no doorbell
	Store       *store.Store  // of the same database, for what was before a subscription began
	Poll        time.Duration // between two looks at the logs when no bell rings; 1 s unless set
	Mailbox     int           // how many events may wait for one subscriber; 16,384 unless set
	Page        int           // how many events of the past are read first, which is 1,000 unless set
	Log         *slog.Logger
}

// Hub hands the events of one database to this replica's subscribers.
type Hub struct {
	cfg   Config
	ready chan struct{} // closed when the tailer first knows where it stands

	mu       sync.Mutex
	closed   bool
	log      uint64 // which log the tailer reads
	known    uint64 // a transaction that has left its trace, and of which all before it have
	runs     routes[*models.RunEvent]
	messages routes[*models.MessageEvent]
}

// New makes a hub. Nothing arrives until Run.
func New(cfg Config) *Hub {
	fallback(&cfg.Poll, time.Second)
	fallback(&cfg.Mailbox, 16_384)
	fallback(&cfg.Page, 1000)
	return &Hub{cfg: cfg, ready: make(chan struct{}), runs: newRoutes[*models.RunEvent](), messages: newRoutes[*models.MessageEvent]()}
}

func fallback[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Event is what subscriptions carry.
type Event[E any] interface {
	// Own is a copy for one receiver: in its operation the event joins a cohort, which no other operation may see.
	Own() E
	Stamp() *models.Mark
	About() (run, thread *uuid.UUID, user int)
}

// patience bounds how long a subscription waits for a database that has not answered since the server began.
const patience = 5 * time.Second

func (h *Hub) awaitReady(ctx context.Context) error {
	select {
	case <-h.ready:
		return nil
	default:
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-h.ready:
		return nil
	case <-timer.C:
		return models.Errorf(models.DatabaseUnavailable, "the database does not answer")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// register makes s hear of every event whose transaction commits from now on, and says in which log.
func register[E Event[E]](h *Hub, routes *routes[E], s *Subscription[E]) (log uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, ErrClosed
	}
	routes.add(s)
	return h.log, nil
}

func deregister[E Event[E]](h *Hub, routes *routes[E], s *Subscription[E]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	routes.remove(s)
}

// Subscribers is how many subscriptions there are.
func (h *Hub) Subscribers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.runs.count + h.messages.count
}

// publish puts an event into the mailboxes of those who want it. It never waits for one of them.
func publish[E Event[E]](h *Hub, routes *routes[E], e E) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range routes.candidates(e) {
		if matches(s.filter, e) && !s.push(e) {
			routes.remove(s)
			s.end(ErrOverflow)
		}
	}
}

// begin says which log is read from now on. Everybody who subscribed to another has to begin again.
func (h *Hub) begin(log uint64, seen *models.Snapshot) {
	h.mu.Lock()
	before := h.log
	h.log, h.known = log, seen.Last()
	h.mu.Unlock()
	if before != 0 {
		h.endAll(ErrLost)
	}
}

func (h *Hub) progress(seen *models.Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = seen.Last()
}

func (h *Hub) lastKnown() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.known
}

// endAll ends every subscription with a reason.
func (h *Hub) endAll(reason error) {
	h.mu.Lock()
	runs, messages := h.runs, h.messages
	h.runs, h.messages = newRoutes[*models.RunEvent](), newRoutes[*models.MessageEvent]()
	h.mu.Unlock()
	for s := range runs.all() {
		s.end(reason)
	}
	for s := range messages.all() {
		s.end(reason)
	}
}

func (h *Hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.endAll(ErrClosed)
}
