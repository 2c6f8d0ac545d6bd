package app_test

import (
	"bufio"
	"fmt"
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
	d := openDepotWithin(t, server.Limits{Downloads: 8, Stall: 3 * time.Second}, func(cfg *app.FilesConfig) { cfg.Limit = 32 << 20 })
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
	}, 20*time.Second, 50*time.Millisecond, "whoever reads nothing is cut off")
}
