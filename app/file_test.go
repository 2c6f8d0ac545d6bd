package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/app"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/objects"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

var depotSecret = []byte("0123456789abcdef0123456789abcdef")

// depot is a server with files over databases and a directory of its own.
type depot struct {
	url   string
	dir   string
	owner *sql.DB
	files *app.Files
}

func openDepot(t *testing.T, change ...func(*app.FilesConfig)) *depot {
	t.Helper()
	return openDepotWithin(t, server.Limits{}, change...)
}

func openDepotWithin(t *testing.T, limits server.Limits, change ...func(*app.FilesConfig)) *depot {
	t.Helper()
	db := testdb.NewPostgres(t)
	d := &depot{dir: t.TempDir(), owner: db.Owner(t)}
	_, err := d.owner.ExecContext(t.Context(), `INSERT INTO users (id, email, is_superuser) VALUES
		(1, 'alice@example.com', false), (2, 'bob@example.com', false), (3, 'root@example.com', true)`)
	require.NoError(t, err)
	s, err := store.Open(store.Config{URL: db.AppURL, StatementTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	bucket, err := objects.Open((&url.URL{Scheme: "file", Path: d.dir}).String())
	require.NoError(t, err)
	cfg := app.FilesConfig{Store: s, Bucket: bucket, Secret: depotSecret, Limit: 4 << 20}
	for _, c := range change {
		c(&cfg)
	}
	d.files, err = app.NewFiles(cfg)
	require.NoError(t, err)
	var collecting sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); collecting.Wait() })
	collecting.Go(func() { d.files.Collect(ctx) })
	edge, err := server.New(server.Config{
		Resolvers:    &resolvers.Resolver{Store: s, App: app.New(s, d.files), Files: d.files, Loaders: new(loaders.Loaders)},
		Authenticate: s.Viewer, AuthenticateKey: s.ViewerByKey, Standing: s.Standing, Files: d.files, Secret: depotSecret, AllowedOrigins: []string{"https://app.example.com"}, Limits: limits,
	})
	require.NoError(t, err)
	listener := httptest.NewServer(edge.Handler())
	t.Cleanup(listener.Close)
	d.url = listener.URL
	return d
}

// reply is an HTTP answer with its body.
type reply struct {
	*http.Response
	body string
}

func (r reply) json(t testing.TB) object {
	t.Helper()
	var o object
	require.NoError(t, json.Unmarshal([]byte(r.body), &o), r.body)
	return o
}

func (d *depot) send(t testing.TB, method, path string, body io.Reader, headers ...string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, d.url+path, body)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return reply{response, string(text)}
}

func bearer(t testing.TB, v models.Viewer) string {
	t.Helper()
	token, err := server.NewToken(depotSecret, v.UserID, time.Hour)
	require.NoError(t, err)
	return "Bearer " + token
}

func (d *depot) ask(t testing.TB, v models.Viewer, query string, variables object) object {
	t.Helper()
	body, err := json.Marshal(object{"query": query, "variables": variables})
	require.NoError(t, err)
	got := d.send(t, http.MethodPost, "/graphql", bytes.NewReader(body), "Content-Type", "application/json", "Authorization", bearer(t, v))
	answer := got.json(t)
	require.Nil(t, answer["errors"], got.body)
	return answer["data"].(map[string]any)
}

// announce asks where to send a file.
func (d *depot) announce(t testing.TB, v models.Viewer, input object) (path, reference string) {
	t.Helper()
	full := object{"name": "file.bin", "type": "OTHER"}
	maps.Copy(full, input)
	got := d.ask(t, v, `mutation($input: CreateUploadInput!) { createUpload(input: $input) { upload { url expiresAt maxSize referenceId } userErrors { field code message } } }`, object{"input": full})
	require.Empty(t, got.at("createUpload.userErrors"))
	return got.text("createUpload.upload.url"), got.text("createUpload.upload.referenceId")
}

func (d *depot) put(t testing.TB, path string, content []byte, headers ...string) reply {
	t.Helper()
	return d.send(t, http.MethodPut, path, bytes.NewReader(content), headers...)
}

// upload is announce and put.
func (d *depot) upload(t testing.TB, v models.Viewer, name string, content []byte) (reference string) {
	t.Helper()
	path, reference := d.announce(t, v, object{"name": name})
	got := d.put(t, path, content)
	require.Equal(t, http.StatusCreated, got.StatusCode, got.body)
	return reference
}

const referenceFields = `id name type content fileSize mimeType checksum filePath downloadUrl metadata user { email }`

func (d *depot) reference(t testing.TB, v models.Viewer, id string) object {
	t.Helper()
	return d.ask(t, v, `query($id: ID!) { reference(id: $id) { `+referenceFields+` } }`, object{"id": id})["reference"].(map[string]any)
}

