package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
)

const secret = "0123456789abcdef0123456789abcdef"

// running is a netra that has printed its address.
type running struct {
	*exec.Cmd
	url    string
	stderr *bytes.Buffer // to be read when it has ended
}

// start runs netra with an environment of its own until it listens.
func start(t *testing.T, netra string, environment []string, arguments ...string) *running {
	t.Helper()
	r := &running{Cmd: exec.Command(netra, arguments...), stderr: &bytes.Buffer{}}
	r.Env, r.Stderr = append(withoutNetra(), environment...), r.stderr
	output, err := r.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, r.Start())
	t.Cleanup(func() {
		if r.ProcessState == nil {
			_ = r.Process.Signal(syscall.SIGTERM) // it has ended by itself
			_ = r.Wait()                          // the test has failed already
		}
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		_ = r.Wait()
		require.NoError(t, err, r.stderr.String())
	}
	address, found := strings.CutPrefix(strings.TrimSpace(line), "netra: ")
	require.True(t, found, line)
	r.url = address
	return r
}

// stop ends netra as a service manager does.
func (r *running) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, r.Process.Signal(syscall.SIGTERM))
	require.NoError(t, r.Wait(), r.stderr.String())
}

func withoutNetra() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "NETRA_") || name == "NETRA_PG_BIN" || name == "NETRA_CHDB_LIB" {
			kept = append(kept, variable)
		}
	}
	return kept
}

