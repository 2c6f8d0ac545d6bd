package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics/ingest"
	"github.com/netra-ai/netra/server"
)

const (
	ndjson    = "application/x-ndjson"
	oneEvent  = `{"workload_id":"w","metrics":[{"name":"n","value":1}]}`
	ingestURL = "/ingest/events"
)

// spooling takes events into a spool of the test's own, from where nothing takes them to ClickHouse.
func spooling(t *testing.T, limit int64) (*ingest.Ingester, func(*server.Config)) {
	t.Helper()
	i, err := ingest.New(ingest.Config{URL: "http://127.0.0.1:1/nowhere", Dir: filepath.Join(t.TempDir(), "spool"), Limit: limit})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.Close()) })
	return i, func(cfg *server.Config) { cfg.Ingest, cfg.Limits.Events = i.RecordLines, 1<<20 }
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := io.WriteString(w, text)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return packed.String()
}

func zstandard(t *testing.T, text string, options ...zstd.EOption) string {
	t.Helper()
	w, err := zstd.NewWriter(nil, options...)
	require.NoError(t, err)
	return string(w.EncodeAll([]byte(text), nil))
}

func TestIngest_Requests(t *testing.T) {
	t.Parallel()
	i, spooled := spooling(t, 0)
	e := open(t, spooled)
	_, limited := spooling(t, 1)
	full := open(t, limited)
	two := oneEvent + "\n\r\n" + oneEvent
	bomb := strings.Repeat(strings.Repeat(" ", 1000)+"\n", 2000)
	for name, test := range map[string]struct {
		edge         *edge
		method, body string
		user         int
		headers      []string
		status       int
		code, says   string
		accepted     int
	}{
		"two events":                         {body: two, status: 200, accepted: 2},
		"UTF-8 by name":                      {body: two, headers: []string{"Content-Type", ndjson + "; charset=UTF-8"}, status: 200, accepted: 2},
		"the other name of NDJSON":           {body: two, headers: []string{"Content-Type", "application/ndjson"}, status: 200, accepted: 2},
		"gzip":                               {body: gzipped(t, two), headers: []string{"Content-Encoding", "gzip"}, status: 200, accepted: 2},
		"zstd":                               {body: zstandard(t, two), headers: []string{"Content-Encoding", "zstd"}, status: 200, accepted: 2},
		"no compression by name":             {body: two, headers: []string{"Content-Encoding", "identity"}, status: 200, accepted: 2},
		"a superuser's event for another":    {body: `{"workload_id":"w","user_id":77}`, user: super, status: 200, accepted: 1},
		"an event for another":               {body: `{"workload_id":"w","user_id":77}`, status: 403, code: "FORBIDDEN", says: "line 1: only superusers"},
		"nobody's events":                    {body: two, user: -1, status: 401, code: "UNAUTHENTICATED"},
		"a token that is none":               {body: two, headers: []string{"Authorization", "Bearer nonsense"}, status: 401, code: "UNAUTHENTICATED"},
		"somebody inactive":                  {body: two, user: inactive, status: 401, code: "UNAUTHENTICATED"},
		"a token while the database is away": {body: two, user: homeless, status: 503, code: "DATABASE_UNAVAILABLE"},
		"GET":                                {method: "GET", status: 405, code: "BAD_USER_INPUT"},
		"JSON":                               {body: two, headers: []string{"Content-Type", jsonType}, status: 415, code: "BAD_USER_INPUT"},
		"no content type":                    {body: two, headers: []string{"Content-Type", ""}, status: 415, code: "BAD_USER_INPUT"},
		"another alphabet":                   {body: two, headers: []string{"Content-Type", ndjson + "; charset=latin1"}, status: 415, code: "BAD_USER_INPUT"},
		"another compression":                {body: two, headers: []string{"Content-Encoding", "br"}, status: 415, code: "BAD_USER_INPUT"},
		"two compressions":                   {body: two, headers: []string{"Content-Encoding", "gzip, zstd"}, status: 415, code: "BAD_USER_INPUT"},
		"gzip that is not":                   {body: two, headers: []string{"Content-Encoding", "gzip"}, status: 400, code: "BAD_USER_INPUT", says: "could not be read"},
		"zstd that is not":                   {body: two, headers: []string{"Content-Encoding", "zstd"}, status: 400, code: "BAD_USER_INPUT", says: "could not be read"},
		"gzip that is cut off":               {body: gzipped(t, two)[:30], headers: []string{"Content-Encoding", "gzip"}, status: 400, code: "BAD_USER_INPUT", says: "could not be read"},
		"a gzip bomb":                        {body: gzipped(t, bomb), headers: []string{"Content-Encoding", "gzip"}, status: 413, code: "TOO_COMPLEX", says: "1048576 bytes"},
		"a zstd bomb":                        {body: zstandard(t, bomb), headers: []string{"Content-Encoding", "zstd"}, status: 413, code: "TOO_COMPLEX", says: "1048576 bytes"},
		"too many bytes":                     {body: bomb, status: 413, code: "TOO_COMPLEX", says: "1048576 bytes"},
		"a large zstd window":                {body: windowed(t), headers: []string{"Content-Encoding", "zstd"}, status: 400, code: "BAD_USER_INPUT", says: "window"},
		"no events":                          {body: "\n \n", status: 400, code: "BAD_USER_INPUT", says: "no events"},
		"a line that is wrong":               {body: oneEvent + "\n{}", status: 400, code: "BAD_USER_INPUT", says: "line 2: workload_id is missing"},
		"a long key":                         {body: two, headers: []string{"Idempotency-Key", strings.Repeat("k", 300)}, status: 400, code: "BAD_USER_INPUT", says: "idempotency key"},
		"a full spool":                       {edge: full, body: two, status: 503, code: "ANALYTICS_UNAVAILABLE", says: "try again later"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.edge == nil {
				test.edge = e
			}
			if test.method == "" {
				test.method = http.MethodPost
			}
			if test.user == 0 {
				test.user = ordinary
			}
			headers := test.headers
			if _, given := headerOf(headers)["Content-Type"]; !given {
				headers = append(headers, "Content-Type", ndjson)
			}
			if _, given := headerOf(headers)["Authorization"]; !given && test.user > 0 {
				headers = append(headers, "Authorization", "Bearer "+tokenOf(t, test.user))
			}
			before := i.Stats().Accepted
			x := test.edge.ask(t, test.method, ingestURL, test.body, headers...)
			require.Equal(t, test.status, x.status, x.body)
			require.EqualValues(t, test.accepted, i.Stats().Accepted-before)
			if test.code == "" {
				require.JSONEq(t, fmt.Sprintf(`{"accepted":%d}`, test.accepted), x.body)
				return
			}
			require.Equal(t, test.code, x.codes()[0], x.body)
			require.Contains(t, x.body, test.says)
			require.Equal(t, test.status == http.StatusServiceUnavailable, x.header.Get("Retry-After") != "")
		})
	}
}

