// Package objects keeps the bytes of what users upload, in a local directory or a bucket of S3: it streams them in, says what they are, and reads ranges of them.
// Nothing of it knows tenants: who may read an object is for the database to say.
package objects

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/netra-ai/netra/models"
)

// MaxPut is how long Put may take in the end.
const MaxPut = 90 * time.Minute

// Bucket is where objects are.
type Bucket struct{ storage storage }

// storage is a kind of place for objects. Keys are paths with slashes.
type storage interface {
	put(ctx context.Context, key string, in *inspection) error // all of it, durable, or nothing but what remove takes
	open(ctx context.Context, key string) (io.ReadSeekCloser, error)
	remove(ctx context.Context, key string) error
	ping(ctx context.Context) error
}

// Open makes a Bucket from a URL: file:///var/lib/netra/objects, or s3://bucket?region=eu-central-1, with endpoint=https://… for other servers that speak
// S3. It makes the directory, and connects to nothing.
func Open(rawURL string) (*Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("the URL is malformed")
	}
	var kept storage
	switch {
	case u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path):
		kept, err = openDirectory(u.Path)
	case u.Scheme == "s3" && u.Host != "" && u.Path == "":
		kept, err = openS3(u.Host, u.Query())
	default:
		err = errors.New("it must begin with file:/// and a directory, or s3:// and a bucket")
	}
	return &Bucket{kept}, err
}

// Ping asks whether the bucket answers. It fails with StorageUnavailable.
func (b *Bucket) Ping(ctx context.Context) error { return unavailable(b.storage.ping(ctx)) }

// Put reads an object to its end and keeps it under a new key. When it returns without an error the object is there, whole and durable; otherwise
// nothing is, except for what a crash leaves (Delete takes that too). It fails with TooComplex for more bytes than rules allow, UnsupportedMediaType,
// StorageUnavailable, and with ErrUnreadable where reading from failed.
func (b *Bucket) Put(ctx context.Context, key string, from io.Reader, rules Rules) (*Facts, error) {
	in, err := newInspection(ctx, from, rules)
	if err != nil {
		return nil, err
	}
	err = b.storage.put(ctx, key, in)
	switch {
	case in.failed != nil:
		return nil, in.failed
	case err != nil:
		return nil, unavailable(err)
	}
	return in.facts(), nil
}

// Open reads an object from any place. It fails with NotFound and StorageUnavailable.
func (b *Bucket) Open(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	content, err := b.storage.open(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, models.Wrap(err, models.NotFound, "the file is gone")
	case err != nil:
		return nil, unavailable(err)
	}
	return content, nil
}

// Delete removes an object, and what a crash has left of writing it. An absent one is no error. It fails with StorageUnavailable.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return unavailable(b.storage.remove(ctx, key))
}

// unavailable hides what a storage says. A context that has ended stays one.
func unavailable(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return models.Wrap(err, models.StorageUnavailable, "the storage of files cannot answer now: try again")
}
