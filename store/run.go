package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Runs are those of ids that the viewer may see, in any order.
func (s *Store) Runs(ctx context.Context, ids []uuid.UUID, selected Fields) ([]*models.Run, error) {
	q := runs.byID(ids, "uuid", selected)
	return query[*models.Run](ctx, s, q)
}

// RunsOfUsers is one page for each user: its rows in the page's order, with one row more where the list goes on.
func (s *Store) RunsOfUsers(ctx context.Context, userIDs []int, page models.Page, filter *models.RunFilter, selected Fields) ([]*models.Run, error) {
	q := runsOfUser.pages(ctx, userIDs, page, selected, runFilter(filter))
	return query[*models.Run](ctx, s, q)
}

// CountRunsOfUsers is how many each user has.
func (s *Store) CountRunsOfUsers(ctx context.Context, userIDs []int, filter *models.RunFilter) (map[int]int, error) {
	return count[int](ctx, s, runsOfUser.counts(ctx, userIDs, runFilter(filter)))
}

// RunsOfThreads is one page for each thread: its rows in the page's order, with one row more where the list goes on.
func (s *Store) RunsOfThreads(ctx context.Context, threadIDs []uuid.UUID, page models.Page, filter *models.RunFilter, selected Fields) ([]*models.Run, error) {
	q := runsOfThread.pages(ctx, threadIDs, page, selected, runFilter(filter))
	return query[*models.Run](ctx, s, q)
}

// CountRunsOfThreads is how many each thread has.
func (s *Store) CountRunsOfThreads(ctx context.Context, threadIDs []uuid.UUID, filter *models.RunFilter) (map[uuid.UUID]int, error) {
	return count[uuid.UUID](ctx, s, runsOfThread.counts(ctx, threadIDs, runFilter(filter)))
}

// RunIDsOfThreads maps the id of each run of the threads to its thread's.
func (s *Store) RunIDsOfThreads(ctx context.Context, threadIDs []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	q := new(statement)
	q.WriteString("SELECT id, thread_id FROM " + q.threads(ctx, threadIDs) + " JOIN runs ON " + ofThread)
	rows, err := s.db.DB.QueryContext(ctx, q.String(), q.args...)
	if err != nil {
		return nil, translate(ctx, err)
	}
	defer rows.Close()
	threads := map[uuid.UUID]uuid.UUID{}
	for rows.Next() {
		var run, thread uuid.UUID
		if err := rows.Scan(&run, &thread); err != nil {
			return nil, translate(ctx, err)
		}
		threads[run] = thread
	}
	return threads, translate(ctx, rows.Err())
}

func runFilter(f *models.RunFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		anyOf(s, "status", f.Status)
		anyOf(s, "agent_type", f.AgentType)
		s.within("created_at", f.CreatedAt)
		s.containing("metadata", f.Metadata)
	}
}