func (r *running) get(t *testing.T, path string) (status int, body string) {
	t.Helper()
	response, err := http.Get(r.url + path)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func (r *running) query(t *testing.T, token, query string) string {
	t.Helper()
	body, err := json.Marshal(map[string]string{"query": query})
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/graphql", bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}

func TestServe(t *testing.T) {
	t.Parallel()
	netra := buildNetra(t)

	t.Run("answers from the databases that the environment names", func(t *testing.T) {
		t.Parallel()
		db := testdb.New(t)
		_, err := db.Owner(t).Exec(`INSERT INTO users (email, is_active) VALUES ('ann@example.com', true), ('gone@example.com', false)`)
		require.NoError(t, err)
		environment := []string{"NETRA_ADDR=127.0.0.1:0", "NETRA_DATABASE_URL=" + db.AppURL, "NETRA_CLICKHOUSE_URL=" + db.ClickHouseURL, "NETRA_SECRET=" + secret, "NETRA_DATA_DIR=" + t.TempDir()}
		r := start(t, netra, environment, "serve", "--trust-proxy", "127.0.0.0/8")
		status, body := r.get(t, "/readyz")
		require.Equal(t, http.StatusOK, status, body)
		require.JSONEq(t, `{"status":"ready","checks":{"postgres":"ok","clickhouse":"ok","objects":"ok"}}`, body)
		status, body = r.get(t, "/playground/config.json")
		require.Equal(t, http.StatusOK, status)
		require.JSONEq(t, `{"users":[],"dev":false}`, body, "only development gives tokens away")

		token := issue(t, netra, environment, "--email", "ann@example.com")
		require.JSONEq(t, `{"data":{"viewer":{"email":"ann@example.com","threads":{"totalCount":0}}}}`, r.query(t, token, "{viewer{email threads{totalCount}}}"))

		var made struct {
			Data struct{ CreateAPIKey struct{ Token string } }
		}
		require.NoError(t, json.Unmarshal([]byte(r.query(t, token, `mutation{createApiKey(input:{name:"ci",permissions:[READ]}){token}}`)), &made))
		key := made.Data.CreateAPIKey.Token
		require.JSONEq(t, `{"data":{"viewer":{"email":"ann@example.com"}}}`, r.query(t, key, "{viewer{email}}"))
		require.Contains(t, r.query(t, key, `mutation{createThread(input:{}){userErrors{code}}}`), "FORBIDDEN")
		var audited string
		require.NoError(t, db.Owner(t).QueryRow(`SELECT string_agg(concat_ws(' ', action, response_status, host(ip_address), user_agent, request_id IS NOT NULL), ', ' ORDER BY id) FROM audit_logs`).Scan(&audited))
		require.Equal(t, "createApiKey 200 203.0.113.9 Go-http-client/1.1 t, createThread 403 203.0.113.9 Go-http-client/1.1 t", audited)

		output, err := command(netra, environment, "serve", "--addr", strings.TrimPrefix(r.url, "http://")).CombinedOutput()
		require.Error(t, err)
		require.Equal(t, fmt.Sprintf("netra: address %s is in use: stop what listens there, or choose another with --addr or NETRA_ADDR\n",
			strings.TrimPrefix(r.url, "http://")), string(output))
		for user, says := range map[string]string{"nobody@example.com": "there is no user nobody@example.com", "gone@example.com": "the account of gone@example.com is not active"} {
			output, err := command(netra, environment, "token", "--email", user).CombinedOutput()
			require.Error(t, err)
			require.Equal(t, "netra: "+says+"\n", string(output))
		}
		r.stop(t)
		for line := range strings.Lines(r.stderr.String()) {
			require.True(t, json.Valid([]byte(line)), "the log is JSON: %s", line)
		}
	})

	t.Run("starts without its databases and recovers", func(t *testing.T) {
		t.Parallel()
		db := testdb.New(t)
		_, err := db.Owner(t).Exec(`INSERT INTO users (email) VALUES ('ann@example.com')`)
		require.NoError(t, err)
		postgres, clickhouse := newDoor(t, db.AppURL), newDoor(t, db.ClickHouseURL)
		environment := []string{"NETRA_ADDR=127.0.0.1:0", "NETRA_DATABASE_URL=" + postgres.url, "NETRA_CLICKHOUSE_URL=" + clickhouse.url, "NETRA_SECRET=" + secret, "NETRA_DATA_DIR=" + t.TempDir()}
		token := issue(t, netra, []string{"NETRA_DATABASE_URL=" + db.AppURL, "NETRA_SECRET=" + secret}, "--email", "ann@example.com")
		r := start(t, netra, environment, "serve")
		readyz := func(status int, state string) {
			t.Helper()
			require.Eventually(t, func() bool {
				got, body := r.get(t, "/readyz")
				return got == status && strings.Contains(body, `"status":"`+state+`"`)
			}, 2*time.Minute, 50*time.Millisecond, "%d %s", status, state)
		}
		readyz(http.StatusServiceUnavailable, "unavailable")
		status, _ := r.get(t, "/healthz")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, r.query(t, token, "{viewer{email}}"), "DATABASE_UNAVAILABLE")

		postgres.open(t)
		readyz(http.StatusOK, "degraded")
		require.JSONEq(t, `{"data":{"viewer":{"email":"ann@example.com"}}}`, r.query(t, token, "{viewer{email}}"))
		const metrics = `{viewer{email metrics(range:{from:"2026-01-01T00:00:00Z",to:"2026-01-02T00:00:00Z"}){metric}}}`
		require.Contains(t, r.query(t, token, metrics), "ANALYTICS_UNAVAILABLE")

		clickhouse.open(t)
		readyz(http.StatusOK, "ready")
		require.JSONEq(t, `{"data":{"viewer":{"email":"ann@example.com","metrics":[]}}}`, r.query(t, token, metrics))

		postgres.shut()
		readyz(http.StatusServiceUnavailable, "unavailable")
		postgres.open(t)
		readyz(http.StatusOK, "ready")
		require.JSONEq(t, `{"data":{"viewer":{"email":"ann@example.com"}}}`, r.query(t, token, "{viewer{email}}"))
		r.stop(t)
	})

	t.Run("takes files of any size in bounded memory", func(t *testing.T) {
		t.Parallel()
		uploadsTakeBoundedMemory(t, netra)
	})

	t.Run("says in a line each what is missing or malformed", func(t *testing.T) {
		t.Parallel()
		for want, environment := range map[string][]string{
			"netra: NETRA_DATABASE_URL is not set: it is a URL that begins with postgres://\n" +
				"NETRA_CLICKHOUSE_URL is not set: it is a URL that begins with http://\n" +
				"NETRA_SECRET is not set: it signs bearer tokens; make one with `openssl rand -hex 32`\n": nil,
			"netra: NETRA_DATABASE_URL must be a URL that begins with postgres:// or postgresql://\n" +
				"NETRA_CLICKHOUSE_URL has no host\n" +
				"NETRA_SECRET has 5 bytes; it needs at least 32: make one with `openssl rand -hex 32`\n": {
				"NETRA_DATABASE_URL=mysql://app:hunter2@db/netra", "NETRA_CLICKHOUSE_URL=http:///db", "NETRA_SECRET=short"},
			"netra: NETRA_DATABASE_URL is not a URL: invalid port \":x\" after host\n": {
				"NETRA_DATABASE_URL=postgres://app:hunter2@db:x/netra", "NETRA_CLICKHOUSE_URL=http://ch:8123/db", "NETRA_SECRET=" + secret},
			"netra: address 192.0.2.1:1 cannot be listened on: listen tcp 192.0.2.1:1: bind: cannot assign requested address\n": {
				"NETRA_ADDR=192.0.2.1:1", "NETRA_DATABASE_URL=postgres://db/netra", "NETRA_CLICKHOUSE_URL=http://ch:8123/db", "NETRA_SECRET=" + secret},
		} {
			output, err := command(netra, environment, "serve").CombinedOutput()
			require.Error(t, err)
			require.Equal(t, want, string(output))
		}
	})
}

func TestDev(t *testing.T) {
	t.Parallel()
	netra, dir := buildNetra(t), reachableDirectory(t)
	environment := []string{"NETRA_ADDR=127.0.0.1:0", "NETRA_DATA_DIR=" + dir}
	r := start(t, netra, environment, "dev")

	status, body := r.get(t, "/playground/config.json")
	require.Equal(t, http.StatusOK, status)
	var page struct {
		Dev   bool
		Users []struct {
			Email, Token string
			Superuser    bool
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &page))
	require.True(t, page.Dev)
	require.Len(t, page.Users, 3)
	for i, email := range []string{"alice@example.com", "bob@example.com", "admin@example.com"} {
		require.Equal(t, email, page.Users[i].Email)
		require.Equal(t, i == 2, page.Users[i].Superuser)
		require.Contains(t, r.query(t, page.Users[i].Token, "{viewer{email threads(first:1){nodes{id}}}}"), `"email":"`+email+`"`)
	}

	t.Run("gives no tokens to a page of somebody else's name", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+"/playground/config.json", nil)
		require.NoError(t, err)
		request.Host = "rebound.example.com"
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, errors.Join(err, response.Body.Close()))
		require.JSONEq(t, `{"users":[],"dev":false}`, string(text))
	})

	t.Run("shows runs that the simulated agents move", func(t *testing.T) {
		latest := func() string {
			return r.query(t, page.Users[2].Token, "{users{nodes{runs(first:1){nodes{id status version}}}}}")
		}
		before := latest()
		require.NotContains(t, before, "errors")
		require.Eventually(t, func() bool { return latest() != before }, 2*time.Minute, 100*time.Millisecond)
	})

	t.Run("is found by the commands beside it", func(t *testing.T) {
		token := issue(t, netra, environment, "--email", "bob@example.com", "--ttl", "1m")
		require.JSONEq(t, `{"data":{"viewer":{"email":"bob@example.com"}}}`, r.query(t, token, "{viewer{email}}"))
	})

	for name, mode := range map[string]os.FileMode{"secret": 0o600, "dev.env": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
	r.stop(t)
	require.NoFileExists(t, filepath.Join(dir, "dev.env"))

	again := start(t, netra, environment, "dev", "--no-agents")
	require.Contains(t, again.query(t, page.Users[0].Token, "{viewer{email}}"), "alice@example.com", "data and secret are kept")
	again.stop(t)
}

