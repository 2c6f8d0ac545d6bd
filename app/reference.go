package app

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// UpdateReference edits what is known of a reference; its content stays what was uploaded.
func (a *App) UpdateReference(ctx context.Context, input models.UpdateReferenceInput) (*models.UpdateReferencePayload, error) {
	var id uuid.UUID
	var rows []*models.Reference
	wrong, err := perform(ctx, a, call{"updateReference", writer, input.IdempotencyKey, input}, func(k *checks) {
		id = k.about("id", models.KindReference, input.ID)
		k.kept("name", input.Name, maxName)
		k.metadata(input.Metadata.Value())
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		version, err := tx.LockReference(ctx, id)
		if err != nil {
			return id, err
		}
		if err := expect(input.ExpectedVersion, version, models.KindReference); err != nil {
			return id, err
		}
		tx.UpdateReference(id, input)
		return id, nil
	}, func(tx *store.Tx, id uuid.UUID) error {
		tx.References([]uuid.UUID{id}, &rows)
		return nil
	})
	return &models.UpdateReferencePayload{Reference: one(rows), UserErrors: wrong}, err
}

// DeleteReference deletes a reference for good.
func (a *App) DeleteReference(ctx context.Context, input models.DeleteReferenceInput) (*models.DeleteReferencePayload, error) {
	var id uuid.UUID
	wrong, err := perform(ctx, a, call{"deleteReference", writer, input.IdempotencyKey, input}, func(k *checks) {
		id = k.about("id", models.KindReference, input.ID)
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		if _, err := tx.LockReference(ctx, id); err != nil {
			return id, err
		}
		tx.DeleteReference(id)
		return id, nil
	}, func(*store.Tx, uuid.UUID) error { return nil })
	a.files.collectSoon()
	payload := &models.DeleteReferencePayload{UserErrors: wrong}
	if len(wrong) == 0 {
		payload.DeletedID = &input.ID
	}
	return payload, err
}
