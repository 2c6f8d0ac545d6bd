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
	whole  bool // the loader takes all siblings as one
	loader *dataloader.Loader[*asked[K], *answered[K, V]]

	mu  sync.Mutex
	had []*answered[K, V]
}

// asked are requests that come as one: those of a whole cohort, or a single one.
type asked[K comparable] struct{ requests []request[K] }

// answered is what a batch gave.
type answered[K comparable, V any] struct {
	asked  map[K]int
	values map[K]V
	err    error
}

// newField makes a field that is asked for by the whole cohort at once, or by each sibling.
func newField[K comparable, V any](l *Loaders, c *cohort, whole bool, run batch[K, V]) *field[K, V] {
	capacity := c.size
	if whole {
		capacity = 1
	}
	f := &field[K, V]{l: l, c: c, run: run, whole: whole}
	f.loader = dataloader.NewBatchedLoader(f.put,
		dataloader.WithBatchCapacity[*asked[K], *answered[K, V]](capacity),
		dataloader.WithInputCapacity[*asked[K], *answered[K, V]](capacity),
		dataloader.WithWait[*asked[K], *answered[K, V]](net),
		// Duplicates are one key of the statement already.
		dataloader.WithCache[*asked[K], *answered[K, V]](&dataloader.NoCache[*asked[K], *answered[K, V]]{}),
	)
	return f
}

// put answers all who have asked, with the answers to all.
func (f *field[K, V]) put(ctx context.Context, all []*asked[K]) []*dataloader.Result[*answered[K, V]] {
	answer := &answered[K, V]{asked: map[K]int{}}
	siblings := 0
	for _, some := range all {
		siblings += len(some.requests)
		for _, r := range some.requests {
			if !r.declined {
				answer.asked[r.key]++
			}
		}
	}
	if siblings < f.c.size && ctx.Err() == nil {
		f.l.nets.Add(1)
	}
	if len(answer.asked) > 0 {
		answer.values, answer.err = f.run(ctx, answer.asked)
	}
	f.mu.Lock()
	f.had = append(f.had, answer)
	f.mu.Unlock()
	return slices.Repeat([]*dataloader.Result[*answered[K, V]]{{Data: answer}}, len(all))
}

// ask has what requests want loaded, unless it has been. The function waits for the answer to one of them. The context is of those who ask.
func (f *field[K, V]) ask(ctx context.Context, requests []request[K]) func(int) (V, error) {
	atOnce := 1
	if f.whole && len(requests) == f.c.size {
		atOnce = len(requests)
	} else {
		ctx = f.c.ctx
	}
	var promises []dataloader.Thunk[*answered[K, V]]
	for some := range slices.Chunk(requests, atOnce) {
		if known := f.known(some); known != nil {
			promises = append(promises, func() (*answered[K, V], error) { return known, nil })
		} else {
			promises = append(promises, f.loader.Load(ctx, &asked[K]{some}))
		}
	}
	return func(i int) (found V, err error) {
		answer, err := promises[i/atOnce]()
		if err != nil || requests[i].declined {
			return found, err
		}
		return answer.values[requests[i].key], answer.err
	}
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
