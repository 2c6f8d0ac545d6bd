package store

import (
	"context"
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
			l := s.linesFor(p)
			s.drive(l, l.take(p))
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
// costs on both sides beyond its statements it costs once, and the busier the server is the more share it. Where there is a crowd to wait for, parties wait
// for that too while a trip is under way, or awhile. Each party has its own viewer on the way.
type lines struct {
	// A trip that takes longer than hold has its line no more: others begin meanwhile, since PostgreSQL has to read from the disk, or is far away, or a table
	// is locked. Who shares it asks alone when it has asked for longer than patience.
	hold, patience time.Duration
	all            int
	crowd          int // of so many another trip begins beside one; zero where every line is used at once

	mu      sync.Mutex
	free    int
	began   time.Time // the last trip
	waiting []*party
}

// awhile is how long a trip keeps others from beginning that are no crowd. What that costs them in time it saves in work, and the more of it there is.
const awhile = 5 * time.Millisecond

func newLines(n, crowd int) lines {
	return lines{hold: 20 * time.Millisecond, patience: time.Second, all: n, free: n, crowd: crowd}
}

// A party of manyRows is worth a trip of its own and has other lines than those of few rows: it saves little by sharing and keeps PostgreSQL busy. FullTrip bounds what
// several share. A statement costs as much as some rows do.
const manyRows, fullTrip, rowsForStatement = 200, 2000, 16

// crowdOfFew is how many parties of few rows share a trip beside another one. More of them save no more.
const crowdOfFew = 12

func (s *Store) linesFor(p *party) *lines {
	if p.size() < manyRows {
		return &s.few
	}
	return &s.many
}

func (p *party) size() (size int) {
	for _, q := range p.questions {
		size += rowsForStatement + q.rows
	}
	return size
}

// take has a party wait, or depart with all who do where a line is free for them.
func (l *lines) take(p *party) []*party {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, p)
	if l.free == 0 || l.free < l.all && len(l.waiting) < l.crowd && time.Since(l.began) < awhile {
		return nil
	}
	l.free--
	return l.share()
}

// more is who waits although a line is free.
func (l *lines) more() []*party {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free == 0 {
		return nil
	}
	l.free--
	return l.share()
}

// next is who shares the next trip of a line. Where nobody waits the line is free.
func (l *lines) next() []*party {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.share()
}

func (l *lines) share() (parties []*party) {
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
	} else {
		l.began = time.Now()
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
	l := s.linesFor(p)
	parties := l.take(p)
	if len(parties) == 1 && parties[0] == p {
		if !s.trip(p.ctx, l, parties, nil) {
			return
		}
		parties = l.next()
	}
	if parties != nil {
		s.background.Go(func() { s.drive(l, parties) })
	}
}

// drive makes trips on a line as long as somebody waits.
func (s *Store) drive(l *lines, parties []*party) {
	for parties != nil {
		ctx, cancel := context.WithCancel(context.Background())
		keeps := s.trip(ctx, l, parties, cancel)
		cancel()
		if !keeps {
			return
		}
		parties = l.next()
	}
}

// endWithout ends a trip, which has ctx, when nobody is left whom it serves.
func endWithout(ctx context.Context, parties []*party, end func()) {
	var gone atomic.Int32
	stops := make([]func() bool, len(parties))
	for i, p := range parties {
		stops[i] = context.AfterFunc(p.ctx, func() {
			if gone.Add(1) == int32(len(parties)) && slices.ContainsFunc(parties, (*party).isOpen) {
				end()
			}
		})
	}
	context.AfterFunc(ctx, func() { // who waits for long must not keep what others were given
		for _, stop := range stops {
			stop()
		}
	})
}

// trip makes one trip of a line, and says whether the line is still its own. Cancel, which is nil where ctx is the party's, ends it: one that takes long looks who is
// left, others are over before that would pay.
func (s *Store) trip(ctx context.Context, l *lines, parties []*party, cancel func()) (keeps bool) {
	if l.crowd > 0 {
		defer s.after(awhile, func() { s.drive(l, l.more()) })()
	}
	late := s.after(l.hold, func() {
		if cancel != nil {
			endWithout(ctx, parties, cancel)
		}
		s.drive(l, l.next())
	})
	s.ask(ctx, l, parties, cancel)
	return late()
}

// after does something in the background unless it is stopped before, which stop says. Close waits for it.
func (s *Store) after(wait time.Duration, do func()) (stop func() bool) {
	s.background.Add(1)
	timer := time.AfterFunc(wait, func() {
		defer s.background.Done()
		do()
	})
	return func() bool {
		stopped := timer.Stop()
		if stopped {
			s.background.Done()
		}
		return stopped
	}
}

// ask has all questions of the parties asked in one trip. Who has company leaves when it takes too long.
func (s *Store) ask(ctx context.Context, l *lines, parties []*party, cancel func()) {
	defer leave(parties...) // whoever has not been asked
	defer func() {
		if value := recover(); value != nil { // whoever's rows cannot be taken panics again when it asks alone
			s.log.ErrorContext(ctx, "a trip panicked", "panic", value, "stack", string(debug.Stack()))
		}
	}()
	err := s.on(ctx, func(c *conn) error {
		if len(parties) > 1 {
			late := time.AfterFunc(l.patience, func() {
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
