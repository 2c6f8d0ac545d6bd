package app_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/app"
	"github.com/netra-ai/netra/server"
)

// stall sends a request's head, reads that of the answer, and leaves it at that until the test ends. A file to be sent it announces with Expect: 100-continue.
func (d *depot) stall(t *testing.T, head string) *http.Response {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		controlErr := conn.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
		if err == nil {
			err = controlErr
		}
		return err
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(d.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "%s\r\nHost: x\r\n\r\n", strings.Replace(head, "\n", " HTTP/1.1\r\n", 1))
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
	require.NoError(t, err)
	return response
}

// untilRefused stalls until the answer is 429, and says how many had a place.
func (d *depot) untilRefused(t *testing.T, status int, head string) (places int) {
	t.Helper()
	for ; ; places++ {
		got := d.stall(t, head)
		if got.StatusCode != http.StatusTooManyRequests {
			require.Equal(t, status, got.StatusCode)
			continue
		}
		require.NotEmpty(t, got.Header.Get("Retry-After"))
		return places
	}
}

func TestOneUserCannotTakeAllPlacesForUploads(t *testing.T) {
	t.Parallel()
	d := openDepotWithin(t, server.Limits{Uploads: 8})
	path, _ := d.announce(t, alice, nil)
	held := d.untilRefused(t, http.StatusContinue, "PUT "+path+"\nContent-Length: 10\r\nExpect: 100-continue")
	require.Equal(t, 6, held)
	refused := d.put(t, path, []byte("hello"))
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	require.Equal(t, "RATE_LIMITED", refused.json(t).text("errors.0.extensions.code"))
	form := []part{{name: "operations", content: `{"query": "mutation($f: Upload!) { createReference(input: {file: $f, type: OTHER}) { reference { id } } }", "variables": {"f": null}}`},
		{name: "map", content: `{"0": ["variables.f"]}`}, {"0", "a.txt", "text/plain", "hello"}}
	require.Equal(t, http.StatusTooManyRequests, d.form(t, &alice, form...).StatusCode)

	d.upload(t, bob, "b.txt", []byte("hello"))
	require.Equal(t, http.StatusOK, d.form(t, &bob, form...).StatusCode)
}

func TestOneUserCannotTakeAllPlacesForDownloadsAndStalledOnesEnd(t *testing.T) {
	t.Parallel()
	d := openDepotWithin(t, server.Limits{Downloads: 8, Stall: 6 * time.Second}, func(cfg *app.FilesConfig) { cfg.Limit = 32 << 20 })
	large := d.upload(t, alice, "large", noise(24<<20))
	small := "/references/" + d.upload(t, alice, "small", []byte("hello")) + "/content"
	theirs := "/references/" + d.upload(t, bob, "b.txt", []byte("hello")) + "/content"
	held := d.untilRefused(t, http.StatusOK, "GET "+d.reference(t, alice, large).text("downloadUrl")+"\nAccept: */*")
	require.GreaterOrEqual(t, held, 6)
	refused := d.send(t, http.MethodGet, small, nil, "Authorization", bearer(t, alice))
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	require.Equal(t, "RATE_LIMITED", refused.json(t).text("errors.0.extensions.code"))
	require.Equal(t, "hello", d.send(t, http.MethodGet, theirs, nil, "Authorization", bearer(t, bob)).body)
	require.Eventually(t, func() bool {
		return d.send(t, http.MethodGet, small, nil, "Authorization", bearer(t, alice)).StatusCode == http.StatusOK
	}, time.Minute, 50*time.Millisecond, "whoever reads nothing is cut off")
}

// sending is an upload under way: what comes through the pipe is its body.
func (d *depot) sending(t *testing.T, send func(body io.Reader) reply) (to *io.PipeWriter, answer <-chan reply) {
	t.Helper()
	body, to := io.Pipe()
	var before string // what earlier uploads have left may go meanwhile
	require.NoError(t, d.owner.QueryRowContext(t.Context(), "SELECT coalesce(array_agg(path), '{}')::text FROM objects").Scan(&before))
	answers := make(chan reply, 1)
	go func() { answers <- send(body) }()
	_, err := to.Write(noise(100_000))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		var come bool
		require.NoError(t, d.owner.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT FROM objects WHERE path != ALL ($1::text[]))", before).Scan(&come))
		require.Empty(t, answers, "it was answered before it had come")
		return come
	}, time.Minute, 10*time.Millisecond)
	return to, answers
}

