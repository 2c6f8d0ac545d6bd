package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// One part of an upload is in memory at a time. S3 takes 10,000 parts: this is room for 78 GiB.
	partSize = 8 << 20

	amazon = "https://s3.amazonaws.com"
)

// bucket keeps an object in S3, which shows a multipart upload only when it is complete.
type bucket struct {
	client *minio.Client
	name   string
}

// openS3 finds its credentials where Amazon's tools look for them: in the environment, in their files, in the machine's role.
func openS3(name string, settings url.Values) (*bucket, error) {
	for setting := range settings {
		if setting != "endpoint" && setting != "region" {
			return nil, fmt.Errorf("an s3:// URL has no setting %.40q: only endpoint and region", setting)
		}
	}
	endpoint := settings.Get("endpoint")
	if endpoint == "" {
		endpoint = amazon
	}
	at, err := url.Parse(endpoint)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" || at.Path != "" && at.Path != "/" {
		return nil, errors.New("the endpoint of an s3:// URL must be a URL such as https://storage.example.com")
	}
	client, err := minio.New(at.Host, &minio.Options{
		Creds:  credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}}),
		Secure: at.Scheme == "https", Region: settings.Get("region"), MaxRetries: 3,
	})
	if err != nil {
		return nil, fmt.Errorf("set up S3: %w", err)
	}
	return &bucket{client, name}, nil
}

// put does not end with its caller, but when reading does: parts are taken back by a request, which needs a context that has not ended.
func (b *bucket) put(ctx context.Context, key string, in *inspection) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), MaxPut)
	defer cancel()
	_, err := b.client.PutObject(ctx, b.name, key, in, in.known(), minio.PutObjectOptions{ContentType: in.mediaType, PartSize: partSize})
	return err
}

func (b *bucket) open(ctx context.Context, key string) (io.ReadSeekCloser, error) {
	object, err := b.client.GetObject(ctx, b.name, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	if _, err := object.Stat(); err != nil { // the first request
		if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound { // which has no body to say what is absent
			missing := fs.ErrNotExist
			if away := b.ping(ctx); away != nil {
				missing = away
			}
			err = fmt.Errorf("%w: %w", missing, err)
		}
		return nil, errors.Join(err, object.Close())
	}
	return object, nil
}

func (b *bucket) remove(ctx context.Context, key string) error {
	if err := b.client.RemoveObject(ctx, b.name, key, minio.RemoveObjectOptions{}); err != nil {
		return err
	}
	err := b.client.RemoveIncompleteUpload(ctx, b.name, key) // what a crash has left
	if minio.ToErrorResponse(err).Code == minio.NoSuchUpload {
		return nil
	}
	return err
}

func (b *bucket) ping(ctx context.Context) error {
	there, err := b.client.BucketExists(ctx, b.name)
	if err == nil && !there {
		err = errors.New("there is no such bucket")
	}
	return err
}
