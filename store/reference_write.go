package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// References reads those of ids that the viewer may see, with all their columns, in any order: into is set when a later statement has been answered, or at the end.
func (t *Tx) References(ids []uuid.UUID, into *[]*models.Reference) {
	laterByID(t, into, references, ids, "uuid")
}

// LockReference is the version of a reference, which nobody else changes until the transaction ends. It fails with NotFound.
func (t *Tx) LockReference(ctx context.Context, id uuid.UUID) (version int, err error) {
	found, err := rowOf[struct{ Version int }](ctx, t, models.KindReference, `SELECT version FROM "references" WHERE id = $1 FOR UPDATE`, id)
	return found.Version, err
}

// UpdateReference edits what is known of a reference, not its content.
func (t *Tx) UpdateReference(id uuid.UUID, input models.UpdateReferenceInput) {
	c := new(changes)
	if name, ok := input.Name.ValueOK(); ok {
		c.set("name", name, "::text")
	}
	if input.Type != nil {
		c.set("type", string(*input.Type), "::text")
	}
	if metadata, ok := input.Metadata.ValueOK(); ok {
		c.set("metadata", metadata, "::text::jsonb")
	}
	c.update(t, `"references"`, id, "::uuid")
}

// DeleteReference deletes a reference for good; its file is an orphan from then on.
func (t *Tx) DeleteReference(id uuid.UUID) {
	t.later(`DELETE FROM "references" WHERE id = $1`, id)
}
