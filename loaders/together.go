package loaders

import (
	"context"
	"errors"
	"fmt"

	"github.com/netra-ai/netra/models"
)

// Together is for one field of several siblings, for all of which one goroutine asks. A resolver that is called with the context asking, and that ends with a
// load of this package, waits for nothing: it leaves word of what is wanted, and fails in a way that add understands. So the ordinary resolver,
// which is written for one object, serves all siblings with one request. Its calls follow one another, and what each gave is added. Load gives the values in that
// order, once all are there; it fails where a sibling failed.
func Together(ctx context.Context, siblings int) (asking context.Context, add func(value any, err error), load func() ([]any, error)) {
	t := &together{ctx: ctx, values: make([]any, 0, siblings), waiting: make([]int, 0, siblings)}
	return context.WithValue(ctx, togetherKey{}, t), t.add, t.load
}

type together struct {
	ctx     context.Context // as it is for a resolver that is called alone
	wanted  wanting
	values  []any
	waiting []int // places among the values, in the order in which word was left
	err     error // the first
}

// wanting is what siblings have left word of.
type wanting interface {
	load(put func(i int, value any)) error
}

type togetherKey struct{}

// errAsked is what a resolver fails with that has left word.
var errAsked = errors.New("siblings ask together")

func togetherOf(ctx context.Context) *together {
	t, _ := ctx.Value(togetherKey{}).(*together)
	return t
}

func (t *together) add(value any, err error) {
	if errors.Is(err, errAsked) {
		t.waiting = append(t.waiting, len(t.values))
	} else if t.err == nil {
		t.err = err
	}
	t.values = append(t.values, value)
}

func (t *together) load() ([]any, error) {
	if t.wanted != nil {
		if err := t.wanted.load(func(i int, value any) { t.values[t.waiting[i]] = value }); t.err == nil {
			t.err = err
		}
	}
	return t.values, t.err
}

// wanted is what siblings want of a field with results R.
type wanted[K comparable, V, R any] struct {
	t        *together
	l        *Loaders
	run      batch[K, V]
	result   func(models.Cohort, request[K], V) (R, error)
	parents  []models.Cohort
	requests []request[K]
}

// begin has the first of the siblings leave word; it always fails.
func begin[K comparable, V, R any](t *together, l *Loaders, parent models.Cohort, want request[K], run batch[K, V],
	result func(models.Cohort, request[K], V) (R, error)) error {
	w := &wanted[K, V, R]{t: t, l: l, run: run, result: result,
		parents: make([]models.Cohort, 0, cap(t.values)), requests: make([]request[K], 0, cap(t.values))}
	if t.wanted != nil {
		return fmt.Errorf("siblings want %T and %T of one field", t.wanted, w)
	}
	t.wanted = w
	w.add(parent, want)
	return errAsked
}

// joined has a sibling that is not the first leave word: how it is loaded is known by then.
func joined[K comparable, V, R any](ctx context.Context, parent models.Cohort, want request[K]) bool {
	t := togetherOf(ctx)
	if t == nil {
		return false
	}
	w, ok := t.wanted.(*wanted[K, V, R])
	if ok {
		w.add(parent, want)
	}
	return ok
}

func (w *wanted[K, V, R]) add(parent models.Cohort, want request[K]) {
	w.parents, w.requests = append(w.parents, parent), append(w.requests, want)
}

func (w *wanted[K, V, R]) load(put func(int, any)) error {
	var parts []part[V] // one, unless no batch has made the siblings
	for from, to := 0, 0; from < len(w.requests); from = to {
		for to = from + 1; to < len(w.requests) && w.parents[to] != nil && w.parents[to] == w.parents[from]; to++ {
		}
		parts = append(parts, part[V]{from, to, ask(w.t.ctx, w.l, w.parents[from], w.requests[from:to], w.run)})
	}
	if len(parts) > 1 {
		for _, p := range parts {
			go p.begin()
		}
	}
	var failure error
	for _, p := range parts {
		for i := p.from; i < p.to; i++ {
			var value R
			found, err := p.answer(i - p.from)
			if err == nil {
				value, err = w.result(w.parents[i], w.requests[i], found)
			}
			if err != nil && failure == nil {
				failure = err
			}
			put(i, value)
		}
	}
	return failure
}

// part is of siblings that one batch made.
type part[V any] struct {
	from, to int
	answer   func(int) (V, error)
}

// begin has the answer made, which whoever waits for it is told.
func (p part[V]) begin() {
	defer func() { _ = recover() }() // as that is told too
	_, _ = p.answer(0)
}