func (d *depot) number(t testing.TB, statement string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, d.owner.QueryRowContext(t.Context(), statement, args...).Scan(&n))
	return n
}

func (d *depot) stored(t testing.TB) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	return names
}

// holds waits until there are n references with files, and nothing else in the journal or in the storage.
func (d *depot) holds(t testing.TB, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return d.number(t, "SELECT count(*) FROM objects") == n && len(d.stored(t)) == n
	}, time.Minute, 20*time.Millisecond, "%d objects", n)
	require.Equal(t, n, d.number(t, `SELECT count(*) FROM "references" r JOIN objects o ON o.path = r.file_path AND o.user_id = r.user_id AND o.collect_after IS NULL`))
	require.Equal(t, n, d.number(t, `SELECT count(*) FROM "references"`))
}

func noise(n int) []byte {
	content := make([]byte, n)
	_, _ = rand.Read(content)
	content[0] = 0 // no text, and nothing known
	return content
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

func TestAnUploadBecomesAReference(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	content := []byte("# Grüße\n\n" + strings.Repeat("words ", 50_000))
	path, id := d.announce(t, alice, object{"name": "päper.md", "type": "DOCUMENT", "metadata": object{"threadId": "x"}, "size": fmt.Sprint(len(content))})
	require.Zero(t, d.number(t, `SELECT count(*) FROM "references"`), "nothing is there before the bytes are")

	got := d.put(t, path, content, "Content-Type", "text/markdown")
	require.Equal(t, http.StatusCreated, got.StatusCode, got.body)
	require.JSONEq(t, `{"referenceId":"`+id+`"}`, got.body)
	require.Equal(t, "/references/"+id+"/content", got.Header.Get("Location"))

	reference := d.reference(t, alice, id)
	require.Equal(t, "päper.md", reference["name"])
	require.Equal(t, "DOCUMENT", reference["type"])
	require.Equal(t, "text/markdown", reference["mimeType"])
	require.Equal(t, fmt.Sprint(len(content)), reference["fileSize"])
	require.Equal(t, sum(content), reference["checksum"])
	require.Equal(t, string(content[:objects.MaxText]), reference["content"])
	require.Equal(t, map[string]any{"threadId": "x"}, reference["metadata"])
	require.Equal(t, "alice@example.com", reference.text("user.email"))

	for name, download := range map[string]reply{
		"with a token":          d.send(t, http.MethodGet, "/references/"+id+"/content", nil, "Authorization", bearer(t, alice)),
		"by the link":           d.send(t, http.MethodGet, reference.text("downloadUrl"), nil),
		"as a superuser":        d.send(t, http.MethodGet, "/references/"+id+"/content", nil, "Authorization", bearer(t, root)),
		"by a superuser's link": d.send(t, http.MethodGet, d.reference(t, root, id).text("downloadUrl"), nil),
	} {
		require.Equal(t, http.StatusOK, download.StatusCode, "%s %s", name, download.body)
		require.Equal(t, string(content), download.body, name)
		require.Equal(t, "text/markdown", download.Header.Get("Content-Type"), name)
	}

	require.Equal(t, http.StatusOK, d.put(t, path, content).StatusCode, "an answer that was lost can be asked for again")
	require.Equal(t, http.StatusConflict, d.put(t, path, append([]byte{'x'}, content[1:]...)).StatusCode)
	require.Equal(t, []string{"createUpload 200", "completeUpload 200", "completeUpload 409"}, d.audit(t))
	d.holds(t, 1)

	deleted := d.ask(t, alice, `mutation($id: ID!) { deleteReference(input: {id: $id}) { deletedId userErrors { code } } }`, object{"id": id})
	require.Equal(t, id, deleted.text("deleteReference.deletedId"))
	d.holds(t, 0)
	require.Equal(t, http.StatusNotFound, d.send(t, http.MethodGet, reference.text("downloadUrl"), nil).StatusCode)
	require.Equal(t, http.StatusConflict, d.put(t, path, content).StatusCode, "what was deleted does not come back")
	d.holds(t, 0)
}

func (d *depot) audit(t testing.TB) (lines []string) {
	t.Helper()
	rows, err := d.owner.QueryContext(t.Context(), "SELECT action || ' ' || response_status FROM audit_logs ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		lines = append(lines, line)
	}
	require.NoError(t, rows.Err())
	return lines
}

func TestDownloads(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	content := noise(100_000)
	id := d.upload(t, alice, "data.bin", content)
	path := "/references/" + id + "/content"
	get := func(headers ...string) reply {
		return d.send(t, http.MethodGet, path, nil, append(headers, "Authorization", bearer(t, alice))...)
	}

	t.Run("give ranges", func(t *testing.T) {
		for span, want := range map[string][]byte{"0-9": content[:10], "99990-": content[99_990:], "-5": content[99_995:], "500-200000": content[500:]} {
			got := get("Range", "bytes="+span)
			require.Equal(t, http.StatusPartialContent, got.StatusCode, span)
			require.Equal(t, string(want), got.body, span)
			require.Equal(t, fmt.Sprint(len(want)), got.Header.Get("Content-Length"), span)
		}
		got := get("Range", "bytes=0-0,5-5")
		require.Equal(t, http.StatusPartialContent, got.StatusCode)
		require.Contains(t, got.Header.Get("Content-Type"), "multipart/byteranges")
		for _, span := range []string{"bytes=100000-", "bytes=nonsense"} {
			refused := get("Range", span)
			require.Equal(t, http.StatusRequestedRangeNotSatisfiable, refused.StatusCode)
			require.Equal(t, "bytes */100000", refused.Header.Get("Content-Range"))
			require.Equal(t, "BAD_USER_INPUT", refused.json(t).text("errors.0.extensions.code"))
			require.Equal(t, "application/json; charset=utf-8", refused.Header.Get("Content-Type"))
			require.Empty(t, refused.Header.Get("Content-Disposition"))
		}
		require.Equal(t, http.StatusPreconditionFailed, get("If-Match", `"other"`).StatusCode)
		require.Equal(t, http.StatusOK, get("Range", "bytes=0-0"+strings.Repeat(",5-5", 100)).StatusCode, "a hundred ranges are the whole file")
	})

	t.Run("are not repeated when nothing has changed", func(t *testing.T) {
		tag := get().Header.Get("ETag")
		require.Equal(t, `"`+sum(content)+`"`, tag)
		require.Equal(t, http.StatusNotModified, get("If-None-Match", tag).StatusCode)
		require.Equal(t, http.StatusPartialContent, get("Range", "bytes=0-9", "If-Range", tag).StatusCode)
		require.Equal(t, http.StatusOK, get("Range", "bytes=0-9", "If-Range", `"other"`).StatusCode)
	})

	t.Run("have no body when only the head is asked for", func(t *testing.T) {
		got := d.send(t, http.MethodHead, path, nil, "Authorization", bearer(t, alice))
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.EqualValues(t, 100_000, got.ContentLength)
		require.Equal(t, http.StatusMethodNotAllowed, d.send(t, http.MethodPost, path, nil, "Authorization", bearer(t, alice)).StatusCode)
	})

	t.Run("run nothing on our origin", func(t *testing.T) {
		html := d.upload(t, alice, "evil\r\n\".html", []byte("<!DOCTYPE html><script>alert(document.domain)</script>"))
		got := d.send(t, http.MethodGet, d.reference(t, alice, html).text("downloadUrl"), nil)
		require.Equal(t, http.StatusOK, got.StatusCode)
		require.Equal(t, "text/html", got.Header.Get("Content-Type"))
		require.Equal(t, `attachment; filename*=utf-8''evil%0D%0A%22.html`, got.Header.Get("Content-Disposition"))
		require.Equal(t, "nosniff", got.Header.Get("X-Content-Type-Options"))
		require.Equal(t, "default-src 'none'; sandbox", got.Header.Get("Content-Security-Policy"))
		require.Equal(t, "no-referrer", got.Header.Get("Referrer-Policy"))
		require.Equal(t, "Origin, Authorization", got.Header.Get("Vary"))
		require.Equal(t, "private, no-cache", got.Header.Get("Cache-Control"))
	})

	t.Run("are there only for files of ours", func(t *testing.T) {
		var key string
		require.NoError(t, d.owner.QueryRowContext(t.Context(), `INSERT INTO "references" (user_id, name, type, file_path, checksum)
			SELECT 2, 'theirs', 'document', file_path, checksum FROM "references" WHERE name = 'data.bin' RETURNING id`).Scan(&key))
		theirs := models.GlobalID{Kind: models.KindReference, Key: key}.String()
		got := d.send(t, http.MethodGet, "/references/"+theirs+"/content", nil, "Authorization", bearer(t, bob))
		require.Equal(t, http.StatusNotFound, got.StatusCode, "a row that names another tenant's object opens nothing")
		require.NoError(t, os.RemoveAll(d.dir))
		require.Equal(t, http.StatusNotFound, get().StatusCode, "a file that was lost is no fault of ours")
	})
}

// forge signs a link as the server does.
func forge(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	key, err := hkdf.Key(sha256.New, depotSecret, nil, "netra links", sha256.Size)
	require.NoError(t, err)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(key)
	require.NoError(t, err)
	return token
}

func TestLinksAndTenants(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	id := d.upload(t, alice, "secret.txt", []byte("secret of alice"))
	path, pending := d.announce(t, alice, nil)
	token := strings.TrimPrefix(path, "/uploads/")
	head, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	soon, past := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Minute).Unix()
	reference := keyOf(t, pending)
	status := func(want int, got reply) {
		t.Helper()
		require.Equal(t, want, got.StatusCode, got.body)
		require.NotContains(t, got.body, "secret of alice")
	}
	upload := func(token string) reply { return d.put(t, "/uploads/"+token, []byte("hello")) }

	other := []byte(signature)
	other[0] ^= 1
	for name, forged := range map[string]string{
		"tampered":           head + "." + payload + "." + string(other),
		"unsigned":           head + "." + payload + ".",
		"of no algorithm":    "eyJhbGciOiJub25lIn0." + payload + ".",
		"expired":            forge(t, jwt.MapClaims{"aud": "netra-upload", "sub": "1", "jti": reference, "exp": past, "max": 100}),
		"without an end":     forge(t, jwt.MapClaims{"aud": "netra-upload", "sub": "1", "jti": reference, "max": 100}),
		"for downloads":      forge(t, jwt.MapClaims{"aud": "netra-download", "sub": "1", "jti": reference, "exp": soon}),
		"of an absent user":  forge(t, jwt.MapClaims{"aud": "netra-upload", "sub": "77", "jti": reference, "exp": soon, "max": 100}),
		"a bearer token":     strings.TrimPrefix(bearer(t, alice), "Bearer "),
		"endless":            strings.Repeat("a", 5000),
		"of a strange id":    forge(t, jwt.MapClaims{"aud": "netra-upload", "sub": "1", "jti": "x", "exp": soon, "max": 100}),
		"of a strange owner": forge(t, jwt.MapClaims{"aud": "netra-upload", "sub": "x", "jti": reference, "exp": soon, "max": 100}),
	} {
		got := upload(forged)
		require.Equal(t, http.StatusUnauthorized, got.StatusCode, "%s: %s", name, got.body)
	}
	status(http.StatusNotFound, upload(forge(t, jwt.MapClaims{"aud": "netra-upload", "sub": "2", "jti": reference, "exp": soon, "max": 100}))) // bob's link to alice's upload
	status(http.StatusRequestEntityTooLarge, upload(forge(t, jwt.MapClaims{"aud": "netra-upload", "sub": "1", "jti": reference, "exp": soon, "max": 4})))
	status(http.StatusMethodNotAllowed, d.send(t, http.MethodPost, path, strings.NewReader("hello")))
	status(http.StatusUnsupportedMediaType, d.put(t, path, []byte("hello"), "Content-Encoding", "gzip"))
	status(http.StatusBadRequest, d.put(t, path, []byte("hello"), "Content-Range", "bytes 0-4/10"))

	content := "/references/" + id + "/content"
	absent := models.GlobalID{Kind: models.KindReference, Key: "00000000-0000-4000-8000-000000000000"}.String()
	theirs := d.send(t, http.MethodGet, content, nil, "Authorization", bearer(t, bob))
	status(http.StatusNotFound, theirs)
	require.Equal(t, d.send(t, http.MethodGet, "/references/"+absent+"/content", nil, "Authorization", bearer(t, bob)).body, theirs.body, "another tenant's is absent")
	status(http.StatusUnauthorized, d.send(t, http.MethodGet, content, nil))
	status(http.StatusUnauthorized, d.send(t, http.MethodGet, content+"?token="+token, nil))
	status(http.StatusUnauthorized, d.send(t, http.MethodGet, content+"?token="+strings.TrimPrefix(bearer(t, alice), "Bearer "), nil))
	status(http.StatusUnauthorized, d.send(t, http.MethodGet, content+"?token="+forge(t, jwt.MapClaims{"aud": "netra-download", "sub": "1", "jti": keyOf(t, id), "exp": past}), nil))
	status(http.StatusUnauthorized, d.send(t, http.MethodGet, content+"?token="+forge(t, jwt.MapClaims{"aud": "netra-download", "sub": "1", "jti": reference, "exp": soon}), nil))
	status(http.StatusNotFound, d.send(t, http.MethodGet, content+"?token="+forge(t, jwt.MapClaims{"aud": "netra-download", "sub": "2", "jti": keyOf(t, id), "exp": soon}), nil))
	status(http.StatusBadRequest, d.send(t, http.MethodGet, "/references/"+keyOf(t, id)+"/content", nil, "Authorization", bearer(t, alice)))

	for path, methods := range map[string]string{path: "PUT", content: "GET, HEAD"} {
		preflight := d.send(t, http.MethodOptions, path, nil, "Origin", "https://app.example.com")
		require.Equal(t, http.StatusNoContent, preflight.StatusCode)
		require.Equal(t, "https://app.example.com", preflight.Header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, methods, preflight.Header.Get("Access-Control-Allow-Methods"))
		require.Empty(t, d.send(t, http.MethodOptions, path, nil, "Origin", "https://evil.example.com").Header.Get("Access-Control-Allow-Origin"))
	}

	link := d.reference(t, alice, id).text("downloadUrl")
	_, err := d.owner.ExecContext(t.Context(), "UPDATE users SET is_active = false WHERE id = 1")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return upload(token).StatusCode == http.StatusUnauthorized }, time.Minute, 50*time.Millisecond, "a closed account's links are closed too")
	status(http.StatusUnauthorized, d.send(t, http.MethodGet, link, nil))
	d.holds(t, 1)
}

