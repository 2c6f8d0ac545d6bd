package store

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

// TestWhatIsInThreads_IsItsOwnersAndASuperusers is for statements that name whose threads they read: the viewer's, where that is all that the viewer sees.
func TestWhatIsInThreads_IsItsOwnersAndASuperusers(t *testing.T) {
	t.Parallel()
	s, db := setup(t)
	own, other := uuid.New(), uuid.New()
	owner := db.Owner(t)
	_, err := owner.ExecContext(t.Context(), "INSERT INTO threads (id, user_id) VALUES ($1, 1), ($2, 3)", own, other)
	require.NoError(t, err)
	_, err = owner.ExecContext(t.Context(), "INSERT INTO messages (thread_id, role, content) SELECT t, 'user', n FROM unnest($1::uuid[]) t, generate_series(1, 3) n", []uuid.UUID{own, other})
	require.NoError(t, err)
	_, err = owner.ExecContext(t.Context(), "INSERT INTO runs (thread_id, user_id, input_data) SELECT id, user_id, '{}' FROM threads, generate_series(1, 2)")
	require.NoError(t, err)

	for name, test := range map[string]struct {
		viewer models.Viewer
		sees   []uuid.UUID
	}{
		"its owner":                   {models.Viewer{UserID: 1}, []uuid.UUID{own}},
		"another":                     {models.Viewer{UserID: 4}, nil},
		"a superuser":                 {models.Viewer{UserID: 2, Superuser: true}, []uuid.UUID{own, other}},
		"the system":                  {models.System, []uuid.UUID{own, other}},
		"an owner who is a superuser": {models.Viewer{UserID: 1, Superuser: true}, []uuid.UUID{own, other}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, threads := as(t, test.viewer), []uuid.UUID{own, other, uuid.New()}
			page := models.Page{Limit: 10, Order: models.Order{Column: "created_at"}}
			seen := func(count int) map[uuid.UUID]int { // by thread
				want := map[uuid.UUID]int{}
				for _, id := range test.sees {
					want[id] = count
				}
				return want
			}
			require.Equal(t, seen(3), tally(t, func(m *models.Message) uuid.UUID { return m.ThreadID })(s.MessagesOfThreads(ctx, threads, page, nil, nil)))
			require.Equal(t, seen(2), tally(t, func(r *models.Run) uuid.UUID { return *r.ThreadID })(s.RunsOfThreads(ctx, threads, page, nil, nil)))
			activity := models.Page{Limit: 10, Order: models.Order{Column: "at", Descending: true}}
			require.Equal(t, seen(5), tally(t, func(a *models.ThreadActivity) uuid.UUID { return a.ThreadID })(s.ActivityOfThreads(ctx, threads, activity)))
			runs, err := s.RunIDsOfThreads(ctx, threads)
			require.NoError(t, err)
			require.Len(t, runs, 2*len(test.sees))
			for want, count := range map[int]func() (map[uuid.UUID]int, error){
				3: func() (map[uuid.UUID]int, error) { return s.CountMessagesOfThreads(ctx, threads, nil) },
				2: func() (map[uuid.UUID]int, error) { return s.CountRunsOfThreads(ctx, threads, nil) },
				5: func() (map[uuid.UUID]int, error) { return s.CountActivityOfThreads(ctx, threads) },
			} {
				counts, err := count()
				require.NoError(t, err)
				for _, id := range threads {
					require.Equal(t, seen(want)[id], counts[id])
				}
			}
			for _, id := range threads {
				latest, err := s.LatestMessage(ctx, id, 0)
				require.NoError(t, err)
				require.Len(t, latest.Rows, min(1, seen(1)[id]))
			}
		})
	}
}

// tally counts rows by a key.
func tally[T any](t *testing.T, keyOf func(T) uuid.UUID) func(rows []T, err error) map[uuid.UUID]int {
	return func(rows []T, err error) map[uuid.UUID]int {
		t.Helper()
		require.NoError(t, err)
		counts := map[uuid.UUID]int{}
		for _, row := range rows {
			counts[keyOf(row)]++
		}
		return counts
	}
}
