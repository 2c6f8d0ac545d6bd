package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
)

// zeros is a file that is made while it is read.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// memory is a field of /proc/PID/status, in bytes.
func (r *running) memory(t *testing.T, field string) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Process.Pid))
	if err != nil {
		t.Skip("this machine does not say how much memory a process has")
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, field+":"); found {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			require.NoError(t, err)
			return kilobytes << 10
		}
	}
	require.FailNow(t, "no "+field)
	panic("unreachable")
}

// uploadsTakeBoundedMemory sends 64 MiB, or as much as NETRA_TEST_UPLOAD says in bytes, by both ways, and takes it back.
func uploadsTakeBoundedMemory(t *testing.T, netra string) {
	size := int64(64 << 20)
	if given := os.Getenv("NETRA_TEST_UPLOAD"); given != "" {
		var err error
		size, err = strconv.ParseInt(given, 10, 64)
		require.NoError(t, err)
	}
	db, dir := testdb.New(t), t.TempDir()
	_, err := db.Owner(t).Exec(`INSERT INTO users (email) VALUES ('ann@example.com')`)
	require.NoError(t, err)
	environment := []string{"NETRA_ADDR=127.0.0.1:0", "NETRA_DATABASE_URL=" + db.AppURL, "NETRA_CLICKHOUSE_URL=" + db.ClickHouseURL, "NETRA_SECRET=" + secret, "NETRA_DATA_DIR=" + dir}
	token := issue(t, netra, environment, "--email", "ann@example.com")
	r := start(t, netra, environment, "serve")
	var announced struct {
		Data struct {
			CreateUpload struct {
				Upload struct{ URL, ReferenceID string }
			}
		}
	}
	answer := r.query(t, token, `mutation{createUpload(input:{name:"zeros",type:MODEL}){upload{url referenceId}}}`)
	require.NoError(t, json.Unmarshal([]byte(answer), &announced), answer)
	upload := announced.Data.CreateUpload.Upload
	send := func(method, path string, body io.Reader, length int64, header http.Header) (status int, text string) {
		request, err := http.NewRequestWithContext(t.Context(), method, r.url+path, body)
		require.NoError(t, err)
		request.ContentLength = length
		request.Header = header
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		if method == http.MethodGet {
			n, err := io.Copy(io.Discard, response.Body)
			require.NoError(t, err)
			return response.StatusCode, fmt.Sprint(n)
		}
		answered, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(answered)
	}
	before := r.memory(t, "VmRSS")

	status, text := send(http.MethodPut, upload.URL, io.LimitReader(zeros{}, size), size, http.Header{})
	require.Equal(t, http.StatusCreated, status, text)

	const boundary = "b"
	head := "--b\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n" +
		`{"query":"mutation($f: Upload!){createReference(input:{file:$f,type:MODEL}){reference{fileSize} userErrors{message}}}","variables":{"f":null}}` +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"map\"\r\n\r\n" + `{"0":["variables.f"]}` +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"0\"; filename=\"zeros\"\r\n\r\n"
	status, text = send(http.MethodPost, "/graphql", io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, size), bytes.NewReader([]byte("\r\n--b--\r\n"))), -1,
		http.Header{"Content-Type": {"multipart/form-data; boundary=" + boundary}, "Authorization": {"Bearer " + token}})
	require.Equal(t, http.StatusOK, status, text)
	require.JSONEq(t, fmt.Sprintf(`{"data":{"createReference":{"reference":{"fileSize":"%d"},"userErrors":[]}}}`, size), text)

	status, text = send(http.MethodGet, "/references/"+upload.ReferenceID+"/content", nil, 0, http.Header{"Authorization": {"Bearer " + token}})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, fmt.Sprint(size), text)

	grown := r.memory(t, "VmHWM") - before
	t.Logf("%d MiB each way: %d MiB more at most", size>>20, grown>>20)
	require.LessOrEqual(t, grown, int64(64<<20))

	var files int
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "objects"), func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files++
		}
		return err
	}))
	require.Equal(t, 2, files)
	r.stop(t)
}
