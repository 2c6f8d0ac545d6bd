package store

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Threads are those of ids that the viewer may see, in any order.
func (s *Store) Threads(ctx context.Context, ids []uuid.UUID, selected Fields) ([]*models.Thread, error) {
	q := threads.byID(ids, "uuid", selected)
	return query[*models.Thread](ctx, s, q)
}

// ThreadsOfUsers is one page for each user: its rows in the page's order, with one row more where the list goes on.
func (s *Store) ThreadsOfUsers(ctx context.Context, userIDs []int, page models.Page, filter *models.ThreadFilter, selected Fields) ([]*models.Thread, error) {
	q := threadsOfUser.pages(ctx, userIDs, page, selected, threadFilter(filter))
	return query[*models.Thread](ctx, s, q)
}

// CountThreadsOfUsers is how many each user has.
func (s *Store) CountThreadsOfUsers(ctx context.Context, userIDs []int, filter *models.ThreadFilter) (map[int]int, error) {
	return count[int](ctx, s, threadsOfUser.counts(ctx, userIDs, threadFilter(filter)))
}

func threadFilter(f *models.ThreadFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		if f.Status != nil { // usually the schema's default, which nearly all meet: no reason to plan anew
			if !slices.Contains(f.Status, models.ThreadActive) {
				s.rows = 0
			}
			s.WriteString(" AND status = ANY(" + s.keys(textsOf(f.Status), "text") + ")")
		}
		s.within("created_at", f.CreatedAt)
		s.within("updated_at", f.UpdatedAt)
		s.containing("metadata", f.Metadata)
	}
}