// windowed is a zstd frame that asks its reader to keep more than is allowed.
func windowed(t *testing.T) string {
	t.Helper()
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed, zstd.WithWindowSize(64<<20))
	require.NoError(t, err)
	_, err = io.WriteString(w, strings.Repeat(oneEvent+"\n", 1_300_000))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return packed.String()
}

func TestIngest_TellsEachLineThatIsWrong(t *testing.T) {
	t.Parallel()
	i, spooled := spooling(t, 0)
	e := open(t, spooled)
	x := e.ask(t, http.MethodPost, ingestURL, oneEvent+"\n{}\n\n"+oneEvent+"\n[]\n"+strings.Repeat("{}\n", 30), "Content-Type", ndjson, "Authorization", "Bearer "+tokenOf(t, ordinary))
	require.Equal(t, http.StatusBadRequest, x.status)
	require.Len(t, x.answer.Errors, 21)
	for n, line := range []float64{2, 5, 6} {
		require.Equal(t, line, x.answer.Errors[n].Extensions["line"])
	}
	require.Equal(t, "line 5: an event must be a JSON object", x.answer.Errors[1].Message)
	require.Contains(t, x.answer.Errors[20].Message, "not looked at")
	require.Zero(t, i.Stats().Accepted, "the right ones are not taken either")
}

