package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// InsertPendingUpload announces a file, which may begin to come within age.
func (t *Tx) InsertPendingUpload(userID int, input models.CreateUploadInput, age time.Duration) uuid.UUID {
	id := uuid.New()
	t.later(`INSERT INTO pending_uploads (id, user_id, name, type, mime_type, file_size, metadata, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, coalesce($7::text::jsonb, '{}'), now() + make_interval(secs => $8))`,
		id, userID, input.Name, string(input.Type), input.MimeType, input.Size, input.Metadata, age.Seconds())
	return id
}

// PendingUpload is an upload of the viewer's. It fails with NotFound.
func (t *Tx) PendingUpload(ctx context.Context, id uuid.UUID) (*models.PendingUpload, error) {
	return rowOf[*models.PendingUpload](ctx, t, models.KindReference, "SELECT "+pendingUploadColumns+" FROM pending_uploads WHERE id = $1", id)
}

// CompleteUpload takes an upload for the one who makes its reference; first is false for everybody else.
func (t *Tx) CompleteUpload(ctx context.Context, id uuid.UUID) (first bool, err error) {
	return t.exists(ctx, "UPDATE pending_uploads SET completed_at = now() WHERE id = $1 AND completed_at IS NULL RETURNING 1", id)
}

// UseObject takes an object off the list of orphans, for a reference that names it. It fails with Timeout when making the object took longer than its lease, and
// with Conflict when a reference has it already.
func (t *Tx) UseObject(ctx context.Context, path string, lease time.Duration) error {
	used, err := t.exists(ctx, `UPDATE objects SET collect_after = NULL
		WHERE path = $1 AND collect_after IS NOT NULL AND created_at > now() - make_interval(secs => $2) RETURNING 1`, path, lease.Seconds())
	if err == nil && !used {
		err = models.Errorf(models.Conflict, "this file has been used, or took too long to come")
	}
	return err
}

// InsertReference adds a reference without an embedding.
func (t *Tx) InsertReference(r *models.Reference) {
	t.later(`INSERT INTO "references" (id, user_id, name, type, content, file_path, file_size, mime_type, checksum, metadata)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10::text::jsonb, '{}'))`,
		r.DatabaseID, r.UserID, r.Name, string(r.Type), r.Content, r.FilePath, r.FileSize, r.MimeType, r.Checksum, r.Metadata)
}
