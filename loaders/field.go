package loaders

import (
	"context"
	"slices"
	"sync"

	"github.com/graph-gophers/dataloader/v7"
)

// request is one sibling's part in a batch.
type request[K comparable] struct {
	key      K
	declined bool // fills its place and asks for nothing
}

// batch answers all the requests of a cohort for one field; it is given every distinct key with the number of siblings who asked for it.
type batch[K comparable, V any] func(ctx context.Context, asked map[K]int) (map[K]V, error)

// field is one field of a cohort's objects. It remembers what it was answered, for who asks once more: the executor does where a plan gives up.
type field[K comparable, V any] struct {
	l      *Loaders
	c      *cohort
	run    batch[K, V]
	begin  sync.Once
	loader *dataloader.Loader[request[K], *answered[K, V]] // for siblings who ask one by one

	whole sync.Mutex // held while siblings are answered who all ask at once

	mu  sync.Mutex
	had []*answered[K, V]
}

// answered is what a batch gave.
type answered[K comparable, V any] struct {
	asked  map[K]int
	values map[K]V
	err    error
}

// newLoader makes a loader that has all siblings ask.
func (f *field[K, V]) newLoader() {
	f.loader = dataloader.NewBatchedLoader(func(ctx context.Context, all []request[K]) []*dataloader.Result[*answered[K, V]] {
		if len(all) < f.c.size && ctx.Err() == nil {
			f.l.nets.Add(1)
		}
		return slices.Repeat([]*dataloader.Result[*answered[K, V]]{{Data: f.answer(ctx, all)}}, len(all))
	},
		dataloader.WithBatchCapacity[request[K], *answered[K, V]](f.c.size),
		dataloader.WithInputCapacity[request[K], *answered[K, V]](f.c.size),
		dataloader.WithWait[request[K], *answered[K, V]](net),
		// Duplicates are one key of the statement already.
		dataloader.WithCache[request[K], *answered[K, V]](&dataloader.NoCache[request[K], *answered[K, V]]{}),
	)
}

func (f *field[K, V]) answer(ctx context.Context, requests []request[K]) *answered[K, V] {
	answer := &answered[K, V]{asked: make(map[K]int, len(requests))}
	for _, r := range requests {
		if !r.declined {
			answer.asked[r.key]++
		}
	}
	if len(answer.asked) > 0 {
		answer.values, answer.err = f.run(ctx, answer.asked)
	}
	f.mu.Lock()
	f.had = append(f.had, answer)
	f.mu.Unlock()
	return answer
}

// ask has what requests want loaded, unless it has been. The function waits for the answer to one of them. The context is of those who ask.
func (f *field[K, V]) ask(ctx context.Context, requests []request[K]) func(int) (V, error) {
	var promises []dataloader.Thunk[*answered[K, V]]
	if len(requests) == f.c.size {
		promises = append(promises, sync.OnceValues(func() (*answered[K, V], error) { return f.askAll(ctx, requests), nil }))
	} else {
		for i := range requests {
			promises = append(promises, f.askOne(requests[i]))
		}
	}
	return func(i int) (found V, err error) {
		answer, err := promises[min(i, len(promises)-1)]()
		if err != nil || requests[i].declined {
			return found, err
		}
		return answer.values[requests[i].key], answer.err
	}
}

// askAll is for requests of all siblings: there is nobody to wait for.
func (f *field[K, V]) askAll(ctx context.Context, requests []request[K]) *answered[K, V] {
	f.whole.Lock()
	defer f.whole.Unlock()
	if known := f.known(requests); known != nil {
		return known
	}
	return f.answer(ctx, requests)
}

func (f *field[K, V]) askOne(want request[K]) dataloader.Thunk[*answered[K, V]] {
	if known := f.known([]request[K]{want}); known != nil {
		return func() (*answered[K, V], error) { return known, nil }
	}
	f.begin.Do(f.newLoader)
	return f.loader.Load(f.c.ctx, want)
}

// known is an answer that there is to all of some requests.
func (f *field[K, V]) known(requests []request[K]) *answered[K, V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, answer := range f.had {
		if !slices.ContainsFunc(requests, func(r request[K]) bool { return !r.declined && answer.asked[r.key] == 0 }) {
			return answer
		}
	}
	return nil
}