func TestLinksOfAnAPIKeyEndWithIt(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	made := d.ask(t, alice, `mutation { createApiKey(input: {name: "bot", permissions: [WRITE]}) { token apiKey { id } userErrors { message } } }`, nil)
	ask := func(query string, variables object) object {
		body, err := json.Marshal(object{"query": query, "variables": variables})
		require.NoError(t, err)
		got := d.send(t, http.MethodPost, "/graphql", bytes.NewReader(body), "Content-Type", "application/json", "Authorization", "Bearer "+made.text("createApiKey.token"))
		return got.json(t)
	}
	announce := func() string {
		return ask(`mutation { createUpload(input: {name: "x", type: OTHER}) { upload { url } } }`, nil).text("data.createUpload.upload.url")
	}
	sent := d.put(t, announce(), []byte("of a program"))
	require.Equal(t, http.StatusCreated, sent.StatusCode, sent.body)
	require.Equal(t, 2, d.number(t, "SELECT count(*) FROM audit_logs WHERE metadata ? 'api_key' AND action IN ('createUpload', 'completeUpload')"))
	download := ask("query($id: ID!) { reference(id: $id) { downloadUrl } }", object{"id": sent.json(t).text("referenceId")}).text("data.reference.downloadUrl")
	require.Equal(t, "of a program", d.send(t, http.MethodGet, download, nil).body)

	pending := announce()
	d.ask(t, alice, `mutation($id: ID!) { revokeApiKey(input: {id: $id}) { userErrors { message } } }`, object{"id": made.text("createApiKey.apiKey.id")})
	require.Equal(t, http.StatusUnauthorized, d.put(t, pending, []byte("too late")).StatusCode)
	require.Equal(t, http.StatusUnauthorized, d.send(t, http.MethodGet, download, nil).StatusCode)
	d.holds(t, 1)
}

