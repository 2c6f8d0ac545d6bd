package store

import (
	"context"

	"github.com/netra-ai/netra/models"
)

// Users are those of ids that the viewer may see, in any order.
func (s *Store) Users(ctx context.Context, ids []int, selected Fields) ([]*models.User, error) {
	q := users.byID(ids, "int", selected)
	return query[*models.User](ctx, s, q)
}

// ListUsers is a page of all the users that the viewer may see, with one row more where the list goes on.
func (s *Store) ListUsers(ctx context.Context, page models.Page, filter *models.UserFilter, selected Fields) ([]*models.User, error) {
	q := new(statement)
	q.WriteString("SELECT " + users.columns(selected) + " FROM users WHERE true")
	userFilter(filter)(q)
	q.page(page)
	return query[*models.User](ctx, s, q)
}

// CountUsers is the length of the list that ListUsers pages through.
func (s *Store) CountUsers(ctx context.Context, filter *models.UserFilter) (int, error) {
	q := new(statement)
	q.WriteString("SELECT count(*) FROM users WHERE true")
	userFilter(filter)(q)
	return s.number(ctx, q)
}

func userFilter(f *models.UserFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		if f.IsActive != nil {
			s.and("is_active", "=", *f.IsActive, "::boolean")
		}
		if f.IsSuperuser != nil {
			s.and("is_superuser", "=", *f.IsSuperuser, "::boolean")
		}
		anyOf(s, "email", f.Email)
		s.within("created_at", f.CreatedAt)
		s.containing("metadata", f.Metadata)
	}
}
