package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Messages are those of ids that the viewer may see, in any order.
func (s *Store) Messages(ctx context.Context, ids []uuid.UUID, selected Fields) ([]*models.Message, error) {
	q := messages.byID(ids, "uuid", selected)
	return query[*models.Message](ctx, s, q)
}

// MessagesOfThreads is one page for each thread: its rows in the page's order, with one row more where the list goes on.
func (s *Store) MessagesOfThreads(ctx context.Context, threadIDs []uuid.UUID, page models.Page, filter *models.MessageFilter, selected Fields) ([]*models.Message, error) {
	q := messagesOfThread.pages(ctx, threadIDs, page, selected, messageFilter(filter))
	return query[*models.Message](ctx, s, q)
}

// CountMessagesOfThreads is how many each thread has.
func (s *Store) CountMessagesOfThreads(ctx context.Context, threadIDs []uuid.UUID, filter *models.MessageFilter) (map[uuid.UUID]int, error) {
	return count[uuid.UUID](ctx, s, messagesOfThread.counts(ctx, threadIDs, messageFilter(filter)))
}

func messageFilter(f *models.MessageFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		anyOf(s, "role", f.Role)
		anyOf(s, "model", f.Model)
		s.within("created_at", f.CreatedAt)
		s.containing("metadata", f.Metadata)
	}
}