func TestWhatIsRefusedLeavesNothing(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	endless := func(n int) io.Reader { return io.MultiReader(bytes.NewReader(noise(n))) } // of unknown length
	for name, c := range map[string]struct {
		input  object
		body   io.Reader
		status int
		code   string
	}{
		"too large":              {nil, bytes.NewReader(noise(4<<20 + 1)), 413, "TOO_COMPLEX"},
		"too large, unannounced": {nil, endless(4<<20 + 1), 413, "TOO_COMPLEX"},
		"larger than announced":  {object{"size": "10"}, endless(11), 413, "TOO_COMPLEX"},
		"smaller than announced": {object{"size": "10"}, endless(9), 400, "BAD_USER_INPUT"},
		"a program":              {nil, strings.NewReader("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00"), 415, "UNSUPPORTED_MEDIA_TYPE"},
		"not what was announced": {object{"mimeType": "image/png"}, strings.NewReader("<!DOCTYPE html><script>alert(1)</script>"), 415, "UNSUPPORTED_MEDIA_TYPE"},
	} {
		path, _ := d.announce(t, alice, c.input)
		got := d.send(t, http.MethodPut, path, c.body)
		require.Equal(t, c.status, got.StatusCode, "%s: %s", name, got.body)
		require.Equal(t, c.code, got.json(t).text("errors.0.extensions.code"), name)
	}
	require.Equal(t, 6, d.number(t, "SELECT count(*) FROM audit_logs WHERE action = 'completeUpload' AND response_status >= 400 AND resource_type = 'Reference'"))
	d.holds(t, 0)

	for _, c := range []struct {
		field string
		input object
	}{
		{"name", object{"name": " "}}, {"size", object{"size": fmt.Sprint(4<<20 + 1)}}, {"mimeType", object{"mimeType": "png"}}, {"metadata", object{"metadata": []int{}}},
		{"mimeType", object{"mimeType": "application/x-executable"}}, {"mimeType", object{"mimeType": "application/vnd.microsoft.portable-executable"}},
	} {
		field, input := c.field, c.input
		full := object{"name": "a", "type": "OTHER"}
		maps.Copy(full, input)
		got := d.ask(t, alice, `mutation($input: CreateUploadInput!) { createUpload(input: $input) { upload { url } userErrors { field } } }`, object{"input": full})
		require.Equal(t, field, got.text("createUpload.userErrors.0.field.0"))
		require.Nil(t, got.at("createUpload.upload"))
	}
}

func TestABrokenUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	content := noise(3 << 20)
	path, id := d.announce(t, alice, nil)
	address := strings.TrimPrefix(d.url, "http://")
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range 20 {
		sent := random.IntN(len(content))
		if i < 3 {
			sent = i // before anything, and within what the type is read from
		}
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		head := fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", path, len(content))
		if i%2 == 1 {
			head = fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", path, len(content))
		}
		_, err = conn.Write(append([]byte(head), content[:sent]...))
		require.NoError(t, err)
		if i%4 == 0 {
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, response.StatusCode)
		}
		require.NoError(t, conn.Close())
	}
	d.holds(t, 0)
	require.Equal(t, []string{"createUpload 200"}, d.audit(t))
	got := d.put(t, path, content)
	require.Equal(t, http.StatusCreated, got.StatusCode, "the same URL takes it in the end: %s", got.body)
	require.Equal(t, sum(content), d.reference(t, alice, id)["checksum"])
	d.holds(t, 1)
}

func TestTwentyUploadsAtOnceAllArrive(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			viewer := []models.Viewer{alice, bob}[i%2]
			content := noise(1<<20 + i)
			id := d.upload(t, viewer, fmt.Sprint(i), content)
			got := d.send(t, http.MethodGet, "/references/"+id+"/content", nil, "Authorization", bearer(t, viewer))
			if got.StatusCode != http.StatusOK || got.body != string(content) {
				t.Errorf("upload %d: %d, %d bytes", i, got.StatusCode, len(got.body))
			}
		})
	}
	all.Wait()
	d.holds(t, 20)
}

