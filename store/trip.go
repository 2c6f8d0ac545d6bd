package store

import (
	"context"
	"sync"
)

// Beside tells n parts of an operation of each other, which begin at the same time: each has its context, and over is called when it has ended. The first
// reads of the parts go to PostgreSQL in one trip, which saves a connection's way and back for each. A read that may take long goes alone beside them.
func Beside(ctx context.Context, n int) (parts []context.Context, over func(part int)) {
	t := leaveTrip(ctx)
	if t == nil {
		t = &trip{ctx: ctx, coming: n}
	} else { // parts of a part have its place
		t.expect(n - 1)
	}
	parts, places := make([]context.Context, n), make([]place, n)
	for i := range parts {
		places[i].trip = t
		parts[i] = context.WithValue(ctx, placeKey{}, &places[i])
	}
	return parts, func(part int) {
		if t := places[part].leave(); t != nil {
			t.join(nil)
		}
	}
}

type placeKey struct{}

// place is a part's in a trip, until it has read something or is over.
type place struct {
	mu   sync.Mutex
	trip *trip
}

func (p *place) leave() *trip {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trip
	p.trip = nil
	return t
}

// leaveTrip is the trip that waits for ctx's part to join it; nil where none does, or not any more.
func leaveTrip(ctx context.Context) *trip {
	if p, ok := ctx.Value(placeKey{}).(*place); ok {
		return p.leave()
	}
	return nil
}

// alone lets a trip begin without ctx's part.
func alone(ctx context.Context) {
	if t := leaveTrip(ctx); t != nil {
		t.join(nil)
	}
}

// trip begins when nobody is coming any more.
type trip struct {
	ctx context.Context // of all parts

	mu      sync.Mutex
	coming  int
	waiting []*question
}

// question is a read that waits for a trip.
type question struct {
	step
	err   error
	alone bool // the trip has ended before it
	// turn is closed when the question has been on the trip. Whoever receives questions from it makes the trip with them, of which this is one.
	turn chan []*question
}

func (t *trip) expect(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.coming += n
}

// join has a question wait until all are there who are coming; nil is for who asks nothing. It returns those who make the trip with it, and nil when
// somebody else has made it.
func (t *trip) join(q *question) []*question {
	t.mu.Lock()
	t.coming--
	isLast := t.coming == 0
	if q != nil {
		t.waiting = append(t.waiting, q)
	}
	all := t.waiting
	t.mu.Unlock()
	switch {
	case isLast && q != nil:
		return all
	case isLast && len(all) > 0:
		all[0].turn <- all
	}
	if q == nil {
		return nil
	}
	return <-q.turn
}

// ride asks q on the trip. False says that it has not been asked: there is no company, or something before it went wrong.
func (s *Store) ride(t *trip, q *question) bool {
	q.turn = make(chan []*question, 1)
	all := t.join(q)
	if all == nil {
		return !q.alone
	}
	if len(all) == 1 {
		return false
	}
	for _, other := range all {
		other.alone = true
	}
	defer func() {
		for _, other := range all {
			if other != q {
				close(other.turn)
			}
		}
	}()
	if err := s.on(t.ctx, func(c *conn) error { return c.askAll(t.ctx, all) }); err != nil { // nobody was asked
		for _, other := range all {
			other.alone, other.err = false, err
		}
	}
	return !q.alone
}