func TestIngest_TakesSoManyRequestsAtOnce(t *testing.T) {
	t.Parallel()
	const places = 64
	entered, release := make(chan struct{}, places), make(chan struct{})
	e := open(t, func(cfg *server.Config) {
		cfg.Ingest = func(context.Context, io.Reader, string) (int, error) {
			entered <- struct{}{}
			<-release
			return 1, nil
		}
	})
	var all sync.WaitGroup
	for range places {
		all.Go(func() {
			e.ask(t, http.MethodPost, ingestURL, oneEvent, "Content-Type", ndjson, "Authorization", "Bearer "+tokenOf(t, ordinary))
		})
	}
	for range places {
		within(t, entered)
	}
	x := e.ask(t, http.MethodPost, ingestURL, oneEvent, "Content-Type", ndjson, "Authorization", "Bearer "+tokenOf(t, ordinary))
	require.Equal(t, http.StatusTooManyRequests, x.status)
	require.Equal(t, []string{"RATE_LIMITED"}, x.codes())
	require.NotEmpty(t, x.header.Get("Retry-After"))
	close(release)
	all.Wait()
}

func TestIngest_ARequestThatHasBegunEndsBeforeTheServer(t *testing.T) {
	t.Parallel()
	i, spooled := spooling(t, 0)
	entered := make(chan struct{}, 1)
	s := serve(t, spooled, func(cfg *server.Config) {
		take := cfg.Ingest
		cfg.Ingest = func(ctx context.Context, lines io.Reader, key string) (int, error) {
			entered <- struct{}{}
			return take(ctx, lines, key)
		}
	})
	body, sender := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+ingestURL, body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", ndjson)
	r.Header.Set("Authorization", "Bearer "+tokenOf(t, ordinary))
	answered := make(chan int, 1)
	go func() {
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- 0
			return
		}
		_ = response.Body.Close()
		answered <- response.StatusCode
	}()
	_, err = io.WriteString(sender, oneEvent+"\n")
	require.NoError(t, err)
	within(t, entered)
	s.stop()
	_, err = io.WriteString(sender, oneEvent+"\n")
	require.NoError(t, err)
	require.NoError(t, sender.Close())
	require.Equal(t, http.StatusOK, within(t, answered))
	require.NoError(t, within(t, s.done))
	require.EqualValues(t, 2, i.Stats().Accepted)
}

func TestIngest_AClientThatLeavesRecordsNothing(t *testing.T) {
	t.Parallel()
	i, spooled := spooling(t, 0)
	ended := make(chan error, 1)
	e := open(t, spooled, func(cfg *server.Config) {
		take := cfg.Ingest
		cfg.Ingest = func(ctx context.Context, lines io.Reader, key string) (int, error) {
			n, err := take(ctx, lines, key)
			ended <- err
			return n, err
		}
	})
	body, sender := io.Pipe()
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+ingestURL, body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", ndjson)
	r.Header.Set("Authorization", "Bearer "+tokenOf(t, ordinary))
	go func() {
		if response, err := http.DefaultClient.Do(r); err == nil {
			_ = response.Body.Close()
		}
	}()
	_, err = io.WriteString(sender, oneEvent+"\n")
	require.NoError(t, err)
	leave()
	require.Error(t, within(t, ended))
	require.Zero(t, i.Stats().Accepted)
	require.Zero(t, i.Stats().Bytes)
}

func TestServer_ActivityHearsOfOperations(t *testing.T) {
	t.Parallel()
	type deed struct {
		user   int
		action string
	}
	heard := make(chan deed, 10)
	e := open(t, func(cfg *server.Config) {
		cfg.Activity = func(user int, action string, took time.Duration) {
			if took >= 0 {
				heard <- deed{user, action}
			}
		}
	})
	for query, action := range map[string]string{
		"query Dashboard{viewer{email}}": "Dashboard",
		"{viewer{email}}":                "viewer",
		"{...{me:viewer{email}}}":        "viewer",
		"query($a:Boolean=true){...F@include(if:$a)} fragment F on Query{viewer{email}}": "viewer",
	} {
		e.post(t, query)
		require.Equal(t, deed{ordinary, action}, within(t, heard), query)
	}
	e.post(t, "{nothing}")
	body, err := json.Marshal(map[string]string{"query": "{viewer{email}}"})
	require.NoError(t, err)
	e.ask(t, http.MethodPost, "/graphql", string(body), "Content-Type", jsonType)
	require.Empty(t, heard, "neither of what never ran nor of strangers")
}
