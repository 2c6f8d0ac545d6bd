package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// The journal of objects is bookkeeping beside the tenants' data and not in the audit log: what becomes of references is.

// BeginObject notes an object before its first byte is written. When the reference that it is for is not made within lease, the object is an orphan.
func (s *Store) BeginObject(ctx context.Context, userID int, path string, lease time.Duration) error {
	return s.exec(ctx, "INSERT INTO objects (path, user_id, collect_after) VALUES ($1, $2, now() + make_interval(secs => $3))", path, userID, lease.Seconds())
}

// DropObject makes an orphan of an object that no reference names, and leaves another as it is.
func (s *Store) DropObject(ctx context.Context, path string) error {
	return s.exec(ctx, "UPDATE objects SET collect_after = now() WHERE path = $1 AND collect_after IS NOT NULL", path)
}

// claim is how long one who deletes orphans has for it, before another may try.
const claim = "5 minutes"

// ClaimOrphans is at most limit objects that nobody uses, of all tenants whom the viewer may see; for some minutes nobody else is given them. Objects that are named
// by a reference of others are taken off the list.
func (s *Store) ClaimOrphans(ctx context.Context, limit int) ([]string, error) {
	rows, err := query[*struct{ Path string }](ctx, s, fixed(`WITH due AS (
			SELECT path FROM objects WHERE collect_after <= now() ORDER BY collect_after LIMIT $1::int FOR UPDATE SKIP LOCKED)
		UPDATE objects o SET collect_after = CASE WHEN r.named THEN NULL ELSE now() + interval '`+claim+`' END
		FROM due CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM "references" WHERE file_path = due.path) AS named) AS r
		WHERE o.path = due.path
		RETURNING CASE WHEN r.named THEN '' ELSE o.path END AS path`, limit))
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, row := range rows {
		if row.Path != "" {
			paths = append(paths, row.Path)
		}
	}
	return paths, nil
}

// ForgetObjects removes objects from the journal that have been deleted.
func (s *Store) ForgetObjects(ctx context.Context, paths []string) error {
	return s.exec(ctx, "DELETE FROM objects WHERE path = ANY($1::text[])", paths)
}

// ExpirePendingUploads deletes uploads that expired longer ago than age: nobody is sending them any more.
func (s *Store) ExpirePendingUploads(ctx context.Context, age time.Duration) error {
	return s.exec(ctx, "DELETE FROM pending_uploads WHERE expires_at < now() - make_interval(secs => $1)", age.Seconds())
}

// PendingUpload is an upload of the viewer's. It fails with NotFound.
func (s *Store) PendingUpload(ctx context.Context, id uuid.UUID) (*models.PendingUpload, error) {
	found, err := query[*models.PendingUpload](ctx, s, fixed("SELECT "+pendingUploadColumns+" FROM pending_uploads WHERE id = $1", id))
	if err == nil && len(found) == 0 {
		err = models.Errorf(models.NotFound, "no such upload")
	}
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

const pendingUploadColumns = "id, user_id, name, type, mime_type, file_size, metadata, expires_at, completed_at"

// StoredFile is where the file of a reference is that the viewer may see: an object of the tenant's own, and not just any path that somebody wrote there.
// It fails with NotFound.
func (s *Store) StoredFile(ctx context.Context, referenceID uuid.UUID) (*models.StoredFile, error) {
	found, err := query[*models.StoredFile](ctx, s, fixed(`SELECT r.file_path, r.name, r.mime_type, r.checksum, r.created_at FROM "references" r
		JOIN objects o ON o.path = r.file_path AND o.user_id = r.user_id AND o.collect_after IS NULL
		WHERE r.id = $1 AND r.checksum IS NOT NULL`, referenceID))
	if err == nil && len(found) == 0 {
		err = models.Errorf(models.NotFound, "there is no such file")
	}
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

func (s *Store) exec(ctx context.Context, text string, args ...any) error {
	_, err := s.db.DB.ExecContext(ctx, text, args...)
	return translate(ctx, err)
}
