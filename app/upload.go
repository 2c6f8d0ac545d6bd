package app

import (
	"cmp"
	"context"
	"mime"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/objects"
	"github.com/netra-ai/netra/store"
)

// CreateUpload announces a file and says where to send it.
func (a *App) CreateUpload(ctx context.Context, input models.CreateUploadInput) (*models.CreateUploadPayload, error) {
	payload := new(models.CreateUploadPayload)
	var err error
	payload.UserErrors, err = perform(ctx, a, call{"createUpload", writer, input.IdempotencyKey, input}, func(k *checks) {
		k.name("name", input.Name, maxName)
		if input.MimeType != nil {
			if kind, _, err := mime.ParseMediaType(*input.MimeType); err != nil || !strings.Contains(kind, "/") || len(*input.MimeType) > maxName {
				k.wrong("mimeType", "is not a media type such as text/csv")
			} else if objects.Hopeless(kind, a.files.types) {
				k.fail(models.Errorf(models.UnsupportedMediaType, "files of type %s are not taken", kind), "mimeType")
			}
		}
		switch {
		case input.Size == nil:
		case *input.Size < 0:
			k.wrong("size", "must not be negative")
		case *input.Size > a.files.limit:
			k.fail(objects.TooLarge(a.files.limit), "size")
		}
		k.metadata(input.Metadata)
	}, func(tx *store.Tx, viewer models.Viewer) (uuid.UUID, error) {
		id := tx.InsertPendingUpload(viewer.UserID, input, uploadLinkAge)
		tx.On(models.KindReference, id.String())
		return id, nil
	}, func(tx *store.Tx, id uuid.UUID) error {
		viewer, err := models.ViewerFrom(ctx)
		if err != nil {
			return err
		}
		if payload.Upload, err = tx.PendingUpload(ctx, id); err != nil {
			return err
		}
		if payload.Upload.ExpiresAt.Before(time.Now()) {
			payload.Upload = nil
			return ofArgument("idempotencyKey", models.Errorf(models.Conflict, "the upload that this idempotency key stands for has expired: use another key"))
		}
		return a.files.offer(viewer, payload.Upload)
	})
	return payload, err
}

// CreateReference makes a reference of a file that came with the request.
func (a *App) CreateReference(ctx context.Context, input models.CreateReferenceInput) (*models.CreateReferencePayload, error) {
	var rows []*models.Reference
	name := cmp.Or(deref(input.Name), input.File.Name)
	wrong, err := perform(ctx, a, call{"createReference", writer, input.IdempotencyKey, input}, func(k *checks) {
		k.name("name", name, maxName)
		k.metadata(input.Metadata)
	}, func(tx *store.Tx, viewer models.Viewer) (uuid.UUID, error) {
		made := &models.Reference{DatabaseID: uuid.New(), UserID: viewer.UserID, Name: name, Type: input.Type, Metadata: input.Metadata}
		if err := makeReference(ctx, tx, made, &input.File); err != nil {
			return uuid.Nil, err
		}
		tx.On(models.KindReference, made.DatabaseID.String())
		return made.DatabaseID, nil
	}, func(tx *store.Tx, id uuid.UUID) error {
		tx.References([]uuid.UUID{id}, &rows)
		return nil
	})
	return &models.CreateReferencePayload{Reference: one(rows), UserErrors: wrong}, err
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
