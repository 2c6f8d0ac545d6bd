package live

import (
	"iter"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

type mailboxes map[*Subscription]struct{}

// routes finds the subscribers of an event without looking at the others: each subscription is kept once, under the narrowest
// condition that it has.
type routes struct {
	count    int
	byRun    map[uuid.UUID]mailboxes
	byThread map[uuid.UUID]mailboxes
	byUser   map[int]mailboxes
	rest     mailboxes
}

func newRoutes() routes {
	return routes{
		byRun:    map[uuid.UUID]mailboxes{},
		byThread: map[uuid.UUID]mailboxes{},
		byUser:   map[int]mailboxes{},
		rest:     mailboxes{},
	}
}

func (r *routes) add(s *Subscription) {
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
func (r *routes) remove(s *Subscription) {
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
func (r *routes) candidates(e *models.RunEvent) iter.Seq[*Subscription] {
	sets := [4]mailboxes{r.byRun[e.RunID], nil, r.byUser[e.UserID], r.rest}
	if e.ThreadID != nil {
		sets[1] = r.byThread[*e.ThreadID]
	}
	return func(yield func(*Subscription) bool) {
		for _, set := range sets {
			for s := range set {
				if !yield(s) {
					return
				}
			}
		}
	}
}

func (r *routes) all() iter.Seq[*Subscription] {
	return func(yield func(*Subscription) bool) {
		for _, sets := range []iter.Seq[mailboxes]{values(r.byRun), values(r.byThread), values(r.byUser), one(r.rest)} {
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

func values[K comparable](m map[K]mailboxes) iter.Seq[mailboxes] {
	return func(yield func(mailboxes) bool) {
		for _, set := range m {
			if !yield(set) {
				return
			}
		}
	}
}

func one(set mailboxes) iter.Seq[mailboxes] {
	return func(yield func(mailboxes) bool) { yield(set) }
}

func put[K comparable](m map[K]mailboxes, key K, s *Subscription) {
	if m[key] == nil {
		m[key] = mailboxes{}
	}
	m[key][s] = struct{}{}
}

func take[K comparable](m map[K]mailboxes, key K, s *Subscription) bool {
	_, found := m[key][s]
	delete(m[key], s)
	if len(m[key]) == 0 {
		delete(m, key)
	}
	return found
}
