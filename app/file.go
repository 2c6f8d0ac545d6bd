package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/objects"
	"github.com/netra-ai/netra/store"
)

const (
	maxReceiving = time.Hour     // to receive one file
	objectLease  = 2 * time.Hour // until an object that no reference names is an orphan: longer than it can take to make one
	dropTimeout  = 5 * time.Second
)

// Files are the verbs that move bytes: what is uploaded and downloaded beside the graph.
type Files struct {
	store  *store.Store
	bucket *objects.Bucket
	links  *links
	limit  int64
	types  []string
	log    *slog.Logger
	wake   chan struct{} // there may be orphans
}

// FilesConfig is what Files are made from.
type FilesConfig struct {
	Store  *store.Store
	Bucket *objects.Bucket
	Secret []byte       // signs links
	Limit  int64        // bytes of a file; 2 GiB unless set
	Types  []string     // media types that are taken; objects.DefaultTypes unless set
	Log    *slog.Logger // nil discards
}

// NewFiles makes Files.
func NewFiles(cfg FilesConfig) (*Files, error) {
	links, err := newLinks(cfg.Secret)
	if err != nil {
		return nil, err
	}
	f := &Files{store: cfg.Store, bucket: cfg.Bucket, links: links, limit: cmp.Or(cfg.Limit, 2<<30), types: cfg.Types, log: cfg.Log, wake: make(chan struct{}, 1)}
	if len(f.types) == 0 {
		f.types = objects.DefaultTypes
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	return f, nil
}

// Receive reads a file to its end and keeps it, for a mutation that makes a reference of it. It fails with Forbidden, TooComplex for a file that is too large,
// UnsupportedMediaType, BadUserInput where the sender breaks off, and StorageUnavailable; then nothing is left. Discard must follow.
func (f *Files) Receive(ctx context.Context, from io.Reader, name, declared string) (*models.Upload, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if err := writer(viewer); err != nil {
		return nil, err
	}
	return f.receive(ctx, viewer.UserID, from, objects.Rules{Limit: f.limit, Types: f.types, Declared: declared, Name: name})
}

func (f *Files) receive(ctx context.Context, userID int, from io.Reader, rules objects.Rules) (*models.Upload, error) {
	ctx, cancel := context.WithTimeout(ctx, maxReceiving)
	defer cancel()
	upload := &models.Upload{Path: strconv.Itoa(userID) + "/" + uuid.NewString(), Name: rules.Name}
	if err := f.store.BeginObject(ctx, userID, upload.Path, objectLease); err != nil {
		return nil, err
	}
	facts, err := f.bucket.Put(ctx, upload.Path, from, rules)
	if err != nil {
		f.Discard(ctx, upload)
		if errors.Is(err, objects.ErrUnreadable) {
			err = unreadable(err)
		}
		return nil, err
	}
	upload.Size, upload.Checksum, upload.MediaType, upload.Text = facts.Size, facts.Checksum, facts.MediaType, facts.Text
	return upload, nil
}

// Discard gives an upload up, unless a reference has been made of it.
func (f *Files) Discard(ctx context.Context, upload *models.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTimeout)
	defer cancel()
	if err := f.store.DropObject(ctx, upload.Path); err != nil {
		f.log.WarnContext(ctx, "files: an object waits for its lease to end", "path", upload.Path, "error", err)
		return
	}
	f.collectSoon()
}

// ReadUploadLink is what the token in an upload's URL stands for. It fails with Unauthenticated.
func (f *Files) ReadUploadLink(token string) (models.Link, error) {
	return f.links.read(token, toUpload)
}

// ReadDownloadLink is what the token in a download's URL stands for. It fails with Unauthenticated.
func (f *Files) ReadDownloadLink(token string) (models.Link, error) {
	return f.links.read(token, toDownload)
}

// errCompleted is that the reference of an upload has been made.
var errCompleted = errors.New("the upload is complete")

// Complete receives the file that an upload waits for, and makes the reference: created is whether this call has. Sending the same file again changes nothing;
// sending another is a Conflict. Which of the two it is nothing is read for, unless it cannot be told from what is said. It fails like Receive, with NotFound, and
// with Unauthenticated or Forbidden where the viewer lost the right to it meanwhile. What is refused is recorded; a connection that broke is no refusal.
func (f *Files) Complete(ctx context.Context, link models.Link, from io.Reader, said models.Sending) (reference *models.Reference, created bool, err error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := writer(viewer); err != nil {
		return nil, false, f.refused(ctx, link, err)
	}
	pending, err := f.store.PendingUpload(ctx, link.Reference)
	if err != nil {
		return nil, false, f.refused(ctx, link, err)
	}
	if pending.CompletedAt != nil {
		reference, err := f.completed(ctx, link, from, said)
		return reference, false, err
	}
	upload, err := f.receivePending(ctx, link, pending, from, said)
	if err != nil {
		return nil, false, f.refused(ctx, link, err)
	}
	defer f.Discard(ctx, upload)
	var rows []*models.Reference
	err = f.store.Write(ctx, completeUpload, func(tx *store.Tx) error {
		tx.On(models.KindReference, pending.ID.String())
		if first, err := tx.CompleteUpload(ctx, pending.ID); err != nil || !first {
			return cmp.Or(err, errCompleted)
		}
		if err := makeReference(ctx, tx, &models.Reference{DatabaseID: pending.ID, UserID: pending.UserID, Name: pending.Name, Type: pending.Type, Metadata: pending.Metadata}, upload); err != nil {
			return err
		}
		tx.References([]uuid.UUID{pending.ID}, &rows)
		return nil
	})
	if errors.Is(err, errCompleted) {
		reference, err := f.completed(ctx, link, nil, models.Sending{Length: upload.Size, Checksum: upload.Checksum})
		return reference, false, err
	}
	return one(rows), true, err
}

