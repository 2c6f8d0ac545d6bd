package objects_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/objects"
)

func setup(t *testing.T) (bucket *objects.Bucket, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "ob jects")
	bucket, err := objects.Open((&url.URL{Scheme: "file", Path: dir}).String())
	require.NoError(t, err)
	return bucket, dir
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	return names
}

func TestPut(t *testing.T) {
	t.Parallel()

	t.Run("keeps what it is given and says what it is", func(t *testing.T) {
		t.Parallel()
		bucket, _ := setup(t)
		require.NoError(t, bucket.Ping(t.Context()))
		content := make([]byte, 300_000)
		_, _ = rand.Read(content)
		content = append([]byte("\x89PNG\x0D\x0A\x1A\x0A"), content...)
		sum := sha256.Sum256(content)
		facts, err := bucket.Put(t.Context(), "7/a", iotest.OneByteReader(bytes.NewReader(content)), objects.Rules{Limit: int64(len(content)), Types: objects.DefaultTypes, Declared: "image/png"})
		require.NoError(t, err)
		require.Equal(t, &objects.Facts{Size: int64(len(content)), Checksum: hex.EncodeToString(sum[:]), MediaType: "image/png"}, facts)

		reader, err := bucket.Open(t.Context(), "7/a")
		require.NoError(t, err)
		_, err = reader.Seek(-1000, io.SeekEnd)
		require.NoError(t, err)
		tail, err := io.ReadAll(reader)
		require.NoError(t, errors.Join(err, reader.Close()))
		require.Equal(t, content[len(content)-1000:], tail)

		require.NoError(t, bucket.Delete(t.Context(), "7/a"))
		require.NoError(t, bucket.Delete(t.Context(), "7/a"), "twice is no fault")
		_, err = bucket.Open(t.Context(), "7/a")
		require.Equal(t, models.NotFound, models.CodeOf(err))
	})

	t.Run("leaves nothing when the sender, the limit or the caller ends it", func(t *testing.T) {
		t.Parallel()
		bucket, dir := setup(t)
		for _, at := range []int{0, 1, 4095, 4096, 4097, 100_000} {
			_, err := bucket.Put(t.Context(), "7/broken", io.MultiReader(strings.NewReader(strings.Repeat("a", at)), iotest.ErrReader(io.ErrUnexpectedEOF)), objects.Rules{Limit: 1 << 20})
			require.ErrorIs(t, err, objects.ErrUnreadable, at)
			_, err = bucket.Put(t.Context(), "7/large", strings.NewReader(strings.Repeat("a", at+1)), objects.Rules{Limit: int64(at)})
			require.Equal(t, models.TooComplex, models.CodeOf(err), at)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := bucket.Put(ctx, "7/cancelled", io.MultiReader(strings.NewReader(strings.Repeat("a", 10_000)), readerFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF })), objects.Rules{Limit: 1 << 20})
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, files(t, dir))
	})

	t.Run("takes with the object what a crash has left of it", func(t *testing.T) {
		t.Parallel()
		bucket, dir := setup(t)
		require.NoError(t, os.Mkdir(filepath.Join(dir, "7"), 0o700))
		for _, name := range []string{"a.part", "b.part"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "7", name), []byte("half"), 0o600))
		}
		require.NoError(t, bucket.Delete(t.Context(), "7/a"))
		require.Equal(t, []string{filepath.Join(dir, "7", "b.part")}, files(t, dir))
	})

	t.Run("says that the storage has failed and not why", func(t *testing.T) {
		t.Parallel()
		bucket, dir := setup(t)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "7"), nil, 0o600))
		_, err := bucket.Put(t.Context(), "7/a", strings.NewReader("hello"), objects.Rules{Limit: 10})
		require.Equal(t, models.StorageUnavailable, models.CodeOf(err))
		require.NotContains(t, err.Error(), dir)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestTypes(t *testing.T) {
	t.Parallel()
	bucket, _ := setup(t)
	const html, elf = "<!DOCTYPE html><script>alert(1)</script>", "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00"
	for i, c := range []struct{ content, declared, name, want string }{
		{"just words", "", "", "text/plain"},
		{"", "", "empty.txt", "text/plain"},
		{"# Title\n\nwords", "text/markdown", "", "text/markdown"},
		{"# Title\n\nwords", "", "README.MD", "text/markdown"},
		{"# Title\n\nwords", "application/octet-stream", "a.md", "text/markdown"},
		{"a,b\n1,2\n3,4\n", "text/csv; charset=utf-8", "", "text/csv"},
		{"a,b\n1,2\n3,4\n", "text/plain", "", "text/csv"},
		{`{"a": [1, 2]}`, "application/json", "", "application/json"},
		{`{"a": [1, 2]}`, "text/plain", "a.txt", "application/json"},
		{"{\"a\":1}\n{\"a\":2}\n", "", "", "application/x-ndjson"},
		{"no json", "application/json", "", "text/plain"},
		{html, "", "", "text/html"},
		{html, "image/png", "", ""},
		{html, "text/plain", "", "text/html"},
		{"%PDF-1.7\n", "application/pdf", "", "application/pdf"},
		{"%PDF-1.7\n", "text/plain", "", ""},
		{"\x00\x01\x02\x03", "image/png", "", ""},
		{"\x00\x01\x02\x03", "text/html", "", ""},
		{"\x00\x01\x02\x03", "text/x-unheard-of", "", ""},
		{"\x00\x01\x02\x03", "application/x-safetensors", "", "application/octet-stream"},
		{"\x00\x01\x02\x03", "nonsense", "", "application/octet-stream"},
		{"\x00\x01\x02\x03", "", "a.md", "application/octet-stream"},
		{elf, "", "", ""},
		{elf, "application/octet-stream", "", ""},
		{"MZ\x90\x00\x03\x00\x00\x00", "application/pdf", "", ""},
	} {
		facts, err := bucket.Put(t.Context(), fmt.Sprint(i), strings.NewReader(c.content), objects.Rules{Limit: 1000, Types: objects.DefaultTypes, Declared: c.declared, Name: c.name})
		if c.want == "" {
			require.Equal(t, models.UnsupportedMediaType, models.CodeOf(err), "%q as %q: %v", c.content, c.declared, facts)
			continue
		}
		require.NoError(t, err, "%q as %q", c.content, c.declared)
		require.Equal(t, c.want, facts.MediaType, "%q as %q", c.content, c.declared)
	}
}

