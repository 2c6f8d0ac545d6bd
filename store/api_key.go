package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// The hash is not among the columns: netra_app may not even select it.
var (
	apiKeys = table{"api_keys",
		"id, user_id, name, last_used_at, expires_at, is_active, created_at, permissions",
		[]wide{{"metadata", "metadata"}}}
	apiKeysOfUser = child{apiKeys, (*statement).users, ofUser}
)

// APIKeys are those of ids that the viewer may see, in any order.
func (s *Store) APIKeys(ctx context.Context, ids []uuid.UUID, selected Fields) ([]*models.APIKey, error) {
	q := apiKeys.byID(ids, "uuid", selected)
	return query[*models.APIKey](ctx, s, q)
}

// APIKeysOfUsers is one page for each user: its rows in the page's order, with one row more where the list goes on.
func (s *Store) APIKeysOfUsers(ctx context.Context, userIDs []int, page models.Page, filter *models.APIKeyFilter, selected Fields) ([]*models.APIKey, error) {
	q := apiKeysOfUser.pages(ctx, userIDs, page, selected, apiKeyFilter(filter))
	return query[*models.APIKey](ctx, s, q)
}

// CountAPIKeysOfUsers is how many each user has.
func (s *Store) CountAPIKeysOfUsers(ctx context.Context, userIDs []int, filter *models.APIKeyFilter) (map[int]int, error) {
	return count[int](ctx, s, apiKeysOfUser.counts(ctx, userIDs, apiKeyFilter(filter)))
}

func apiKeyFilter(f *models.APIKeyFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		if f.IsActive != nil {
			s.and("is_active", "=", *f.IsActive, "::boolean")
		}
		s.within("created_at", f.CreatedAt)
		s.containing("metadata", f.Metadata)
	}
}
