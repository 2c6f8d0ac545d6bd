package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Threads are those of ids that the viewer may see, with all their columns, in any order.
func (t *Tx) Threads(ctx context.Context, ids []uuid.UUID) ([]*models.Thread, error) {
	return rowsOf[*models.Thread](ctx, t, "SELECT "+threads.all()+" FROM threads WHERE id = ANY($1::uuid[])", ids)
}

// LockThreads is Threads, without wide columns, for a change: nobody else changes them until the transaction ends.
func (t *Tx) LockThreads(ctx context.Context, ids []uuid.UUID) ([]*models.Thread, error) {
	return rowsOf[*models.Thread](ctx, t, "SELECT "+threads.columns(nil)+" FROM threads WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE", ids)
}

// LockThread is LockThreads for one. It fails with NotFound.
func (t *Tx) LockThread(ctx context.Context, id uuid.UUID) (*models.Thread, error) {
	return rowOf[*models.Thread](ctx, t, models.KindThread, "SELECT "+threads.columns(nil)+" FROM threads WHERE id = $1 FOR NO KEY UPDATE", id)
}

// InsertThread begins a thread of a user.
func (t *Tx) InsertThread(ctx context.Context, userID int, title *string, metadata models.JSON) (uuid.UUID, error) {
	return t.insert(ctx, "INSERT INTO threads (user_id, title, metadata) VALUES ($1, $2, coalesce($3::text::jsonb, '{}')) RETURNING id", userID, title, metadata)
}

// UpdateThread edits a thread.
func (t *Tx) UpdateThread(ctx context.Context, id uuid.UUID, input models.UpdateThreadInput) error {
	c := new(changes)
	if title, ok := input.Title.ValueOK(); ok {
		c.set("title", title, "::text")
	}
	if metadata, ok := input.Metadata.ValueOK(); ok {
		c.set("metadata", metadata, "::text::jsonb")
	}
	return c.update(ctx, t, "threads", id, "::uuid")
}

// SetThreadStatus moves threads.
func (t *Tx) SetThreadStatus(ctx context.Context, ids []uuid.UUID, status models.ThreadStatus) error {
	return t.exec(ctx, "UPDATE threads SET status = $2 WHERE id = ANY($1::uuid[])", ids, string(status))
}

// TouchThread notes that something happened in a thread.
func (t *Tx) TouchThread(ctx context.Context, id uuid.UUID) error {
	return t.exec(ctx, "UPDATE threads SET updated_at = DEFAULT WHERE id = $1", id)
}

// PurgeThread deletes a thread with its messages for good; its runs stay, without a thread.
func (t *Tx) PurgeThread(ctx context.Context, id uuid.UUID) error {
	return t.exec(ctx, "DELETE FROM threads WHERE id = $1", id)
}

// insert runs an INSERT that returns its row's id.
func (t *Tx) insert(ctx context.Context, text string, args ...any) (id uuid.UUID, err error) {
	err = t.tx.QueryRowContext(ctx, text, args...).Scan(&id)
	return id, translate(ctx, err)
}
