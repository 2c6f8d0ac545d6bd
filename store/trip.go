package store

import (
	"context"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Beside tells n parts of an operation of each other, which begin at the same time: each has its context, and over is called when it has ended. The first
// reads of the parts go to PostgreSQL in one trip, which saves a connection's way and back for each. A read that may take long goes alone beside them.
func Beside(ctx context.Context, n int) (parts []context.Context, over func(part int)) {
	p := leaveParty(ctx)
	if p == nil {
		p = &party{ctx: ctx, coming: n}
	} else { // parts of a part have its place
		p.expect(n - 1)
	}
	parts, places := make([]context.Context, n), make([]place, n)
	for i := range parts {
		places[i].party = p
		parts[i] = context.WithValue(ctx, placeKey{}, &places[i])
	}
	return parts, func(part int) {
		if p := places[part].leave(); p != nil {
			p.goWithout()
		}
	}
}

type placeKey struct{}

// place is a part's in a party, until it has read something or is over.
type place struct {
	mu    sync.Mutex
	party *party
}

func (p *place) leave() *party {
	p.mu.Lock()
	defer p.mu.Unlock()
	party := p.party
	p.party = nil
	return party
}

// leaveParty is the party that waits for ctx's part to join it; nil where none does, or not any more.
func leaveParty(ctx context.Context) *party {
	if p, ok := ctx.Value(placeKey{}).(*place); ok {
		return p.leave()
	}
	return nil
}

// alone lets a party depart without ctx's part.
func alone(ctx context.Context) {
	if p := leaveParty(ctx); p != nil {
		p.goWithout()
	}
}

// party is the reads of one operation that begin at the same time. It departs when nobody is coming any more.
type party struct {
	ctx context.Context // of all parts

	mu        sync.Mutex
	coming    int
	questions []*question
}

func (p *party) expect(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming += n
}

// join is true for the last who comes.
func (p *party) join(q *question) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.coming--
	p.questions = append(p.questions, q)
	return p.coming == 0
}

// goWithout is for a part that asks nothing.
func (p *party) goWithout() {
	p.mu.Lock()
	p.coming--
	departs := p.coming == 0 && len(p.questions) > 0
	p.mu.Unlock()
	if departs {
		s := p.questions[0].store
		s.background.Go(func() { // whoever has asked nothing does not wait
			if s.lines.take(p) {
				s.drive([]*party{p})
			}
		})
	}
}

// question is a read of a party.
type question struct {
	store *Store
	ctx   context.Context // of who asks
	step
	rows int // at most

	fate atomic.Int32
	told chan struct{} // closed when there is a fate
	err  error         // of one that is answered
}

func (q *question) isOpen() bool { return q.fate.Load() == open }

func (p *party) isOpen() bool { return slices.ContainsFunc(p.questions, (*question).isOpen) }

// What becomes of a question.
const (
	open     = iota
	answered // its target has the rows, or err says why not
	left     // the trip ended before it, or takes too long: it has to be asked again, with another target
)

func (q *question) tell(fate int32) {
	if q.fate.CompareAndSwap(open, fate) {
		close(q.told)
	}
}

// fail tells a question that is open of an error.
func (q *question) fail(err error) {
	if q.isOpen() {
		q.err = err
		q.tell(answered)
	}
}

// ride asks q with its party, and with other operations' where connections are busy. False says that it has to be asked alone.
func (q *question) ride() (bool, error) {
	p := leaveParty(q.ctx)
	if p == nil {
		p = &party{ctx: q.ctx, coming: 1}
	}
	if p.join(q) {
		q.store.depart(p)
	}
	select {
	case <-q.told:
	case <-q.ctx.Done():
		return true, context.Cause(q.ctx)
	}
	if q.fate.Load() == left {
		return false, nil
	}
	return true, q.err
}

// lines are how many trips are made at the same time. A party that finds no line free waits for one, and shares its next trip with all who wait: what a trip
// costs on both sides beyond its statements it costs once, and the busier the server is the more share it. Each party has its own viewer on the way.
type lines struct {
	// A trip that takes longer than hold has its line no more: others begin meanwhile, since PostgreSQL has to read from the disk, or is far away, or a table
	// is locked. Who shares it asks alone when it has asked for longer than patience.
	hold, patience time.Duration

	mu      sync.Mutex
	free    int
	kept    int // of them, for parties of many rows, which save little by sharing and keep PostgreSQL busy
	waiting []*party
}

