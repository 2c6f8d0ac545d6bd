package store

import (
	"context"

	"github.com/netra-ai/netra/models"
)

// Users reads those of ids that the viewer may see, with all their columns, in any order: into is set when a later statement has been answered, or at the end.
func (t *Tx) Users(ids []int, into *[]*models.User) {
	laterByID(t, into, users, ids, "int")
}

// UpdateProfile edits what a user says of themselves.
func (t *Tx) UpdateProfile(userID int, input models.UpdateProfileInput) {
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
	c.update(t, "users", userID, "::int")
}

// SetUserActive opens or closes an account. It fails with NotFound.
func (t *Tx) SetUserActive(ctx context.Context, userID int, active bool) error {
	found, err := t.exists(ctx, "UPDATE users SET is_active = $2 WHERE id = $1 RETURNING 1", userID, active)
	if err == nil && !found {
		err = models.Errorf(models.NotFound, "no such %s", models.KindUser)
	}
	return err
}