// completed is the reference that an upload has become, for whoever sends the same file again. What comes is read when neither its length nor its checksum tell
// whether it is the same, and not kept.
func (f *Files) completed(ctx context.Context, link models.Link, from io.Reader, said models.Sending) (*models.Reference, error) {
	another := models.Errorf(models.Conflict, "this upload is complete, and was another file")
	before, err := f.store.References(ctx, []uuid.UUID{link.Reference}, nil)
	if err != nil {
		return nil, err
	}
	if len(before) == 0 || before[0].Checksum == nil || before[0].FileSize == nil || said.Length >= 0 && said.Length != *before[0].FileSize {
		return nil, f.refused(ctx, link, another)
	}
	if said.Checksum == "" {
		sum := sha256.New()
		if _, err := io.Copy(sum, io.LimitReader(from, *before[0].FileSize+1)); err != nil {
			return nil, unreadable(fmt.Errorf("%w: %w", objects.ErrUnreadable, err))
		}
		said.Checksum = hex.EncodeToString(sum.Sum(nil))
	}
	if said.Checksum != *before[0].Checksum {
		return nil, f.refused(ctx, link, another)
	}
	return before[0], nil
}

func unreadable(err error) error {
	return models.Wrap(err, models.BadUserInput, "the file could not be read to its end")
}

const completeUpload = "completeUpload" // in the audit log

func (f *Files) refused(ctx context.Context, link models.Link, why error) error {
	if errors.Is(why, objects.ErrUnreadable) {
		return why
	}
	return f.store.Write(ctx, completeUpload, func(tx *store.Tx) error {
		tx.On(models.KindReference, link.Reference.String())
		return why
	})
}

// receivePending receives the file of an upload and holds it against what was announced.
func (f *Files) receivePending(ctx context.Context, link models.Link, pending *models.PendingUpload, from io.Reader, said models.Sending) (*models.Upload, error) {
	limit := min(link.MaxSize, f.limit)
	if said.Length > limit {
		return nil, objects.TooLarge(limit)
	}
	declared := said.MediaType
	if pending.MimeType != nil {
		declared = *pending.MimeType
	}
	upload, err := f.receive(ctx, pending.UserID, from, objects.Rules{Limit: limit, Types: f.types, Declared: declared, Name: pending.Name})
	switch {
	case err != nil:
		return nil, err
	case pending.FileSize != nil && upload.Size != *pending.FileSize:
		err = models.Errorf(models.BadUserInput, "the file has %d bytes and not %d", upload.Size, *pending.FileSize)
	case said.Checksum != "" && upload.Checksum != said.Checksum:
		err = models.Errorf(models.BadUserInput, "the file's SHA-256 is %s and not %s", upload.Checksum, said.Checksum)
	}
	if err != nil {
		f.Discard(ctx, upload)
		return nil, err
	}
	return upload, nil
}

// makeReference makes a reference of an upload, which may have taken so long that the viewer's rights have to be asked for again.
func makeReference(ctx context.Context, tx *store.Tx, reference *models.Reference, upload *models.Upload) error {
	viewer, err := tx.Standing(ctx)
	if err != nil {
		return err
	}
	if err := writer(viewer); err != nil {
		return err
	}
	if err := tx.UseObject(ctx, upload.Path, objectLease); err != nil {
		return err
	}
	reference.Content, reference.FilePath, reference.FileSize = upload.Text, &upload.Path, &upload.Size
	reference.MimeType, reference.Checksum = &upload.MediaType, &upload.Checksum
	tx.InsertReference(reference)
	return nil
}

// Open is the file of a reference, to be read and closed. It fails with Forbidden, NotFound and StorageUnavailable.
func (f *Files) Open(ctx context.Context, reference uuid.UUID) (*models.StoredFile, io.ReadSeekCloser, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !viewer.May(models.PermissionRead) {
		return nil, nil, models.Errorf(models.Forbidden, "this API key may not read")
	}
	file, err := f.store.StoredFile(ctx, reference)
	if err != nil {
		return nil, nil, err
	}
	content, err := f.bucket.Open(ctx, file.Path)
	return file, content, err
}

// DownloadURL is where a reference's file can be had for some minutes without a token, with the viewer's rights; nil without a file of ours.
func (f *Files) DownloadURL(ctx context.Context, reference *models.Reference) (*string, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	if reference.FilePath == nil || reference.Checksum == nil {
		return nil, nil
	}
	token, err := f.links.sign(viewer, toDownload, reference.DatabaseID, 0, time.Now().Add(downloadLinkAge))
	if err != nil {
		return nil, err
	}
	url := "/references/" + reference.ID() + "/content?token=" + token
	return &url, nil
}

// offer gives an upload its URL.
func (f *Files) offer(viewer models.Viewer, pending *models.PendingUpload) error {
	pending.MaxSize = f.limit
	if pending.FileSize != nil {
		pending.MaxSize = min(f.limit, *pending.FileSize)
	}
	token, err := f.links.sign(viewer, toUpload, pending.ID, pending.MaxSize, pending.ExpiresAt)
	if err != nil {
		return fmt.Errorf("offer an upload: %w", err)
	}
	pending.URL = "/uploads/" + token
	return nil
}
