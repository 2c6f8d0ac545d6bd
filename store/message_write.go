package store

import (
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// InsertMessage says something in a thread that the caller has locked.
func (t *Tx) InsertMessage(m *models.Message) uuid.UUID {
	id := uuid.New()
	t.later(`INSERT INTO messages (id, thread_id, role, content, tokens_used, model, metadata, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, coalesce($7::text::jsonb, '{}'), clock_timestamp())`,
		id, m.ThreadID, string(m.Role), m.Content, m.TokensUsed, m.Model, m.Metadata)
	return id
}

// Messages reads those of ids that the viewer may see, with all their columns, in any order: into is set when a later statement has been answered, or at the end.
func (t *Tx) Messages(ids []uuid.UUID, into *[]*models.Message) {
	laterByID(t, into, messages, ids, "uuid")
}
