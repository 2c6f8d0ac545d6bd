package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/embedtest"
	"github.com/netra-ai/netra/internal/testdb"
)

func TestServe_HasTextsEmbedded(t *testing.T) {
	t.Parallel()
	netra := buildNetra(t)
	db, endpoint := testdb.New(t), embedtest.New(t)
	owner := db.Owner(t)
	_, err := owner.Exec(`INSERT INTO users (id, email) VALUES (1, 'ann@example.com'); INSERT INTO "references" (user_id, name, type) VALUES (1, 'annual budget', 'document'), (1, 'weather report', 'document')`)
	require.NoError(t, err)
	plain := []string{"NETRA_ADDR=127.0.0.1:0", "NETRA_DATABASE_URL=" + db.AppURL, "NETRA_CLICKHOUSE_URL=" + db.ClickHouseURL, "NETRA_SECRET=" + secret, "NETRA_SPOOL_DIR=" + t.TempDir()}
	environment := append(slices.Clone(plain), "NETRA_EMBEDDINGS_URL="+endpoint.URL, "NETRA_EMBEDDINGS_MODEL=words-1", "NETRA_EMBEDDINGS_KEY="+embedtest.Key)
	netraSays := func(environment []string, arguments ...string) string {
		output, err := command(netra, environment, arguments...).CombinedOutput()
		require.NoError(t, err, string(output))
		return string(output)
	}
	require.Equal(t, []string{"model", "ready", "0", "pending", "0", "failed", "0", "none", "2"}, strings.Fields(netraSays(plain, "embeddings", "status")))

	r := start(t, netra, environment, "serve")
	token := issue(t, netra, environment, "--email", "ann@example.com")
	const similar = `{similarReferences(to:{text:"a budget"},first:1){reference{name embeddingStatus embeddingModel}}}`
	require.Eventually(t, func() bool {
		return strings.Contains(r.query(t, token, similar), `{"reference":{"name":"annual budget","embeddingStatus":"READY","embeddingModel":"words-1"}}`)
	}, 2*time.Minute, 50*time.Millisecond)
	// The other reference may still be on its way, and each is counted after it can be found.
	var metrics string
	require.Eventually(t, func() bool {
		_, metrics = r.get(t, "/metrics")
		return strings.Contains(metrics, `netra_embeddings_references_total{outcome="embedded"} 2`)
	}, 2*time.Minute, 50*time.Millisecond)
	for _, name := range []string{`netra_embeddings_calls_total{outcome="answered",purpose="batch"}`, `netra_embeddings_calls_total{outcome="answered",purpose="query"} 1`,
		"netra_embeddings_backlog", "netra_embeddings_query_hits_total", "netra_embeddings_call_seconds"} {
		require.Contains(t, metrics, name)
	}

	// The word of the operator holds for replicas that run: this one has another model now and leaves references alone.
	require.Empty(t, netraSays(append(slices.Clone(environment), "NETRA_EMBEDDINGS_MODEL=words-2"), "embeddings", "rebuild"))
	require.Equal(t, []string{"model", "words-2", "ready", "0", "pending", "2", "failed", "0", "none", "0"}, strings.Fields(netraSays(plain, "embeddings", "status")))
	other := start(t, netra, append(slices.Clone(environment), "NETRA_EMBEDDINGS_MODEL=words-2", "NETRA_SPOOL_DIR="+t.TempDir()), "serve")
	require.Eventually(t, func() bool {
		return strings.Contains(other.query(t, token, similar), `"embeddingModel":"words-2"`)
	}, 2*time.Minute, 50*time.Millisecond)
	require.Equal(t, "0\n", netraSays(plain, "embeddings", "retry"))

	// Who starts with a model that does not fit is told so at once.
	endpoint.Break(func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) bool {
		_, err := io.WriteString(w, `{"data":[{"index":0,"embedding":[1,2,3]}]}`)
		return err == nil
	})
	checks := len(endpoint.Calls())
	short := start(t, netra, append(slices.Clone(environment), "NETRA_SPOOL_DIR="+t.TempDir()), "serve")
	require.Eventually(t, func() bool { return len(endpoint.Calls()) > checks }, 2*time.Minute, 10*time.Millisecond)
	require.Contains(t, short.query(t, token, similar), "EMBEDDINGS_UNAVAILABLE")
	short.stop(t)
	require.Contains(t, short.stderr.String(), "the model gives 3 numbers and not 1536")

	endpoint.Break(func(w http.ResponseWriter, r *http.Request, _ embedtest.Call) bool {
		embedtest.Refuse(w, http.StatusUnauthorized, "invalid_api_key", "no such key: "+r.Header.Get("Authorization"))
		return true
	})
	answer := r.query(t, token, `{similarReferences(to:{text:"something confidential"}){score}}`)
	require.Contains(t, answer, "EMBEDDINGS_UNAVAILABLE")
	require.NotContains(t, answer, embedtest.Key)
	r.stop(t)
	other.stop(t)
	for _, log := range []string{r.stderr.String(), other.stderr.String()} {
		for _, secret := range []string{embedtest.Key, "confidential", endpoint.URL} {
			require.NotContains(t, log, secret)
		}
		for line := range strings.Lines(log) {
			require.True(t, json.Valid([]byte(line)), line)
		}
	}
	require.Contains(t, r.stderr.String(), "status 401, invalid_request_error, invalid_api_key")
}

func TestServe_SaysWhatIsWrongWithTheEndpoint(t *testing.T) {
	t.Parallel()
	netra := buildNetra(t)
	needed := []string{"NETRA_DATABASE_URL=postgres://db/netra", "NETRA_CLICKHOUSE_URL=http://ch:8123/db", "NETRA_SECRET=" + secret}
	for want, environment := range map[string][]string{
		"NETRA_EMBEDDINGS_MODEL or NETRA_EMBEDDINGS_KEY is set without NETRA_EMBEDDINGS_URL":                      {"NETRA_EMBEDDINGS_KEY=hunter2"},
		"NETRA_EMBEDDINGS_MODEL is not the name of a model: NETRA_EMBEDDINGS_URL needs one, of 255 bytes at most": {"NETRA_EMBEDDINGS_URL=https://x/v1"},
		"NETRA_EMBEDDINGS_URL must be a URL that begins with https:// or http://":                                 {"NETRA_EMBEDDINGS_URL=ftp://hunter2@x/v1", "NETRA_EMBEDDINGS_MODEL=m"},
		"NETRA_EMBEDDINGS_KEY has characters that no token has":                                                   {"NETRA_EMBEDDINGS_URL=https://x/v1", "NETRA_EMBEDDINGS_MODEL=m", "NETRA_EMBEDDINGS_KEY=hunter2\n"},
	} {
		output, err := command(netra, append(slices.Clone(needed), environment...), "serve").CombinedOutput()
		require.Error(t, err)
		require.Equal(t, "netra: "+want+"\n", string(output))
	}
}
