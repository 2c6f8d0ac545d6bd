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
	ctx  context.Context // of whoever made it, the operation's or its part's: a batch serves siblings whose own contexts may end sooner
	size int             // deliveries: an object that two parents share counts twice

	mu      sync.Mutex
	fields  map[string]any // by response path without list indices: *field[K, V]
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

// load joins the batch of parent's cohort for the field of ctx and waits for its answer, of which result makes the field's. Where siblings ask
// together it waits for nothing: it leaves word of what is wanted.
func load[K comparable, V, R any](ctx context.Context, l *Loaders, parent models.Cohort, want request[K], run batch[K, V],
	result func(models.Cohort, request[K], V) (R, error)) (R, error) {
	var none R
	if t := togetherOf(ctx); t != nil {
		return none, begin(t, l, parent, want, run, result)
	}
	found, err := ask(ctx, l, parent, []request[K]{want}, run)(0)
	if err != nil {
		return none, err
	}
	return result(parent, want, found)
}

// ask has what some siblings want loaded. The function waits for the answer to one of the requests.
func ask[K comparable, V any](ctx context.Context, l *Loaders, parent models.Cohort, requests []request[K], run batch[K, V]) func(int) (V, error) {
	if siblings, ok := parent.(*cohort); ok {
		return fieldOf(ctx, l, siblings, run).ask(ctx, requests)
	}
	alone := &field[K, V]{l: l, c: &cohort{ctx: ctx, size: len(requests)}, run: run} // an object that no batch made has no siblings
	return alone.ask(ctx, requests)
}

// fieldOf finds, or begins, the batch for the field of ctx.
func fieldOf[K comparable, V any](ctx context.Context, l *Loaders, c *cohort, run batch[K, V]) *field[K, V] {
	path := responsePath(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.fields[path]; ok {
		return known.(*field[K, V])
	}
	f := &field[K, V]{l: l, c: c, run: run}
	if c.fields == nil {
		c.fields = map[string]any{}
	}
	c.fields[path] = f
	return f
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
