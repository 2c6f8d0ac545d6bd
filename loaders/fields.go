package loaders

import (
	"context"
	"maps"
	"slices"

	"github.com/99designs/gqlgen/graphql"

	"github.com/netra-ai/netra/models"
)

// One loads the object that a field links to. Rows gives those of the keys that exist, in any order; keyOf tells which is which. A
// nil key is an empty link: its object is nil, and it still fills the parent's place among its siblings, so that their batch
// does not wait for it. It fails with NotFound where the row is gone.
func One[K comparable, T Object](ctx context.Context, l *Loaders, parent models.Cohort, key *K,
	rows func(context.Context, []K) ([]T, error), keyOf func(T) K) (T, error) {
	want := request[K]{declined: key == nil}
	if key != nil {
		want.key = *key
	}
	if joined[K, T, T](ctx, parent, want) {
		var none T
		return none, errAsked
	}
	return load(ctx, l, parent, want, func(ctx context.Context, asked map[K]int) (map[K]T, error) {
		found, err := rows(ctx, keys(asked))
		if err != nil {
			return nil, err
		}
		byKey := make(map[K]T, len(found))
		deliveries := 0
		for _, object := range found {
			byKey[keyOf(object)] = object
			deliveries += asked[keyOf(object)]
		}
		deliver(ctx, found, deliveries)
		return byKey, nil
	}, func(_ models.Cohort, want request[K], object T) (T, error) {
		var none T
		if object == none && !want.declined {
			return none, models.Errorf(models.NotFound, "it does not exist any more")
		}
		return object, nil
	})
}

// List is how a connection's rows are had: one page for each of several parents.
type List[K comparable, T models.Listed] struct {
	// Rows are the pages' rows, each page in its order (reversed when Backward): page.Rows() of each parent, as far as there are.
	Rows func(context.Context, []K, models.Page) ([]T, error)
	// Parent tells to whose page a row belongs.
	Parent func(T) K
	// Count is the whole length of each parent's list. Parents without any may be left out.
	Count func(context.Context, []K) (map[K]int, error)
}

// Page loads one parent's page.
func Page[K comparable, T interface {
	Object
	models.Listed
}](ctx context.Context, l *Loaders, parent models.Cohort, key K, page models.Page, list List[K, T]) (*models.Connection[T], error) {
	want := request[K]{key: key}
	if joined[K, slice[T], *models.Connection[T]](ctx, parent, want) {
		return nil, errAsked
	}
	return load(ctx, l, parent, want, func(batch context.Context, asked map[K]int) (map[K]slice[T], error) {
		page, wanted := wantedOf(ctx, page)
		if !wanted {
			return nil, nil
		}
		found, err := list.Rows(batch, keys(asked), page)
		if err != nil {
			return nil, err
		}
		pages := make(map[K]slice[T], len(asked))
		for from, to := 0, 0; from < len(found); from = to {
			of := list.Parent(found[from])
			for to = from + 1; to < len(found) && list.Parent(found[to]) == of; to++ {
			}
			pages[of] = pages[of].with(found[from:to:to], page)
		}
		c := &cohort{ctx: batch}
		for of, one := range pages {
			if page.Backward {
				slices.Reverse(one.rows)
			}
			for _, row := range one.rows {
				row.Join(c)
			}
			c.size += asked[of] * len(one.rows)
		}
		return pages, nil
	}, func(parent models.Cohort, of request[K], rows slice[T]) (*models.Connection[T], error) {
		return models.NewConnection(rows.rows, page, rows.more, func(ctx context.Context) (int, error) {
			return Value(ctx, l, parent, of.key, list.Count)
		}), nil
	})
}

// wantedOf is the page as far as the operation wants the connection under ctx's field: false where it wants to know how long the list is, and nothing of its rows.
func wantedOf(ctx context.Context, page models.Page) (models.Page, bool) {
	field, rows := graphql.GetFieldContext(ctx).Field, false
	page.Bare = true
	for _, f := range graphql.CollectFields(graphql.GetOperationContext(ctx), field.Selections, []string{field.Definition.Type.Name()}) {
		switch f.Name {
		case "totalCount", "__typename":
		case "pageInfo":
			rows, page.Bare = true, false
		default:
			rows = true
		}
	}
	return page, rows
}

// slice is a page as it is put together.
type slice[T any] struct {
	rows []T
	more bool
}

// with adds rows that follow those that are there.
func (s slice[T]) with(rows []T, page models.Page) slice[T] {
	if room := page.Limit - len(s.rows); len(rows) > room {
		rows, s.more = rows[:room], true
	}
	if s.rows == nil {
		s.rows = rows
	} else {
		s.rows = append(s.rows, rows...)
	}
	return s
}

// Value loads something that is no object: a count, a list of summaries. A key that values leaves out has the zero value.
func Value[K comparable, V any](ctx context.Context, l *Loaders, parent models.Cohort, key K,
	values func(context.Context, []K) (map[K]V, error)) (V, error) {
	want := request[K]{key: key}
	if joined[K, V, V](ctx, parent, want) {
		var none V
		return none, errAsked
	}
	return load(ctx, l, parent, want, func(ctx context.Context, asked map[K]int) (map[K]V, error) {
		return values(ctx, keys(asked))
	}, asLoaded)
}

// asLoaded is the result of a field that has what was loaded.
func asLoaded[K comparable, V any](_ models.Cohort, _ request[K], value V) (V, error) {
	return value, nil
}

func keys[K comparable](asked map[K]int) []K {
	return slices.AppendSeq(make([]K, 0, len(asked)), maps.Keys(asked))
}

// Root loads the connection of a root field, whose list has no parent. Rows and count are those of a List.
func Root[T interface {
	Object
	models.Listed
}](ctx context.Context, page models.Page, rows func(models.Page) ([]T, error), count func(context.Context) (int, error)) (*models.Connection[T], error) {
	var one slice[T]
	if page, wanted := wantedOf(ctx, page); wanted {
		found, err := rows(page)
		if err != nil {
			return nil, err
		}
		one = one.with(found, page)
	}
	if page.Backward {
		slices.Reverse(one.rows)
	}
	alone := &cohort{ctx: ctx, size: 1} // the connection, whose length is remembered as those of others are
	return models.NewConnection(Adopt(ctx, one.rows), page, one.more, func(ctx context.Context) (int, error) {
		return Value(ctx, nil, alone, page, func(context.Context, []models.Page) (map[models.Page]int, error) {
			n, err := count(ctx)
			return map[models.Page]int{page: n}, err
		})
	}), nil
}