func TestHopeless(t *testing.T) {
	t.Parallel()
	for declared, want := range map[string]bool{
		"application/x-executable": true, "application/x-elf": true, "application/vnd.microsoft.portable-executable": true, "application/x-mach-binary": true, "application/wasm": true,
		"application/vnd.debian.binary-package": true, "application/x-java-applet": true,
		"image/png": false, "text/markdown": false, "text/x-python": false, "application/zip": false, "application/java-archive": false, "application/ogg": false, "audio/ogg": false,
		"application/octet-stream": false, "application/x-unheard-of": false, "application/x-ms-installer": false, "application/vnd.ms-excel": false, "application/x-gzip": false, "TEXT/CSV; charset=utf-8": false,
	} {
		require.Equal(t, want, objects.Hopeless(declared, objects.DefaultTypes), declared)
	}
	require.True(t, objects.Hopeless("image/jpeg", []string{"application/pdf", "text/*"}))
	require.False(t, objects.Hopeless("application/zip", []string{"application/epub+zip"}))
	require.False(t, objects.Hopeless("application/x-elf", nil), "everything is taken")
}

func TestText(t *testing.T) {
	t.Parallel()
	bucket, _ := setup(t)
	text := func(content string) *string {
		facts, err := bucket.Put(t.Context(), t.Name(), strings.NewReader(content), objects.Rules{Limit: 1 << 20})
		require.NoError(t, err)
		return facts.Text
	}
	require.Equal(t, "grüße 🙂", *text("grüße 🙂"))
	require.Equal(t, "marked", *text("\uFEFFmarked"))
	require.Empty(t, *text(""))
	require.Equal(t, `{"a":"b"}`, *text(`{"a":"b"}`))
	require.Nil(t, text("<!DOCTYPE html><p>words</p>"), "HTML is markup, not text")
	require.Nil(t, text("latin \xe9t\xe9"))
	require.Nil(t, text("\xff\xfeh\x00i\x00"), "UTF-16")
	require.Nil(t, text(strings.Repeat("a", 5000)+"\x00"), "the database takes no NUL")
	require.Len(t, *text(strings.Repeat("a", objects.MaxText)), objects.MaxText)
	require.Len(t, *text(strings.Repeat("a", objects.MaxText+1)), objects.MaxText)
	for shift := range 4 {
		kept := *text(strings.Repeat("a", shift) + strings.Repeat("🙂", objects.MaxText/4+1))
		require.LessOrEqual(t, len(kept), objects.MaxText)
		require.Greater(t, len(kept), objects.MaxText-4)
		require.True(t, strings.HasSuffix(kept, "🙂"))
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for _, rawURL := range []string{"", "objects", "/var/objects", "file:objects", "file://host/objects", "s3://", "ftp://x/y", "s3://bucket?nonsense=1", "s3://bucket/path", "s3://bucket?endpoint=host:9000", "s3://bucket?endpoint=ftp://host", ":"} {
		_, err := objects.Open(rawURL)
		require.Error(t, err, rawURL)
	}
}
