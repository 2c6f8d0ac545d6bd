package live

import (
	"iter"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

type mailboxes[E Event[E]] map[*Subscription[E]]struct{}

// routes finds the subscribers of an event without looking at the others: each subscription is kept once, under the narrowest
// condition that it has.
type routes[E Event[E]] struct {
	count    int
	byRun    map[uuid.UUID]mailboxes[E]
	byThread map[uuid.UUID]mailboxes[E]
	byUser   map[int]mailboxes[E]
	rest     mailboxes[E]
}

func newRoutes[E Event[E]]() routes[E] {
	return routes[E]{
		byRun:    map[uuid.UUID]mailboxes[E]{},
		byThread: map[uuid.UUID]mailboxes[E]{},
		byUser:   map[int]mailboxes[E]{},
		rest:     mailboxes[E]{},
	}
}

func matches[E Event[E]](f models.StreamFilter, e E) bool {
	run, thread, user := e.About()
	return (f.UserID == nil || *f.UserID == user) &&
		(f.RunID == nil || run != nil && *f.RunID == *run) &&
		(f.ThreadID == nil || thread != nil && *f.ThreadID == *thread)
}

func (r *routes[E]) add(s *Subscription[E]) {
	switch f := s.filter; {
	case f.RunID != nil:
		put(r.byRun, *f.RunID, s)
	case f.ThreadID != nil:
		put(r.byThread, *f.ThreadID, s)
	case f.UserID != nil:
		put(r.byUser, *f.UserID, s)
	default:
		r.rest[s] = struct{}{}
	}
	r.count++
}

// remove forgets s, which may be gone already.
func (r *routes[E]) remove(s *Subscription[E]) {
	var found bool
	switch f := s.filter; {
	case f.RunID != nil:
		found = take(r.byRun, *f.RunID, s)
	case f.ThreadID != nil:
		found = take(r.byThread, *f.ThreadID, s)
	case f.UserID != nil:
		found = take(r.byUser, *f.UserID, s)
	default:
		_, found = r.rest[s]
		delete(r.rest, s)
	}
	if found {
		r.count--
	}
}

// candidates are all whose narrowest condition e meets. Removing one meanwhile is allowed.
func (r *routes[E]) candidates(e E) iter.Seq[*Subscription[E]] {
	run, thread, user := e.About()
	sets := [4]mailboxes[E]{nil, nil, r.byUser[user], r.rest}
	if run != nil {
		sets[0] = r.byRun[*run]
	}
	if thread != nil {
		sets[1] = r.byThread[*thread]
	}
	return func(yield func(*Subscription[E]) bool) {
		for _, set := range sets {
			for s := range set {
				if !yield(s) {
					return
				}
			}
		}
	}
}

func (r *routes[E]) all() iter.Seq[*Subscription[E]] {
	return func(yield func(*Subscription[E]) bool) {
		for _, sets := range []iter.Seq[mailboxes[E]]{values(r.byRun), values(r.byThread), values(r.byUser), one(r.rest)} {
			for set := range sets {
				for s := range set {
					if !yield(s) {
						return
					}
				}
			}
		}
	}
}

func values[K comparable, E Event[E]](m map[K]mailboxes[E]) iter.Seq[mailboxes[E]] {
	return func(yield func(mailboxes[E]) bool) {
		for _, set := range m {
			if !yield(set) {
				return
			}
		}
	}
}

func one[E Event[E]](set mailboxes[E]) iter.Seq[mailboxes[E]] {
	return func(yield func(mailboxes[E]) bool) { yield(set) }
}

func put[K comparable, E Event[E]](m map[K]mailboxes[E], key K, s *Subscription[E]) {
	if m[key] == nil {
		m[key] = mailboxes[E]{}
	}
	m[key][s] = struct{}{}
}

func take[K comparable, E Event[E]](m map[K]mailboxes[E], key K, s *Subscription[E]) bool {
	_, found := m[key][s]
	delete(m[key], s)
	if len(m[key]) == 0 {
		delete(m, key)
	}
	return found
}
