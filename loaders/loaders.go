// Package loaders makes one statement of what many objects ask: siblings that a batch handed out together are a cohort, and the same
// field of all of them is loaded by one batch, dispatched the instant that the last of them has asked.
package loaders

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/graph-gophers/dataloader/v7"

	"github.com/netra-ai/netra/models"
)

// net is how long a batch waits for siblings that never ask. Waiting is no part of the normal path: it ends with the last sibling.
const net = 150 * time.Millisecond

// Loaders counts, for all operations, how often the net was needed. Zero is what is expected: anything else is a sibling
// that should have asked or declined.
type Loaders struct {
	nets atomic.Int64
}

// Nets is how often a batch began before every sibling had asked, in an operation that was not cancelled.
func (l *Loaders) Nets() int64 { return l.nets.Load() }

// Object is anything in the graph whose fields are loaded in batches.
type Object interface {
	comparable
	Cohort() models.Cohort
	Join(models.Cohort)
}

// cohort is what one batch handed out, within one operation.
type cohort struct {
	ctx  context.Context // the operation's: a batch serves siblings whose own contexts may end sooner
	size int             // deliveries: an object that two parents share counts twice

	mu      sync.Mutex
	batches map[string]any // by response path without list indices: *dataloader.Loader[request[K], V]
	answers map[string]func() (any, error)
}

func (c *cohort) Size() int { return c.size }

// Adopt makes a cohort of objects that no batch made: those of a root field.
func Adopt[T Object](ctx context.Context, objects []T) []T {
	deliver(ctx, objects, len(objects))
	return objects
}

func deliver[T Object](ctx context.Context, objects []T, deliveries int) {
	c := &cohort{ctx: ctx, size: deliveries}
	for _, object := range objects {
		object.Join(c)
	}
}

// request is one sibling's part in a batch.
type request[K comparable] struct {
	key      K
	declined bool // fills its place and asks for nothing
}

// batch answers all the requests of a cohort for one field; it is given every distinct key with the number of siblings who asked for it.
type batch[K comparable, V any] func(ctx context.Context, asked map[K]int) (map[K]V, error)

// load joins the batch of parent's cohort for the field of ctx and waits for its answer.
func load[K comparable, V any](ctx context.Context, l *Loaders, parent models.Cohort, want request[K], run batch[K, V]) (V, error) {
	siblings, ok := parent.(*cohort)
	if !ok && want.declined {
		var none V
		return none, nil
	}
	if !ok { // an object that no batch made has no siblings
		answers, err := run(ctx, map[K]int{want.key: 1})
		return answers[want.key], err
	}
	return loaderOf(ctx, l, siblings, run).Load(siblings.ctx, want)()
}

func loaderOf[K comparable, V any](ctx context.Context, l *Loaders, c *cohort, run batch[K, V]) *dataloader.Loader[request[K], V] {
	path := responsePath(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.batches[path]; ok {
		return known.(*dataloader.Loader[request[K], V])
	}
	loader := dataloader.NewBatchedLoader(dispatcher(l, c, run),
		dataloader.WithBatchCapacity[request[K], V](c.size),
		dataloader.WithInputCapacity[request[K], V](c.size),
		dataloader.WithWait[request[K], V](net),
		dataloader.WithCache[request[K], V](&dataloader.NoCache[request[K], V]{}), // duplicates are one key of the batch already
	)
	if c.batches == nil {
		c.batches = map[string]any{}
	}
	c.batches[path] = loader
	return loader
}

func dispatcher[K comparable, V any](l *Loaders, c *cohort, run batch[K, V]) dataloader.BatchFunc[request[K], V] {
	return func(ctx context.Context, requests []request[K]) []*dataloader.Result[V] {
		if len(requests) < c.size && ctx.Err() == nil {
			l.nets.Add(1)
		}
		asked := make(map[K]int, len(requests))
		for _, r := range requests {
			if !r.declined {
				asked[r.key]++
			}
		}
		var answers map[K]V
		var err error
		if len(asked) > 0 {
			answers, err = run(ctx, asked)
		}
		results := make([]*dataloader.Result[V], len(requests))
		for i, r := range requests {
			results[i] = &dataloader.Result[V]{Data: answers[r.key], Error: err}
			if r.declined {
				results[i] = &dataloader.Result[V]{}
			}
		}
		return results
	}
}

// responsePath is where in the response the field of ctx stands, without list indices: siblings share it, and two uses of one field
// under different aliases do not.
func responsePath(ctx context.Context) string {
	var b strings.Builder
	for field := graphql.GetFieldContext(ctx); field != nil; field = field.Parent {
		if field.Field.Field != nil {
			b.WriteString(field.Field.Alias)
			b.WriteByte('.')
		}
	}
	return b.String()
}