func TestOneUploadSentByManyAtOnceIsOneReference(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	send := func(contents ...[]byte) map[int]int {
		path, _ := d.announce(t, alice, nil)
		var mu sync.Mutex
		var all sync.WaitGroup
		statuses := map[int]int{}
		for _, content := range contents {
			all.Go(func() {
				got := d.put(t, path, content)
				mu.Lock()
				defer mu.Unlock()
				statuses[got.StatusCode]++
			})
		}
		all.Wait()
		return statuses
	}
	same := noise(1 << 20)
	require.Equal(t, map[int]int{201: 1, 200: 7}, send(same, same, same, same, same, same, same, same))
	d.holds(t, 1)
	require.Equal(t, map[int]int{201: 1, 409: 7}, send(noise(9), noise(10), noise(11), noise(12), noise(13), noise(14), noise(15), noise(16)))
	d.holds(t, 2)
}

func TestOrphansAreCollected(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	kept := d.upload(t, alice, "kept", []byte("kept"))
	gone := d.upload(t, bob, "gone", []byte("gone"))
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "1", "abandoned.part"), []byte("x"), 0o600))
	for name, after := range map[string]string{"1/abandoned": "now() - interval '1 second'", "1/in-the-making": "now() + interval '1 hour'"} {
		require.NoError(t, os.WriteFile(filepath.Join(d.dir, filepath.FromSlash(name)), []byte("x"), 0o600))
		_, err := d.owner.ExecContext(t.Context(), "INSERT INTO objects (path, user_id, collect_after) VALUES ($1, 1, "+after+")", name)
		require.NoError(t, err)
	}
	_, err := d.owner.ExecContext(t.Context(), "UPDATE objects SET collect_after = now() WHERE path = (SELECT file_path FROM \"references\" WHERE name = 'kept')")
	require.NoError(t, err)
	_, err = d.owner.ExecContext(t.Context(), "DELETE FROM users WHERE id = 2")
	require.NoError(t, err, "the references of a user go with them, and nobody tells us")
	_, err = d.owner.ExecContext(t.Context(), "INSERT INTO pending_uploads (user_id, name, type, expires_at) VALUES (1, 'old', 'other', now() - interval '3 hours')")
	require.NoError(t, err)

	var replicas sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 3 { // each looks at once when it begins
		files := *d.files
		replicas.Go(func() { files.Collect(ctx) })
	}
	d.holdsFiles(t, "1/in-the-making")
	stop()
	replicas.Wait()
	require.Equal(t, http.StatusOK, d.send(t, http.MethodGet, "/references/"+kept+"/content", nil, "Authorization", bearer(t, alice)).StatusCode)
	require.Equal(t, http.StatusNotFound, d.send(t, http.MethodGet, "/references/"+gone+"/content", nil, "Authorization", bearer(t, root)).StatusCode)
	require.Zero(t, d.number(t, "SELECT count(*) FROM pending_uploads WHERE name = 'old'"))
}

