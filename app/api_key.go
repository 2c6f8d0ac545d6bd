package app

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// maxKeys is how many keys of one user are good at once.
const maxKeys = 100

// CreateAPIKey makes a key for the viewer's programs. The answer is the only place where it is shown: a repeated call knows the key, and no longer its token.
func (a *App) CreateAPIKey(ctx context.Context, input models.CreateAPIKeyInput) (*models.CreateAPIKeyPayload, error) {
	var shown string
	var rows []*models.APIKey
	wrong, err := perform(ctx, a, call{"createApiKey", person, input.IdempotencyKey, input}, func(k *checks) {
		k.name("name", input.Name, maxName)
		k.metadata(input.Metadata)
		if len(input.Permissions) == 0 {
			k.wrong("permissions", "a key that may do nothing is of no use")
		}
		if len(input.Permissions) > len(models.Permissions()) {
			k.wrong("permissions", "give each permission once")
		}
		if input.ExpiresAt != nil && !input.ExpiresAt.After(time.Now()) {
			k.wrong("expiresAt", "must be in the future")
		}
	}, func(tx *store.Tx, viewer models.Viewer) (uuid.UUID, error) {
		if slices.Contains(input.Permissions, models.PermissionAdmin) && !viewer.Superuser {
			return uuid.Nil, models.Errorf(models.Forbidden, "only superusers have keys with the permission ADMIN")
		}
		n, err := tx.CountUsableAPIKeys(ctx, viewer.UserID)
		if err != nil {
			return uuid.Nil, err
		}
		if n >= maxKeys {
			return uuid.Nil, models.Errorf(models.Conflict, "there are %d keys already: revoke one first", n)
		}
		token := models.NewAPIKeyToken()
		shown = token.String()
		tx.On(models.KindAPIKey, token.ID.String())
		tx.InsertAPIKey(viewer.UserID, token, input)
		return token.ID, nil
	}, func(tx *store.Tx, id uuid.UUID) error {
		tx.APIKeys([]uuid.UUID{id}, &rows)
		return nil
	})
	payload := &models.CreateAPIKeyPayload{APIKey: one(rows), UserErrors: wrong}
	if err == nil && len(wrong) == 0 && shown != "" {
		payload.Token = &shown
	}
	return payload, err
}

// RevokeAPIKey makes a key useless for good; within two seconds on every replica. One that is revoked already stays so.
func (a *App) RevokeAPIKey(ctx context.Context, input models.RevokeAPIKeyInput) (*models.RevokeAPIKeyPayload, error) {
	var id uuid.UUID
	var rows []*models.APIKey
	wrong, err := perform(ctx, a, call{"revokeApiKey", person, input.IdempotencyKey, input}, func(k *checks) {
		id = k.about("id", models.KindAPIKey, input.ID)
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		return id, tx.RevokeAPIKey(ctx, id)
	}, func(tx *store.Tx, id uuid.UUID) error {
		tx.APIKeys([]uuid.UUID{id}, &rows)
		return nil
	})
	return &models.RevokeAPIKeyPayload{APIKey: one(rows), UserErrors: wrong}, err
}
