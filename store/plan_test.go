package store

import (
	"crypto/md5"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

// TestPlans_AreKept holds statements to a form whose plan PostgreSQL keeps: one that it plans anew each time costs up to twice as much.
func TestPlans_AreKept(t *testing.T) {
	t.Parallel()
	s, db := setup(t)
	s.db.SetMaxOpenConns(1)
	owner := db.Owner(t)
	_, err := owner.ExecContext(t.Context(), `
		INSERT INTO threads (id, user_id) SELECT md5('thread' || n)::uuid, 1 FROM generate_series(1, 2000) n;
		INSERT INTO messages (thread_id, user_id, role, content) SELECT md5('thread' || n % 100)::uuid, 1, 'user', 'hello' FROM generate_series(100, 2100) n WHERE n % 100 > 0;
		INSERT INTO runs (thread_id, user_id, input_data) SELECT md5('thread' || n % 100)::uuid, 1, '{}' FROM generate_series(100, 2100) n WHERE n % 100 > 0;
		ANALYZE`)
	require.NoError(t, err)
	ids := make([]uuid.UUID, 3)
	for i := range ids {
		ids[i] = md5.Sum(fmt.Appendf(nil, "thread%d", i+1))
	}
	ctx := as(t, models.Viewer{UserID: 1})
	page := models.Page{Limit: 5, Order: models.Order{Column: "created_at"}}
	const asked = 12
	for range asked {
		for n := range len(ids) {
			keys := ids[:n+1]
			_, err := s.Threads(ctx, keys, nil)
			require.NoError(t, err)
			_, err = s.Users(ctx, []int{1}, nil)
			require.NoError(t, err)
			_, err = s.ThreadsOfUsers(ctx, []int{1}, page, &models.ThreadFilter{Status: []models.ThreadStatus{models.ThreadActive, models.ThreadArchived}[:1+n%2]}, nil)
			require.NoError(t, err)
			_, err = s.CountThreadsOfUsers(ctx, []int{1}, &models.ThreadFilter{Status: []models.ThreadStatus{models.ThreadActive, models.ThreadArchived}[:1+n%2]})
			require.NoError(t, err)
			_, err = s.MessagesOfThreads(ctx, keys, page, nil, nil)
			require.NoError(t, err)
			_, err = s.RunsOfThreads(ctx, keys, page, nil, nil)
			require.NoError(t, err)
			_, err = s.CountMessagesOfThreads(ctx, keys, nil)
			require.NoError(t, err)
			require.NoError(t, s.Write(ctx, "test", func(tx *Tx) error {
				var threads []*models.Thread
				tx.SetThreadStatus(keys, models.ThreadActive)
				if _, err := tx.LockThreads(t.Context(), keys); err != nil {
					return err
				}
				tx.TouchThread(keys[0])
				tx.Threads([]uuid.UUID{tx.InsertThread(1, nil, nil)}, &threads)
				return tx.Send(t.Context())
			}))
		}
	}
	rows, err := s.db.DB.QueryContext(ctx, `SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements WHERE custom_plans + generic_plans >= $1`, asked)
	require.NoError(t, err)
	defer rows.Close()
	seen := 0
	for rows.Next() {
		var text string
		var custom, generic int
		require.NoError(t, rows.Scan(&text, &custom, &generic))
		require.LessOrEqual(t, custom, 5, "%s: planned anew %d times of %d", text, custom, custom+generic)
		seen++
	}
	require.NoError(t, rows.Err())
	require.Greater(t, seen, 10)
}
