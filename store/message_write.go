package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// InsertMessage says something in a thread that the caller has locked.
func (t *Tx) InsertMessage(ctx context.Context, m *models.Message) (uuid.UUID, error) {
	return t.insert(ctx, `INSERT INTO messages (thread_id, role, content, tokens_used, model, metadata, created_at)
		VALUES ($1, $2, $3, $4, $5, coalesce($6::text::jsonb, '{}'), clock_timestamp()) RETURNING id`,
		m.ThreadID, string(m.Role), m.Content, m.TokensUsed, m.Model, m.Metadata)
}

// Messages are those of ids that the viewer may see, with all their columns, in any order.
func (t *Tx) Messages(ctx context.Context, ids []uuid.UUID) ([]*models.Message, error) {
	return rowsOf[*models.Message](ctx, t, "SELECT "+messages.all()+" FROM messages WHERE id = ANY($1::uuid[])", ids)
}