func command(netra string, environment []string, arguments ...string) *exec.Cmd {
	c := exec.Command(netra, arguments...)
	c.Env = append(withoutNetra(), environment...)
	return c
}

func issue(t *testing.T, netra string, environment []string, arguments ...string) string {
	t.Helper()
	c := command(netra, environment, append([]string{"token"}, arguments...)...)
	var failure bytes.Buffer
	c.Stderr = &failure
	output, err := c.Output()
	require.NoError(t, err, failure.String())
	return strings.TrimSpace(string(output))
}

// door stands before a server. Shut, nobody listens there and whoever was inside is thrown out.
type door struct {
	url, address, behind string

	mu       sync.Mutex
	listener net.Listener
	inside   []net.Conn
}

// newDoor is shut.
func newDoor(t *testing.T, rawURL string) *door {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d := &door{address: listener.Addr().String(), behind: u.Host}
	require.NoError(t, listener.Close())
	u.Host = d.address
	d.url = u.String()
	t.Cleanup(d.shut)
	return d
}

func (d *door) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", d.address)
	require.NoError(t, err)
	d.mu.Lock()
	d.listener = listener
	d.mu.Unlock()
	go func() {
		for {
			guest, err := listener.Accept()
			if err != nil {
				return
			}
			host, err := net.Dial("tcp", d.behind)
			if err != nil {
				_ = guest.Close()
				continue
			}
			d.mu.Lock()
			d.inside = append(d.inside, guest, host)
			d.mu.Unlock()
			for _, way := range [][2]net.Conn{{guest, host}, {host, guest}} {
				go func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				}()
			}
		}
	}()
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		_ = d.listener.Close()
	}
	for _, conn := range d.inside {
		_ = conn.Close()
	}
	d.inside = nil
}
