package loaders_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
)

// family is a table of users of which each links to another.
type family struct {
	loaders.Loaders
	broken error

	mu    sync.Mutex
	reads [][]int
}

func (f *family) rows(_ context.Context, keys []int) ([]*models.User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = append(f.reads, keys)
	var rows []*models.User
	for _, key := range keys {
		if key < 100 {
			rows = append(rows, &models.User{DatabaseID: key})
		}
	}
	return rows, f.broken
}

// parent is a resolver: users 1 to 9 link to nobody, others to the tenth of their number.
func (f *family) parent(ctx context.Context, user *models.User) (*models.User, error) {
	key := user.DatabaseID / 10
	link := &key
	if key == 0 {
		link = nil
	}
	return loaders.One(ctx, &f.Loaders, user.Cohort(), link, f.rows, func(u *models.User) int { return u.DatabaseID })
}

func (f *family) parents(ctx context.Context, users []*models.User) ([]any, error) {
	asking, add, load := loaders.Together(ctx, len(users))
	for _, user := range users {
		value, err := f.parent(asking, user)
		add(value, err)
	}
	return load()
}

func onField(ctx context.Context, alias string) context.Context {
	return graphql.WithFieldContext(ctx, &graphql.FieldContext{Field: graphql.CollectedField{Field: &ast.Field{Alias: alias}}})
}

func users(keys ...int) []*models.User {
	all := make([]*models.User, len(keys))
	for i, key := range keys {
		all[i] = &models.User{DatabaseID: key}
	}
	return all
}

func idsOf(t *testing.T, values []any) []int {
	t.Helper()
	ids := make([]int, len(values))
	for i, value := range values {
		if user := value.(*models.User); user != nil {
			ids[i] = user.DatabaseID
		}
	}
	return ids
}

func TestTogether_AsksOnceForACohort(t *testing.T) {
	t.Parallel()
	f, ctx := new(family), onField(t.Context(), "parent")
	values, err := f.parents(ctx, loaders.Adopt(ctx, users(10, 25, 3, 21)))
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 0, 2}, idsOf(t, values))
	require.Len(t, f.reads, 1)
	require.ElementsMatch(t, []int{1, 2}, f.reads[0])
	require.Equal(t, 3, values[0].(*models.User).Cohort().Size(), "one that two share is handed out twice")
}

func TestTogether_WaitsForSiblingsElsewhere(t *testing.T) {
	t.Parallel()
	f, ctx := new(family), onField(t.Context(), "parent")
	siblings := loaders.Adopt(ctx, users(10, 25, 3, 21))
	var elsewhere sync.WaitGroup
	elsewhere.Go(func() {
		user, err := f.parent(ctx, siblings[3])
		require.NoError(t, err)
		require.Equal(t, 2, user.DatabaseID)
	})
	values, err := f.parents(ctx, siblings[:3])
	elsewhere.Wait()
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 0}, idsOf(t, values))
	require.Len(t, f.reads, 1)
	require.Zero(t, f.Nets())
}

func TestTogether_RemembersForWhoAsksAgain(t *testing.T) {
	t.Parallel()
	for _, broken := range []error{nil, errors.New("broken")} {
		f, ctx := &family{broken: broken}, onField(t.Context(), "parent")
		siblings := loaders.Adopt(ctx, users(10, 3, 2000))
		_, err := f.parents(ctx, siblings)
		require.Error(t, err, "one of them links to nothing")
		for i, want := range []int{1, 0, 0} {
			user, err := f.parent(ctx, siblings[i])
			switch {
			case broken != nil && want > 0:
				require.ErrorIs(t, err, broken)
			case i == 2 && broken == nil:
				require.Equal(t, models.NotFound, models.CodeOf(err))
			case want > 0:
				require.NoError(t, err)
				require.Equal(t, want, user.DatabaseID)
			case i == 1:
				require.NoError(t, err)
				require.Nil(t, user)
			}
		}
		require.Len(t, f.reads, 1)
		require.Zero(t, f.Nets())
		_, err = f.parents(onField(t.Context(), "again"), siblings)
		require.Error(t, err)
		require.Len(t, f.reads, 2, "another alias is another field")
	}
}

func TestTogether_ServesObjectsThatNoBatchMade(t *testing.T) {
	t.Parallel()
	f, ctx := new(family), onField(t.Context(), "parent")
	values, err := f.parents(ctx, append(users(10, 3), loaders.Adopt(ctx, users(40, 50))...))
	require.NoError(t, err)
	require.Equal(t, []int{1, 0, 4, 5}, idsOf(t, values))
	require.Len(t, f.reads, 2)
}
