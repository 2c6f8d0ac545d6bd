package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

var (
	references = table{`"references"`,
		"id, user_id, name, type, file_path, file_size, mime_type, checksum, embedding IS NOT NULL AS has_embedding, embedding_model, embedding_error, embedded_at, created_at, updated_at, version",
		[]wide{{"content", "content"}, {"embedding", "embedding"}, {"embeddingStatus", embeddingStatus + " AS embedding_status"}, {"metadata", "metadata"}}}
	referencesOfUser = child{references, (*statement).users, ofUser}
)

// References are those of ids that the viewer may see, in any order.
func (s *Store) References(ctx context.Context, ids []uuid.UUID, selected Fields) ([]*models.Reference, error) {
	q := references.byID(ids, "uuid", selected)
	return query[*models.Reference](ctx, s, q)
}

// ReferencesOfUsers is one page for each user: its rows in the page's order, with one row more where the list goes on.
func (s *Store) ReferencesOfUsers(ctx context.Context, userIDs []int, page models.Page, filter *models.ReferenceFilter, selected Fields) ([]*models.Reference, error) {
	q := referencesOfUser.pages(ctx, userIDs, page, selected, referenceFilter(filter))
	return query[*models.Reference](ctx, s, q)
}

// CountReferencesOfUsers is how many each user has.
func (s *Store) CountReferencesOfUsers(ctx context.Context, userIDs []int, filter *models.ReferenceFilter) (map[int]int, error) {
	return count[int](ctx, s, referencesOfUser.counts(ctx, userIDs, referenceFilter(filter)))
}

func referenceFilter(f *models.ReferenceFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		anyOf(s, "type", f.Type)
		anyOf(s, "mime_type", f.MimeType)
		if f.HasEmbedding != nil {
			s.and("(embedding IS NOT NULL)", "=", *f.HasEmbedding, "::boolean")
		}
		anyOf(s, embeddingStatus, f.EmbeddingStatus)
		s.within("created_at", f.CreatedAt)
		s.within("updated_at", f.UpdatedAt)
		s.containing("metadata", f.Metadata)
	}
}
