package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// APIKeys reads those of ids that the viewer may see, with all their columns but the hash, in any order: into is set when a later statement has been answered, or at the end.
func (t *Tx) APIKeys(ids []uuid.UUID, into *[]*models.APIKey) {
	laterByID(t, into, apiKeys, ids, "uuid")
}

// CountUsableAPIKeys is how many keys of a user are good now. It locks the user until the transaction ends, so that of those who count to add one key more each
// sees what the one before has added.
func (t *Tx) CountUsableAPIKeys(ctx context.Context, userID int) (int, error) {
	t.later("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", userID)
	counted, err := rowOf[struct{ N int }](ctx, t, models.KindAPIKey, "SELECT count(*) AS n FROM api_keys WHERE user_id = $1 AND is_active AND (expires_at IS NULL OR expires_at > now())", userID)
	return counted.N, err
}

// InsertAPIKey keeps a key of a user.
func (t *Tx) InsertAPIKey(userID int, token models.APIKeyToken, input models.CreateAPIKeyInput) {
	permissions := make([]string, len(input.Permissions))
	for i, p := range input.Permissions {
		permissions[i] = string(p)
	}
	t.later(`INSERT INTO api_keys (id, user_id, name, key_hash, permissions, expires_at, metadata) VALUES ($1, $2, $3, $4, $5::text[], $6, coalesce($7::text::jsonb, '{}'))`,
		token.ID, userID, input.Name, token.Hash(), permissions, input.ExpiresAt, input.Metadata)
}

// RevokeAPIKey makes a key useless for good. It fails with NotFound.
func (t *Tx) RevokeAPIKey(ctx context.Context, id uuid.UUID) error {
	found, err := t.exists(ctx, "UPDATE api_keys SET is_active = false WHERE id = $1 RETURNING 1", id)
	if err == nil && !found {
		err = models.Errorf(models.NotFound, "no such %s", models.KindAPIKey)
	}
	return err
}
