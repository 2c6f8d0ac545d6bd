// Package share divides what there is little of among users.
package share

import (
	"context"
	"errors"
	"sync"
)

// Places are so many things at a time, such as transfers. A user may take another while they hold fewer than twice as many as are free: one alone gets two thirds,
// two get two fifths each, and whoever holds none gets one while there is any. So nobody, however many they ask for, keeps the others out.
type Places struct {
	waiting int // at most, of each user

	mu     sync.Mutex
	free   int
	held   map[int]int // by user
	queue  []*waiter   // the longest first
	queued map[int]int // by user
}

type waiter struct {
	user  int
	taken chan struct{} // closed when the place is theirs
}

// New makes places of which all are free. Each user may have so many calls of Wait waiting.
func New(total, waiting int) *Places {
	return &Places{waiting: waiting, free: total, held: map[int]int{}, queued: map[int]int{}}
}

// ErrTaken is that there is no place for the user now.
var ErrTaken = errors.New("no place is free for this user")

// Take takes a place for a user, who must leave it, once. It fails with ErrTaken.
func (p *Places) Take(user int) (leave func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.take(user) {
		return nil, ErrTaken
	}
	return func() { p.leave(user) }, nil
}

// Wait is Take for a user who waits for the place until ctx ends. It fails with ErrTaken, and at once when too many wait for the same user.
func (p *Places) Wait(ctx context.Context, user int) (leave func(), err error) {
	leave = func() { p.leave(user) }
	p.mu.Lock()
	if p.take(user) {
		p.mu.Unlock()
		return leave, nil
	}
	if p.queued[user] >= p.waiting {
		p.mu.Unlock()
		return nil, ErrTaken
	}
	w := &waiter{user: user, taken: make(chan struct{})}
	p.queue = append(p.queue, w)
	p.queued[user]++
	p.mu.Unlock()
	select {
	case <-w.taken:
		return leave, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.taken: // meanwhile
		return leave, nil
	default:
	}
	for i, other := range p.queue {
		if other == w {
			p.unqueue(i)
			break
		}
	}
	return nil, ErrTaken
}

// take is called with the lock held, as the methods below but leave.
func (p *Places) take(user int) bool {
	if p.held[user] >= 2*p.free {
		return false
	}
	p.free--
	p.held[user]++
	return true
}

func (p *Places) leave(user int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free++
	if p.held[user]--; p.held[user] == 0 {
		delete(p.held, user)
	}
	for i := 0; i < len(p.queue) && p.free > 0; {
		w := p.queue[i]
		if !p.take(w.user) {
			i++
			continue
		}
		p.unqueue(i)
		close(w.taken)
	}
}

func (p *Places) unqueue(i int) {
	user := p.queue[i].user
	p.queue = append(p.queue[:i], p.queue[i+1:]...)
	if p.queued[user]--; p.queued[user] == 0 {
		delete(p.queued, user)
	}
}
