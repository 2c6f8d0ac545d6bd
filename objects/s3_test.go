package objects_test

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/objects"
)

// TestS3 speaks to a double that keeps objects in memory: it shows that the URL is understood and the protocol spoken, not how a real S3 fails.
func TestS3(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	kept := s3mem.New()
	require.NoError(t, kept.CreateBucket("files"))
	double := httptest.NewTLSServer(gofakes3.New(kept).Server()) // over plain HTTP it would keep the signatures of chunks as content
	defer double.Close()
	trusted := filepath.Join(t.TempDir(), "double.pem")
	require.NoError(t, os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: double.Certificate().Raw}), 0o600))
	t.Setenv("SSL_CERT_FILE", trusted)
	open := func(name string) *objects.Bucket {
		bucket, err := objects.Open("s3://" + name + "?region=eu-central-1&endpoint=" + url.QueryEscape(double.URL))
		require.NoError(t, err)
		return bucket
	}
	bucket := open("files")
	err := bucket.Ping(t.Context())
	require.NoError(t, err, "%v", errors.Unwrap(err))
	absent := open("absent")
	require.Equal(t, models.StorageUnavailable, models.CodeOf(absent.Ping(t.Context())))
	_, err = absent.Open(t.Context(), "7/a")
	require.Equal(t, models.StorageUnavailable, models.CodeOf(err), "it is not the file that is gone")
	require.ErrorContains(t, errors.Unwrap(err), "no such bucket", "for the log")
	require.Equal(t, models.StorageUnavailable, models.CodeOf(absent.Delete(t.Context(), "7/a")))
	_, err = absent.Put(t.Context(), "7/a", strings.NewReader("hello"), objects.Rules{Limit: 10})
	require.Equal(t, models.StorageUnavailable, models.CodeOf(err))

	for _, size := range []int{10, 8 << 20, 20<<20 + 1} {
		content := make([]byte, size)
		_, _ = rand.Read(content)
		facts, err := bucket.Put(t.Context(), "7/a", bytes.NewReader(content), objects.Rules{Limit: 32 << 20})
		require.NoError(t, err, "%v", errors.Unwrap(err))
		require.EqualValues(t, size, facts.Size)
		reader, err := bucket.Open(t.Context(), "7/a")
		require.NoError(t, err)
		_, err = reader.Seek(int64(size/2), io.SeekStart)
		require.NoError(t, err)
		half, err := io.ReadAll(reader)
		require.NoError(t, err)
		require.NoError(t, reader.Close())
		require.Len(t, half, size-size/2)
		require.True(t, bytes.Equal(content[size/2:], half))
		err = bucket.Delete(t.Context(), "7/a")
		require.NoError(t, err, "%v", errors.Unwrap(err))
		err = bucket.Delete(t.Context(), "7/a")
		require.NoError(t, err, "%v", errors.Unwrap(err))
		_, err = bucket.Open(t.Context(), "7/a")
		require.Equal(t, models.NotFound, models.CodeOf(err))
	}

	for _, size := range []int{10, 20 << 20} {
		_, err := bucket.Put(t.Context(), "7/broken", io.MultiReader(strings.NewReader(strings.Repeat("a", size)), iotest.ErrReader(io.ErrUnexpectedEOF)), objects.Rules{Limit: 32 << 20})
		require.ErrorIs(t, err, objects.ErrUnreadable)
		listed, err := kept.ListBucket("files", nil, gofakes3.ListBucketPage{})
		require.NoError(t, err)
		require.Empty(t, listed.Contents)
		left, err := double.Client().Get(double.URL + "/files?uploads")
		require.NoError(t, err)
		text, err := io.ReadAll(left.Body)
		require.NoError(t, err)
		require.NoError(t, left.Body.Close())
		require.NotContains(t, string(text), "7/broken", "parts are given up")
	}
	double.Close()
	_, err = bucket.Put(t.Context(), "7/a", strings.NewReader("hello"), objects.Rules{Limit: 10})
	require.Equal(t, models.StorageUnavailable, models.CodeOf(err))
	require.NotContains(t, err.Error(), "127.0.0.1")
}