// linesOf has a line for each processor, and as many kept.
func linesOf(connections int) lines {
	n := max(1, min(2*runtime.GOMAXPROCS(0), connections))
	return lines{hold: 20 * time.Millisecond, patience: time.Second, free: n, kept: n / 2}
}

// A party of manyRows is worth a trip of its own, and fullTrip bounds what several share. A statement costs as much as some rows do.
const manyRows, fullTrip, rowsForStatement = 200, 2000, 16

func (p *party) size() (size int) {
	for _, q := range p.questions {
		size += rowsForStatement + q.rows
	}
	return size
}

// take is true for who finds a line free. Others wait.
func (l *lines) take(p *party) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == 0 || l.free <= l.kept && p.size() < manyRows {
		l.waiting = append(l.waiting, p)
		return false
	}
	l.free--
	return true
}

// next is who shares the next trip of a line. Where nobody waits the line is free.
func (l *lines) next() (parties []*party) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size, n := 0, 0
	for _, p := range l.waiting {
		if p.ctx.Err() != nil {
			leave(p)
		} else if size += p.size(); len(parties) == 0 || size <= fullTrip {
			parties = append(parties, p)
		} else {
			break
		}
		n++
	}
	clear(l.waiting[:n])
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	if parties == nil {
		l.free++
	}
	return parties
}

// count is how many wait.
func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// depart has a party's questions asked, here and now or when a line is free.
func (s *Store) depart(p *party) {
	if s.lines.take(p) && s.trip(p.ctx, []*party{p}, nil) {
		if parties := s.lines.next(); parties != nil {
			s.background.Go(func() { s.drive(parties) })
		}
	}
}

// drive makes trips on a line as long as somebody waits.
func (s *Store) drive(parties []*party) {
	for parties != nil {
		ctx, cancel := together(parties)
		keeps := s.trip(ctx, parties, cancel)
		cancel()
		if !keeps {
			return
		}
		parties = s.lines.next()
	}
}

// together is the context of a trip that goes on until nobody is left whom it serves.
func together(parties []*party) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancel(context.Background())
	stops := make([]func() bool, len(parties))
	var gone atomic.Int32
	for i, p := range parties {
		stops[i] = context.AfterFunc(p.ctx, func() {
			if gone.Add(1) == int32(len(parties)) && slices.ContainsFunc(parties, (*party).isOpen) {
				end()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		end()
	}
}

// trip makes one trip of a line, and says whether the line is still its own. Cancel ends it.
func (s *Store) trip(ctx context.Context, parties []*party, cancel func()) (keeps bool) {
	s.background.Add(1)
	late := time.AfterFunc(s.lines.hold, func() {
		defer s.background.Done()
		s.drive(s.lines.next())
	})
	s.ask(ctx, parties, cancel)
	if keeps = late.Stop(); keeps {
		s.background.Done()
	}
	return keeps
}

// ask has all questions of the parties asked in one trip. Who has company leaves when it takes too long.
func (s *Store) ask(ctx context.Context, parties []*party, cancel func()) {
	defer leave(parties...) // whoever has not been asked
	defer func() {
		if value := recover(); value != nil { // whoever's rows cannot be taken panics again when it asks alone
			s.log.ErrorContext(ctx, "a trip panicked", "panic", value, "stack", string(debug.Stack()))
		}
	}()
	err := s.on(ctx, func(c *conn) error {
		if len(parties) > 1 {
			late := time.AfterFunc(s.lines.patience, func() {
				leave(parties...)
				cancel()
			})
			defer late.Stop()
		}
		return c.askAll(ctx, parties)
	})
	if err != nil {
		for _, p := range parties {
			for _, q := range p.questions {
				q.fail(err)
			}
		}
	}
}

// leave tells who has no answer that there will be none on this trip.
func leave(parties ...*party) {
	for _, p := range parties {
		for _, q := range p.questions {
			q.tell(left)
		}
	}
}
