package store

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
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
	ctx, superuser := as(t, models.Viewer{UserID: 1}), as(t, models.Viewer{UserID: 2, Superuser: true})
	page := models.Page{Limit: 5, Order: models.Order{Column: "created_at"}}
	activity := models.Page{Limit: 5, Order: models.Order{Column: "at", Descending: true}}
	both := []models.ThreadStatus{models.ThreadActive, models.ThreadArchived}
	read := func(_ any, err error) { require.NoError(t, err) }
	const asked = 12
	for round := range asked {
		for n := range len(ids) {
			keys := ids[:n+1]
			read(s.Threads(ctx, keys, nil))
			read(s.Users(ctx, []int{1}, nil))
			read(s.ThreadsOfUsers(ctx, []int{1}, page, &models.ThreadFilter{Status: both[:1+n%2]}, nil))
			read(s.CountThreadsOfUsers(ctx, []int{1}, &models.ThreadFilter{Status: both[:1+n%2]}))
			for _, ctx := range []context.Context{ctx, superuser} {
				read(s.MessagesOfThreads(ctx, keys, page, nil, nil))
				read(s.CountMessagesOfThreads(ctx, keys, nil))
				read(s.RunsOfThreads(ctx, keys, page, nil, nil))
				read(s.CountRunsOfThreads(ctx, keys, nil))
				read(s.RunIDsOfThreads(ctx, keys))
				read(s.ActivityOfThreads(ctx, keys, activity))
				read(s.CountActivityOfThreads(ctx, keys))
				read(s.LatestMessage(ctx, keys[0], 0))
			}
			read(s.RunsOfUsers(ctx, []int{1}, page, nil, nil))
			read(s.Runs(ctx, keys, nil))
			read(s.CountRunsOfUsers(ctx, []int{1}, nil))
			read(s.AuditLogsOfUsers(ctx, []int{1}, page, nil, nil))
			read(s.ListUsers(ctx, page, nil, nil))
			read(s.ListSupplyItems(ctx, page, nil, nil))
			read(s.APIKeysOfUsers(ctx, []int{1}, page, nil, nil))
			read(s.ReferencesOfUsers(ctx, []int{1}, page, nil, nil))
			read(s.SupplyItemsOfUsers(ctx, []int{1}, page, nil, nil))
			require.NoError(t, s.Write(ctx, "test", func(tx *Tx) error {
				var threads []*models.Thread
				tx.SetThreadStatus(keys, models.ThreadActive)
				if _, err := tx.LockThreads(t.Context(), keys); err != nil {
					return err
				}
				tx.TouchThread(keys[0])
				var messages []*models.Message
				tx.Messages([]uuid.UUID{tx.InsertMessage(&models.Message{ThreadID: keys[0], Role: models.RoleUser, Content: "hello"})}, &messages)
				var runs []*models.Run
				run := tx.InsertRun(&models.Run{ThreadID: &keys[0], UserID: 1, InputData: models.JSON("{}")})
				if _, err := tx.AdvanceRuns(t.Context(), []uuid.UUID{run}, RunStep{Status: models.RunProcessing}); err != nil {
					return err
				}
				tx.Runs([]uuid.UUID{run}, &runs)
				key := sha256.Sum256(fmt.Append(nil, round, n))
				if _, _, err := tx.Claim(t.Context(), "test", key, key); err != nil {
					return err
				}
				tx.Answer("test", key, []byte("{}"))
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

// TestPlans_FindWhatIsInThreadsByWhoseItIs is for one user's many threads among many users', and for a thread that is nearly all that a user has.
func TestPlans_FindWhatIsInThreadsByWhoseItIs(t *testing.T) {
	t.Parallel()
	s, db := setup(t)
	owner := db.Owner(t)
	_, err := owner.ExecContext(t.Context(), `
		INSERT INTO users (id, email) SELECT n, n || '@example.com' FROM generate_series(10, 110) n;
		INSERT INTO threads (id, user_id) SELECT md5('thread' || n)::uuid, 10 + n % 100 FROM generate_series(1, 2000) n;
		INSERT INTO messages (thread_id, role, content) SELECT id, 'user', 'hello' FROM threads, generate_series(1, 5);
		INSERT INTO messages (thread_id, role, content) SELECT md5('thread1')::uuid, 'user', 'hello' FROM generate_series(1, 10000);
		INSERT INTO runs (thread_id, user_id, input_data) SELECT id, user_id, '{}' FROM threads, generate_series(1, 5);`)
	require.NoError(t, err)
	_, err = owner.ExecContext(t.Context(), "VACUUM (ANALYZE) messages, runs, threads")
	require.NoError(t, err)
	large, small := uuid.UUID(md5.Sum([]byte("thread1"))), uuid.UUID(md5.Sum([]byte("thread101")))
	oldest := models.Page{Limit: 20, Order: models.Order{Column: "created_at"}}
	newest := models.Page{Limit: 20, Order: models.Order{Column: "created_at", Descending: true}}
	for name, viewer := range map[string]models.Viewer{"owner": {UserID: 11}, "superuser": {UserID: 2, Superuser: true}} {
		ctx := as(t, viewer)
		for _, threads := range [][]uuid.UUID{{large}, {small}, {large, small}} {
			for index, statements := range map[string][]*statement{
				"idx_messages_user_id_thread_id_created_at_id": {
					messagesOfThread.pages(ctx, threads, oldest, Fields{"content"}, messageFilter(nil)),
					messagesOfThread.pages(ctx, threads, newest, Fields{"content"}, messageFilter(nil)),
					messagesOfThread.counts(ctx, threads, messageFilter(nil)),
				},
				"idx_runs_user_id_thread_id_created_at_id_with_summary": {
					runsOfThread.pages(ctx, threads, newest, Fields{"agentType"}, runFilter(nil)),
					runsOfThread.counts(ctx, threads, runFilter(nil)),
				},
			} {
				for _, q := range statements {
					require.Regexp(t, `(?s)Index (Only )?Scan (Backward )?using `+index+` .*Index Cond: \(\(user_id = .*\) AND \(thread_id = `, explain(t, s, ctx, q), "%s: %s", name, q)
				}
			}
		}
	}
}

func explain(t *testing.T, s *Store, ctx context.Context, q *statement) (plan string) {
	t.Helper()
	rows, err := s.db.DB.QueryContext(ctx, "EXPLAIN "+q.String(), q.args...)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan += line + "\n"
	}
	require.NoError(t, rows.Err())
	return plan
}