// holdsFiles waits until, beside the files of references, only this one is left.
func (d *depot) holdsFiles(t testing.TB, path string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return len(d.stored(t)) == 2 && d.number(t, "SELECT count(*) FROM objects") == 2 && d.number(t, "SELECT count(*) FROM objects WHERE path = $1", path) == 1
	}, time.Minute, 20*time.Millisecond)
}

// part is of a form: a file where it has a type.
type part struct{ name, file, mediaType, content string }

func (d *depot) form(t testing.TB, v *models.Viewer, parts ...part) reply {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, p := range parts {
		header := textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q`, p.name)}}
		if p.file != "" {
			header = textproto.MIMEHeader{"Content-Disposition": {fmt.Sprintf(`form-data; name=%q; filename=%q`, p.name, p.file)}, "Content-Type": {p.mediaType}}
		}
		to, err := form.CreatePart(header)
		require.NoError(t, err)
		_, err = io.WriteString(to, p.content)
		require.NoError(t, err)
	}
	require.NoError(t, form.Close())
	headers := []string{"Content-Type", form.FormDataContentType()}
	if v != nil {
		headers = append(headers, "Authorization", bearer(t, *v))
	}
	return d.send(t, http.MethodPost, "/graphql", &body, headers...)
}

func TestMultipartRequests(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	const one = `mutation($input: CreateReferenceInput!) { createReference(input: $input) { reference { ` + referenceFields + ` } userErrors { field code message } } }`
	operations := func(query string, variables object) part {
		text, err := json.Marshal(object{"query": query, "variables": variables})
		require.NoError(t, err)
		return part{name: "operations", content: string(text)}
	}
	input := func(more object) object {
		full := object{"file": nil, "type": "DATASET"}
		maps.Copy(full, more)
		return object{"input": full}
	}
	plan := part{name: "map", content: `{"0": ["variables.input.file"]}`}
	file := part{"0", "rows.csv", "text/csv", "a,b\n1,2\n3,4\n"}

	t.Run("bring a file", func(t *testing.T) {
		got := d.form(t, &alice, operations(one, input(object{"metadata": object{"k": 1}})), plan, file)
		require.Equal(t, http.StatusOK, got.StatusCode, got.body)
		made := object(got.json(t).at("data.createReference.reference").(map[string]any))
		require.Equal(t, "rows.csv", made["name"])
		require.Equal(t, "text/csv", made["mimeType"])
		require.Equal(t, file.content, made["content"])
		require.Equal(t, sum([]byte(file.content)), made["checksum"])
		require.Equal(t, file.content, d.send(t, http.MethodGet, made.text("downloadUrl"), nil).body)
		d.holds(t, 1)
	})

	t.Run("have one effect with one key", func(t *testing.T) {
		keyed := input(object{"idempotencyKey": "k", "name": "mine"})
		first := d.form(t, &alice, operations(one, keyed), plan, file).json(t).text("data.createReference.reference.id")
		again := d.form(t, &alice, operations(one, keyed), plan, file).json(t).text("data.createReference.reference.id")
		require.NotEmpty(t, first)
		require.Equal(t, first, again)
		other := d.form(t, &alice, operations(one, keyed), plan, part{"0", "rows.csv", "text/csv", "a,b\n9,9\n"})
		require.Equal(t, "CONFLICT", other.json(t).text("data.createReference.userErrors.0.code"), other.body)
		d.holds(t, 2)
	})

	t.Run("bring several", func(t *testing.T) {
		const two = `mutation($a: CreateReferenceInput!, $b: CreateReferenceInput!) { a: createReference(input: $a) { reference { content } } b: createReference(input: $b) { reference { content } userErrors { code } } }`
		variables := object{"a": input(nil)["input"], "b": input(object{"name": " "})["input"]}
		got := d.form(t, &alice, operations(two, variables), part{name: "map", content: `{"x": ["variables.a.file"], "y": ["variables.b.file"]}`},
			part{"y", "b.txt", "text/plain", "second"}, part{"x", "a.txt", "text/plain", "first"})
		require.Equal(t, "first", got.json(t).text("data.a.reference.content"), got.body)
		require.Equal(t, "BAD_USER_INPUT", got.json(t).text("data.b.userErrors.0.code"), got.body)
		d.holds(t, 3)
	})

	t.Run("are refused where they are malformed, and leave nothing", func(t *testing.T) {
		for name, c := range map[string]struct {
			status int
			parts  []part
		}{
			"no parts":                 {400, nil},
			"the file first":           {400, []part{file, operations(one, input(nil)), plan}},
			"no map":                   {400, []part{operations(one, input(nil)), file}},
			"no file":                  {400, []part{operations(one, input(nil)), plan}},
			"a file too many":          {400, []part{operations(one, input(nil)), plan, file, {"1", "x.txt", "text/plain", "x"}}},
			"one file twice":           {400, []part{operations(one, input(nil)), plan, file, file}},
			"another file":             {400, []part{operations(one, input(nil)), plan, {"1", "x.txt", "text/plain", "x"}}},
			"a map to nowhere":         {400, []part{operations(one, input(nil)), {name: "map", content: `{"0": ["variables.input.nowhere"]}`}, file}},
			"a map over a value":       {400, []part{operations(one, input(nil)), {name: "map", content: `{"0": ["variables.input.type"]}`}, file}},
			"a map to the query":       {400, []part{operations(one, input(nil)), {name: "map", content: `{"0": ["query"]}`}, file}},
			"a map to two":             {400, []part{operations(one, input(nil)), {name: "map", content: `{"0": ["variables.input.file", "variables.input.name"]}`}, file}},
			"a map that is none":       {400, []part{operations(one, input(nil)), {name: "map", content: `[]`}, file}},
			"a batch":                  {400, []part{{name: "operations", content: `[{"query":"{viewer{id}}"}]`}, plan, file}},
			"no JSON":                  {400, []part{{name: "operations", content: `{`}, plan, file}},
			"large operations":         {413, []part{{name: "operations", content: strings.Repeat(" ", 2<<20)}, plan, file}},
			"eleven files":             {413, []part{operations(one, input(nil)), {name: "map", content: `{"0":[],"1":[],"2":[],"3":[],"4":[],"5":[],"6":[],"7":[],"8":[],"9":[],"10":[]}`}}},
			"too large a file":         {413, []part{operations(one, input(nil)), plan, {"0", "x", "", string(noise(4<<20 + 1))}}},
			"a file of the wrong type": {415, []part{operations(one, input(nil)), plan, {"0", "x.png", "image/png", "text"}}},
		} {
			got := d.form(t, &alice, c.parts...)
			require.Equal(t, c.status, got.StatusCode, "%s: %s", name, got.body)
			require.NotEmpty(t, got.json(t).text("errors.0.extensions.code"), name)
		}
		require.Equal(t, http.StatusUnauthorized, d.form(t, nil, operations(one, input(nil)), plan, file).StatusCode, "a form of another site's has no token")
		unknown := d.form(t, &alice, operations("mutation($f: Upload!) { nothing(file: $f) { id } }", object{"f": nil}), part{name: "map", content: `{"0": ["variables.f"]}`}, file)
		require.Equal(t, "GRAPHQL_VALIDATION_FAILED", unknown.json(t).text("errors.0.extensions.code"), unknown.body)
		d.holds(t, 3)
	})

	t.Run("have names that the database can hold", func(t *testing.T) {
		for _, name := range []string{"a\xff", "a\xed\xa0\x80", strings.Repeat("x", 256)} {
			body := "--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n" + operations(one, input(nil)).content +
				"\r\n--x\r\nContent-Disposition: form-data; name=\"map\"\r\n\r\n" + plan.content +
				"\r\n--x\r\nContent-Disposition: form-data; name=\"0\"; filename=\"" + name + "\"\r\n\r\nhello\r\n--x--\r\n"
			got := d.send(t, http.MethodPost, "/graphql", strings.NewReader(body), "Content-Type", "multipart/form-data; boundary=x", "Authorization", bearer(t, alice))
			failure := object(got.json(t).at("data.createReference.userErrors.0").(map[string]any))
			require.Equal(t, []any{"BAD_USER_INPUT", "name"}, []any{failure["code"], failure.at("field.0")}, got.body)
		}
		lone := part{name: "operations", content: strings.Replace(operations(one, input(object{"name": "LONE"})).content, "LONE", `\ud800`, 1)}
		require.Equal(t, "BAD_USER_INPUT", d.form(t, &alice, lone, plan, file).json(t).text("errors.0.extensions.code"))
		nul := part{name: "operations", content: strings.Replace(operations(one, input(object{"name": "NUL"})).content, "NUL", `a\u0000`, 1)}
		require.Equal(t, "BAD_USER_INPUT", d.form(t, &alice, nul, plan, file).json(t).text("errors.0.extensions.code"))
		d.holds(t, 3)
	})

	t.Run("are the only way for a file", func(t *testing.T) {
		for _, file := range []any{"text", 1, object{"Path": "1/x"}, []string{}} {
			body, err := json.Marshal(object{"query": one, "variables": input(object{"file": file})})
			require.NoError(t, err)
			got := d.send(t, http.MethodPost, "/graphql", bytes.NewReader(body), "Content-Type", "application/json", "Authorization", bearer(t, alice))
			require.Equal(t, "BAD_USER_INPUT", got.json(t).text("errors.0.extensions.code"), got.body)
		}
	})
}
