package store

import (
	"context"

	"github.com/netra-ai/netra/models"
)

// Users are those of ids that the viewer may see, with all their columns, in any order.
func (t *Tx) Users(ctx context.Context, ids []int) ([]*models.User, error) {
	return rowsOf[*models.User](ctx, t, "SELECT "+users.all()+" FROM users WHERE id = ANY($1::int[])", ids)
}

// UpdateProfile edits what a user says of themselves.
func (t *Tx) UpdateProfile(ctx context.Context, userID int, input models.UpdateProfileInput) error {
	c := new(changes)
	if name, ok := input.Name.ValueOK(); ok {
		c.set("name", name, "::text")
	}
	if picture, ok := input.Picture.ValueOK(); ok {
		c.set("picture", picture, "::text")
	}
	if metadata, ok := input.Metadata.ValueOK(); ok {
		c.set("metadata", metadata, "::text::jsonb")
	}
	return c.update(ctx, t, "users", userID, "::int")
}

// SetUserActive opens or closes an account. It fails with NotFound.
func (t *Tx) SetUserActive(ctx context.Context, userID int, active bool) error {
	found, err := t.exists(ctx, "UPDATE users SET is_active = $2 WHERE id = $1 RETURNING 1", userID, active)
	if err == nil && !found {
		err = models.Errorf(models.NotFound, "no such %s", models.KindUser)
	}
	return err
}