func TestAnUploadIsOnlyFinishedByWhoeverStillMay(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	for name, c := range map[string]struct {
		change string // of what alice and her key may
		status int
	}{
		"the account is closed":   {"UPDATE users SET is_active = false WHERE id = 1", http.StatusUnauthorized},
		"the key is revoked":      {"UPDATE api_keys SET is_active = false", http.StatusUnauthorized},
		"the key has expired":     {"UPDATE api_keys SET expires_at = now()", http.StatusUnauthorized},
		"the key may only read":   {"UPDATE api_keys SET permissions = '{read}'", http.StatusForbidden},
		"nothing of hers changed": {"UPDATE users SET is_active = false WHERE id = 2", http.StatusCreated},
	} {
		_, err := d.owner.ExecContext(t.Context(), "UPDATE users SET is_active = true")
		require.NoError(t, err)
		key := "Bearer " + d.ask(t, alice, `mutation { createApiKey(input: {name: "bot", permissions: [WRITE]}) { token } }`, nil).text("createApiKey.token")
		announced := d.send(t, http.MethodPost, "/graphql", strings.NewReader(`{"query": "mutation { createUpload(input: {name: \"x\", type: OTHER}) { upload { url } } }"}`),
			"Content-Type", "application/json", "Authorization", key)
		path := announced.json(t).text("data.createUpload.upload.url")
		put, finished := d.sending(t, func(body io.Reader) reply { return d.send(t, http.MethodPut, path, body) })
		form, formed := d.sending(t, func(body io.Reader) reply {
			head := "--x\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n" +
				`{"query": "mutation($f: Upload!) { createReference(input: {file: $f, type: OTHER}) { reference { id } userErrors { code } } }", "variables": {"f": null}}` +
				"\r\n--x\r\nContent-Disposition: form-data; name=\"map\"\r\n\r\n{\"0\": [\"variables.f\"]}" +
				"\r\n--x\r\nContent-Disposition: form-data; name=\"0\"; filename=\"a\"\r\n\r\n"
			return d.send(t, http.MethodPost, "/graphql", io.MultiReader(strings.NewReader(head), body, strings.NewReader("\r\n--x--\r\n")),
				"Content-Type", "multipart/form-data; boundary=x", "Authorization", key)
		})
		_, err = d.owner.ExecContext(t.Context(), c.change)
		require.NoError(t, err)
		require.NoError(t, put.Close())
		require.NoError(t, form.Close())
		got, gotForm := <-finished, <-formed
		require.Equal(t, c.status, got.StatusCode, "%s: %s", name, got.body)
		if c.status == http.StatusCreated {
			require.NotEmpty(t, gotForm.json(t).text("data.createReference.reference.id"), gotForm.body)
			continue
		}
		require.Contains(t, gotForm.body, got.json(t).text("errors.0.extensions.code"), name)
		require.Empty(t, gotForm.json(t).text("data.createReference.reference.id"), gotForm.body)
	}
	d.holds(t, 2)
}

func TestACompleteUploadIsNotReceivedAgain(t *testing.T) {
	t.Parallel()
	d := openDepot(t)
	content := noise(100_000)
	path, id := d.announce(t, alice, nil)
	digest := func(content []byte) string {
		sum := sha256.Sum256(content)
		return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
	}
	for _, header := range []string{"Repr-Digest", "Content-Digest"} {
		wrong := d.put(t, path, content, header, "sha-512=:AAAA:, "+digest(content[1:]))
		require.Equal(t, http.StatusBadRequest, wrong.StatusCode, "what comes is held against what was said")
		malformed := d.put(t, path, content, header, "sha-256=:AAAA:")
		require.Equal(t, http.StatusBadRequest, malformed.StatusCode)
	}
	d.holds(t, 0)
	require.Equal(t, http.StatusCreated, d.put(t, path, content, "Repr-Digest", digest(content)).StatusCode)

	head := func(length int, headers string) string {
		return fmt.Sprintf("PUT %s\nContent-Length: %d%s", path, length, headers)
	}
	for _, expect := range []string{"", "\r\nExpect: 100-continue"} {
		same := d.stall(t, head(len(content), "\r\nRepr-Digest: "+digest(content)+expect))
		require.Equal(t, http.StatusOK, same.StatusCode, "before any of it has come")
		require.Equal(t, "/references/"+id+"/content", same.Header.Get("Location"))
		require.Equal(t, http.StatusConflict, d.stall(t, head(len(content), "\r\nRepr-Digest: "+digest(content[1:])+expect)).StatusCode)
		require.Equal(t, http.StatusConflict, d.stall(t, head(len(content)+1, expect)).StatusCode)
	}
	require.Equal(t, http.StatusContinue, d.stall(t, head(len(content), "\r\nExpect: 100-continue")).StatusCode, "whether it is the same can only be seen")
	objects := d.number(t, "SELECT count(*) FROM objects")
	require.Equal(t, http.StatusOK, d.put(t, path, content).StatusCode)
	require.Equal(t, http.StatusOK, d.send(t, http.MethodPut, path, io.MultiReader(bytes.NewReader(content))).StatusCode, "of unknown length")
	require.Equal(t, http.StatusConflict, d.send(t, http.MethodPut, path, io.MultiReader(bytes.NewReader(content[1:]))).StatusCode)
	require.Equal(t, http.StatusConflict, d.put(t, path, noise(len(content))).StatusCode)
	require.Equal(t, objects, d.number(t, "SELECT count(*) FROM objects"), "nothing of it goes to the storage")
	d.holds(t, 1)
}
