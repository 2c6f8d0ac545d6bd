package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Threads reads those of ids that the viewer may see, with all their columns, in any order: into is set when a later statement has been answered, or at the end.
func (t *Tx) Threads(ids []uuid.UUID, into *[]*models.Thread) {
	laterByID(t, into, threads, ids, "uuid")
}

// LockThreads is Threads, without wide columns, for a change: nobody else changes them until the transaction ends.
func (t *Tx) LockThreads(ctx context.Context, ids []uuid.UUID) ([]*models.Thread, error) {
	q := threads.byID(ids, "uuid", nil)
	return rowsOf[*models.Thread](ctx, t, q.String()+" ORDER BY id FOR NO KEY UPDATE", q.args...)
}

// LockThread is LockThreads for one. It fails with NotFound.
func (t *Tx) LockThread(ctx context.Context, id uuid.UUID) (*models.Thread, error) {
	return rowOf[*models.Thread](ctx, t, models.KindThread, "SELECT "+threads.columns(nil)+" FROM threads WHERE id = $1 FOR NO KEY UPDATE", id)
}

// InsertThread begins a thread of a user.
func (t *Tx) InsertThread(userID int, title *string, metadata models.JSON) uuid.UUID {
	id := uuid.New()
	t.later("INSERT INTO threads (id, user_id, title, metadata) VALUES ($1, $2, $3, coalesce($4::text::jsonb, '{}'))", id, userID, title, metadata)
	return id
}

// UpdateThread edits a thread.
func (t *Tx) UpdateThread(id uuid.UUID, input models.UpdateThreadInput) {
	c := new(changes)
	if title, ok := input.Title.ValueOK(); ok {
		c.set("title", title, "::text")
	}
	if metadata, ok := input.Metadata.ValueOK(); ok {
		c.set("metadata", metadata, "::text::jsonb")
	}
	c.update(t, "threads", id, "::uuid")
}

// SetThreadStatus moves threads.
func (t *Tx) SetThreadStatus(ids []uuid.UUID, status models.ThreadStatus) {
	t.later("UPDATE threads SET status = $2 WHERE id = ANY((SELECT $1::uuid[])::uuid[])", ids, string(status))
}

// TouchThread notes that something happened in a thread.
func (t *Tx) TouchThread(id uuid.UUID) {
	t.later("UPDATE threads SET updated_at = DEFAULT WHERE id = $1", id)
}

// PurgeThread deletes a thread with its messages for good; its runs stay, without a thread.
func (t *Tx) PurgeThread(id uuid.UUID) {
	t.later("DELETE FROM threads WHERE id = $1", id)
}
