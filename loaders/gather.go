package loaders

import (
	"context"
	"sync"

	"github.com/netra-ai/netra/models"
)

// Gather loads objects for operations that know nothing of each other, such as those of subscriptions. A question is put once at a time: whoever
// asks it meanwhile is answered together by the next. So a read never began before it was asked for, there is no timer, and the more is
// asked the fewer are the statements for each. The zero value is ready. A question must say whose rights it has.
type Gather[Q, K comparable, V any] struct {
	mu      sync.Mutex
	waiting map[Q]*gathered[K, V] // an entry, nil or not, is there while the question is being put
}

// gathered is one statement's share.
type gathered[K comparable, V any] struct {
	ctx    context.Context // with the values of who asked first
	keys   map[K]struct{}
	done   chan struct{}
	values map[K]V
	err    error
}

// Load answers for one key; the zero value where there is nothing. It returns early when ctx ends; the statement goes on for the others.
func (g *Gather[Q, K, V]) Load(ctx context.Context, question Q, key K, read func(context.Context, []K) (map[K]V, error)) (V, error) {
	g.mu.Lock()
	if g.waiting == nil {
		g.waiting = map[Q]*gathered[K, V]{}
	}
	mine, busy := g.waiting[question]
	if mine == nil {
		mine = &gathered[K, V]{ctx: context.WithoutCancel(ctx), keys: map[K]struct{}{}, done: make(chan struct{})}
	}
	mine.keys[key] = struct{}{}
	if busy {
		g.waiting[question] = mine
	} else {
		g.waiting[question] = nil
		go g.put(question, mine, read)
	}
	g.mu.Unlock()
	select {
	case <-mine.done:
		return mine.values[key], mine.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// put asks until nobody waits.
func (g *Gather[Q, K, V]) put(question Q, batch *gathered[K, V], read func(context.Context, []K) (map[K]V, error)) {
	for batch != nil {
		batch.ask(read)
		g.mu.Lock()
		batch = g.waiting[question]
		if batch == nil {
			delete(g.waiting, question)
		} else {
			g.waiting[question] = nil
		}
		g.mu.Unlock()
	}
}

func (b *gathered[K, V]) ask(read func(context.Context, []K) (map[K]V, error)) {
	defer close(b.done)
	defer func() {
		if r := recover(); r != nil {
			b.err = models.Errorf(models.Internal, "reading panicked: %v", r)
		}
	}()
	keys := make([]K, 0, len(b.keys))
	for key := range b.keys {
		keys = append(keys, key)
	}
	b.values, b.err = read(b.ctx, keys)
}
