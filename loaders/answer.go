package loaders

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/netra-ai/netra/models"
)

// Answer loads what a question has to say of each object: its part of what values gives. One question about the same objects under several
// aliases is put once. The question is told from others by how %+v prints it, and its answers are shared: they must not be objects. It is made
// once for a batch.
func Answer[K comparable, A, V any](ctx context.Context, l *Loaders, parent models.Cohort, key K, question func() any,
	values func(context.Context, []K) (map[K]A, error), part func(A) V) (V, error) {
	put := once(parent, question, values)
	return Value(ctx, l, parent, key, func(ctx context.Context, keys []K) (map[K]V, error) {
		found, err := put(ctx, keys)
		if err != nil {
			return nil, err
		}
		parts := make(map[K]V, len(found))
		for of, answer := range found {
			parts[of] = part(answer)
		}
		return parts, nil
	})
}

// Answers is Answer where each object has a list of objects, which are made anew for each alias.
func Answers[K comparable, A any, T Object](ctx context.Context, l *Loaders, parent models.Cohort, key K, question func() any,
	values func(context.Context, []K) (map[K]A, error), list func(A) []T) ([]T, error) {
	put := once(parent, question, values)
	return load(ctx, l, parent, request[K]{key: key}, func(ctx context.Context, asked map[K]int) (map[K][]T, error) {
		found, err := put(ctx, keys(asked))
		if err != nil {
			return nil, err
		}
		lists := make(map[K][]T, len(found))
		var all []T
		deliveries := 0
		for of, value := range found {
			objects := list(value)
			lists[of] = objects
			all = append(all, objects...)
			deliveries += asked[of] * len(objects)
		}
		deliver(ctx, all, deliveries)
		return lists, nil
	}, asLoaded)
}

// once puts a question about a set of keys at most once for a cohort.
func once[K comparable, V any](parent models.Cohort, question func() any, values func(context.Context, []K) (map[K]V, error)) func(context.Context, []K) (map[K]V, error) {
	siblings, ok := parent.(*cohort)
	if !ok {
		return values
	}
	return func(ctx context.Context, keys []K) (map[K]V, error) {
		question := question()
		answer := siblings.answer(fmt.Sprintf("%T %+v of %s", question, question, names(keys)), func() (any, error) { return values(ctx, keys) })
		found, err := answer()
		if err != nil {
			return nil, err
		}
		return found.(map[K]V), nil
	}
}

func (c *cohort) answer(question string, put func() (any, error)) func() (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.answers[question]; ok {
		return known
	}
	if c.answers == nil {
		c.answers = map[string]func() (any, error){}
	}
	c.answers[question] = sync.OnceValues(put)
	return c.answers[question]
}

// names lists keys in one order.
func names[K comparable](keys []K) string {
	list := make([]string, len(keys))
	for i, key := range keys {
		list[i] = fmt.Sprintf("%+q", fmt.Sprint(key))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}
