package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

// readNumber reads its argument back, as a read that is bounded or not.
func readNumber(ctx context.Context, s *Store, n int, isBounded bool) ([]struct{ N int }, error) {
	q := fixed("SELECT $1::int AS n", n)
	if isBounded {
		q.rows = 1
	}
	return query[struct{ N int }](ctx, s, q)
}

// beside runs parts at the same time.
func beside(ctx context.Context, parts ...func(context.Context)) {
	contexts, over := Beside(ctx, len(parts))
	var running sync.WaitGroup
	for i, part := range parts {
		running.Go(func() {
			defer over(i)
			part(contexts[i])
		})
	}
	running.Wait()
}

func TestBeside(t *testing.T) {
	t.Parallel()
	s, db := setup(t)
	reads := func(t *testing.T, n int, isBounded bool) func(context.Context) {
		return func(ctx context.Context) {
			rows, err := readNumber(ctx, s, n, isBounded)
			require.NoError(t, err)
			require.Equal(t, []struct{ N int }{{n}}, rows)
		}
	}
	nothing := func(context.Context) {}
	counts := func(t *testing.T) func(context.Context) {
		return func(ctx context.Context) {
			n, err := s.number(ctx, fixed("SELECT 3"))
			require.NoError(t, err)
			require.Equal(t, 3, n)
		}
	}
	for name, test := range map[string]struct {
		run               func(t *testing.T, ctx context.Context)
		statements, trips int64
	}{
		"first reads go together": {func(t *testing.T, ctx context.Context) {
			beside(ctx, reads(t, 1, true), reads(t, 2, true), reads(t, 3, true))
		}, 3, 1},
		"what may take long goes alone, and holds nobody up": {func(t *testing.T, ctx context.Context) {
			beside(ctx, reads(t, 1, true), reads(t, 2, false), counts(t), reads(t, 3, true))
		}, 4, 3},
		"who asks nothing holds nobody up": {func(t *testing.T, ctx context.Context) {
			beside(ctx, reads(t, 1, true), nothing, reads(t, 2, true), nothing)
		}, 2, 1},
		"one without company goes alone": {func(t *testing.T, ctx context.Context) {
			beside(ctx, nothing, reads(t, 1, true))
		}, 1, 1},
		"only the first read of a part has company": {func(t *testing.T, ctx context.Context) {
			twice := func(ctx context.Context) { reads(t, 1, true)(ctx); reads(t, 2, true)(ctx) }
			beside(ctx, twice, twice)
		}, 4, 3},
		"parts of a part go with the others": {func(t *testing.T, ctx context.Context) {
			beside(ctx, reads(t, 1, true), func(ctx context.Context) { beside(ctx, reads(t, 2, true), nothing, reads(t, 3, true)) })
		}, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tally models.Tally
			test.run(t, models.WithTally(as(t, models.Viewer{UserID: 1}), &tally))
			require.Equal(t, test.statements, tally.Statements.Load())
			require.Equal(t, test.trips, tally.Trips.Load())
		})
	}
	t.Run("one that fails fails alone", func(t *testing.T) {
		t.Parallel()
		for _, text := range []string{"SELECT 1 / (id - 1) AS n FROM users", "SELECT 1 / id AS n FROM nowhere", "SELECT id AS other FROM users"} { // when it runs, before, and after
			wrong := func(ctx context.Context) {
				q := fixed(text)
				q.rows = 1
				_, err := query[struct{ N int }](ctx, s, q)
				require.Error(t, err)
			}
			for range 4 { // in whichever order they come
				beside(as(t, models.Viewer{UserID: 1}), reads(t, 1, true), wrong, reads(t, 2, true))
			}
		}
	})
	t.Run("a slow one is in the log with those that went with it", func(t *testing.T) {
		t.Parallel()
		var log bytes.Buffer
		slow, err := Open(Config{URL: db.AppURL, Slow: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
		require.NoError(t, err)
		defer func() { require.NoError(t, slow.Close()) }()
		ask := func(text string) func(context.Context) {
			return func(ctx context.Context) {
				q := fixed(text)
				q.rows = 1
				_, err := query[struct{ N int }](ctx, slow, q)
				require.NoError(t, err)
			}
		}
		beside(as(t, models.Viewer{UserID: 1}), ask("SELECT 1 AS n FROM pg_sleep(0.06)"), ask("SELECT 2 AS n"))
		require.Equal(t, 2, strings.Count(log.String(), "slow statement"), log.String())
	})
	t.Run("one that ends its connection is not asked again and again", func(t *testing.T) {
		t.Parallel()
		var tally models.Tally
		ctx := models.WithTally(as(t, models.Viewer{UserID: 1}), &tally)
		const ends = "SELECT 1 AS n FROM (SELECT pg_sleep(0.6) OFFSET 0) AS slept, LATERAL (SELECT pg_terminate_backend(pg_backend_pid()) WHERE slept IS NOT NULL) AS over"
		_, err := query[struct{ N int }](ctx, s, fixed(ends))
		require.Equal(t, models.DatabaseUnavailable, models.CodeOf(err), "%v", err)
		_, err = s.number(ctx, fixed(ends)) // by database/sql
		require.Equal(t, models.DatabaseUnavailable, models.CodeOf(err), "%v", err)
		require.EqualValues(t, 2, tally.Trips.Load())
	})
	t.Run("who leaves tells everybody", func(t *testing.T) {
		t.Parallel()
		ctx, leave := context.WithCancel(as(t, models.Viewer{UserID: 1}))
		sleeps := func(ctx context.Context) {
			q := fixed("SELECT 1 AS n FROM pg_sleep(60)")
			q.rows = 1
			_, err := query[struct{ N int }](ctx, s, q)
			require.ErrorIs(t, err, context.Canceled)
		}
		beside(ctx, sleeps, sleeps, func(context.Context) { leave() })
	})
	t.Run("each sees what its viewer may see", func(t *testing.T) {
		t.Parallel()
		see := func(ctx context.Context) {
			users, err := s.Users(ctx, []int{1, 2, 3}, nil)
			require.NoError(t, err)
			require.Len(t, users, 1)
		}
		beside(as(t, models.Viewer{UserID: 1}), see, see)
		beside(t.Context(), func(ctx context.Context) {
			users, err := s.Users(ctx, []int{1, 2, 3}, nil)
			require.NoError(t, err)
			require.Empty(t, users, "without a viewer nothing is seen")
		}, reads(t, 1, true))
	})
	t.Run("whatever they do, all are answered", func(t *testing.T) {
		t.Parallel()
		var some func(r *rand.Rand, depth int) func(context.Context)
		some = func(r *rand.Rand, depth int) func(context.Context) {
			switch kind := r.IntN(6); {
			case kind < 2:
				return reads(t, r.IntN(100), kind == 0)
			case kind == 2:
				return nothing
			case kind == 3:
				return func(ctx context.Context) {
					ctx, leave := context.WithCancelCause(ctx)
					leave(errors.New("left"))
					_, err := readNumber(ctx, s, 1, true)
					require.Error(t, err)
				}
			case depth == 0:
				return counts(t)
			default:
				parts := make([]func(context.Context), 2+r.IntN(3))
				for i := range parts {
					parts[i] = some(r, depth-1)
				}
				return func(ctx context.Context) { beside(ctx, parts...); reads(t, 1, true)(ctx) }
			}
		}
		for seed := range uint64(200) {
			r := rand.New(rand.NewPCG(seed, 1))
			beside(as(t, models.Viewer{UserID: 1}), some(r, 2), some(r, 2), some(r, 2))
		}
	})
}
