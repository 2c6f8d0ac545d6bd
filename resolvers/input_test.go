package resolvers_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

var secret = []byte("a secret for tests, which is long enough")

// edge is the whole server on the engines.
func edge(t *testing.T, db *testdb.DB, clickHouseURL string) http.Handler {
	t.Helper()
	s, err := store.Open(store.Config{URL: db.AppURL, StatementTimeout: patience})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	a, err := analytics.Open(analytics.Config{URL: clickHouseURL, Deadline: patience})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	edge, err := server.New(server.Config{
		Resolvers: &resolvers.Resolver{Store: s, Analytics: a, Loaders: new(loaders.Loaders)}, Authenticate: s.Viewer, Secret: secret,
	})
	require.NoError(t, err)
	return edge.Handler()
}

func token(t *testing.T, user int, ttl time.Duration) string {
	t.Helper()
	signed, err := server.NewToken(secret, user, ttl)
	require.NoError(t, err)
	return signed
}

// post returns the status and the codes of the answer's errors.
func post(t *testing.T, handler http.Handler, bearer string, op operation) (status int, codes []string, body string) {
	t.Helper()
	raw, err := json.Marshal(op)
	require.NoError(t, err)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/graphql", bytes.NewReader(raw))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/graphql-response+json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	var answer struct {
		Errors []struct{ Extensions struct{ Code string } }
	}
	require.NoError(t, json.Unmarshal(recorder.Body.Bytes(), &answer), recorder.Body.String())
	for _, failure := range answer.Errors {
		codes = append(codes, failure.Extensions.Code)
	}
	return recorder.Code, codes, recorder.Body.String()
}

func TestBadInputHasACode(t *testing.T) {
	t.Parallel()
	db, data := load(t, small)
	handler := edge(t, db, db.ClickHouseURL)
	alice := token(t, tenantA, time.Hour)
	threads := func(arguments string) operation {
		return operation{Query: "{ viewer { threads(" + arguments + ") { nodes { id } } } }"}
	}
	variable := func(query string, value any) operation {
		return operation{Query: query, Variables: map[string]any{"v": value}}
	}
	const byID, byFilter, byRange = `query($v: ID!) { thread(id: $v) { id } }`, `query($v: ThreadFilter) { viewer { threads(filter: $v) { nodes { id } } } }`,
		`query($v: TimeRange!) { viewer { metrics(range: $v) { metric } } }`

	for name, test := range map[string]struct {
		op   operation
		code string
	}{
		"a malformed id":                  {variable(byID, "nonsense"), "BAD_USER_INPUT"},
		"an empty id":                     {variable(byID, ""), "BAD_USER_INPUT"},
		"a huge id":                       {variable(byID, strings.Repeat("A", 100_000)), "BAD_USER_INPUT"},
		"an id with NUL":                  {variable(byID, "VGhy\x00"), "BAD_USER_INPUT"},
		"an id of another kind":           {variable(byID, data.users[0].ID()), "BAD_USER_INPUT"},
		"an absent id":                    {variable(byID, models.GlobalID{Kind: models.KindThread, Key: key("absent").String()}.String()), "NOT_FOUND"},
		"another tenant's id":             {variable(byID, models.GlobalID{Kind: models.KindThread, Key: key("thread", tenantB, 0).String()}.String()), "NOT_FOUND"},
		"no id":                           {operation{Query: byID}, "BAD_USER_INPUT"},
		"an id that is an object":         {variable(byID, map[string]any{"a": 1}), "BAD_USER_INPUT"},
		"first 0":                         {threads("first: 0"), "BAD_USER_INPUT"},
		"first -1":                        {threads("first: -1"), "BAD_USER_INPUT"},
		"first 101":                       {threads("first: 101"), "BAD_USER_INPUT"},
		"first beyond 32 bits":            {threads("first: 99999999999"), "BAD_USER_INPUT"},
		"first and last":                  {threads("first: 1, last: 1"), "BAD_USER_INPUT"},
		"first as text in a variable":     {variable(`query($v: Int) { viewer { threads(first: $v) { nodes { id } } } }`, "12"), "BAD_USER_INPUT"},
		"first as a fraction":             {variable(`query($v: Int) { viewer { threads(first: $v) { nodes { id } } } }`, 1.5), "BAD_USER_INPUT"},
		"a malformed cursor":              {threads(`after: "nonsense"`), "BAD_USER_INPUT"},
		"a cursor of another order":       {threads(`orderBy: {field: UPDATED_AT}, after: "` + data.threads[0].Cursor(models.ThreadOrder{}.Order()).String() + `"`), "BAD_USER_INPUT"},
		"a cursor before the first year":  {threads(`after: "` + models.Cursor{Column: "created_at", Value: "0000-01-01T00:00:00.000000Z", ID: key("x").String()}.String() + `"`), "BAD_USER_INPUT"},
		"a number that no database holds": {variable(byFilter, map[string]any{"metadata": map[string]any{"n": json.Number("1e200000")}}), "BAD_USER_INPUT"},
		"a document as deep as the sea":   {variable(byFilter, map[string]any{"metadata": json.RawMessage(strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000))}), "BAD_USER_INPUT"},
		"an unknown field":                {operation{Query: "{ viewer { secrets } }"}, "GRAPHQL_VALIDATION_FAILED"},
		"a document that is none":         {operation{Query: "{ viewer { "}, "GRAPHQL_PARSE_FAILED"},
		"no document":                     {operation{}, "GRAPHQL_VALIDATION_FAILED"},
		"a wrong enum value":              {threads("filter: {status: [GONE]}"), "GRAPHQL_VALIDATION_FAILED"},
		"a wrong enum in a variable":      {variable(byFilter, map[string]any{"status": []string{"GONE"}}), "BAD_USER_INPUT"},
		"a wrong type":                    {threads("filter: {status: 7}"), "GRAPHQL_VALIDATION_FAILED"},
		"an unknown input field":          {variable(byFilter, map[string]any{"owner": 7}), "BAD_USER_INPUT"},
		"a NUL in a document":             {variable(byFilter, map[string]any{"metadata": map[string]any{"a": "x\x00"}}), "BAD_USER_INPUT"},
		"a NUL in a key":                  {variable(byFilter, map[string]any{"metadata": map[string]any{"a\x00": 1}}), "BAD_USER_INPUT"},
		"a NUL in text":                   {variable(`query($v: [String!]) { viewer { runs(filter: {agentType: $v}) { nodes { id } } } }`, []string{"\x00"}), "BAD_USER_INPUT"},
		"a time without an offset":        {variable(byFilter, map[string]any{"createdAt": map[string]any{"from": "2026-01-01T00:00:00"}}), "BAD_USER_INPUT"},
		"a time that is none":             {variable(byFilter, map[string]any{"createdAt": map[string]any{"from": "2026-13-01T00:00:00Z"}}), "BAD_USER_INPUT"},
		"a range that ends first":         {variable(byRange, map[string]any{"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}), "BAD_USER_INPUT"},
		"a range of centuries":            {variable(byRange, map[string]any{"from": "1000-01-02T00:00:00Z", "to": "3000-01-01T00:00:00Z"}), "BAD_USER_INPUT"},
		"what is for superusers":          {operation{Query: "{ users { nodes { id } } }"}, "FORBIDDEN"},
		"more nodes than a page":          {operation{Query: "query($v: [ID!]!) { nodes(ids: $v) { id } }", Variables: map[string]any{"v": make([]string, 101)}}, "BAD_USER_INPUT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, codes, body := post(t, handler, alice, test.op)
			require.NotEmpty(t, codes, body)
			for _, code := range codes {
				require.Equal(t, test.code, code, body)
			}
		})
	}

	forged, err := server.NewToken([]byte("another secret, which is long enough too"), tenantA, time.Hour)
	require.NoError(t, err)
	for name, bearer := range map[string]string{
		"an expired token": token(t, tenantA, -time.Hour), "a forged token": forged, "a token that is none": "nonsense",
		"an absent user's token": token(t, 1_000_000, time.Hour), "a token without a signature": "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, codes, body := post(t, handler, bearer, operation{Query: "{ viewer { id } }"})
			require.Equal(t, http.StatusUnauthorized, status, body)
			require.Equal(t, []string{"UNAUTHENTICATED"}, codes)
		})
	}

	t.Run("without a token there is the schema and nothing else", func(t *testing.T) {
		t.Parallel()
		_, codes, _ := post(t, handler, "", operation{Query: "{ viewer { id } }"})
		require.Equal(t, []string{"UNAUTHENTICATED"}, codes)
		_, codes, body := post(t, handler, "", operation{Query: `{ __schema { queryType { name } } __type(name: "User") { description } }`})
		require.Empty(t, codes)
		require.Contains(t, body, "tenant")
	})
}

func TestClickHouseAwayCostsOnlyItsFields(t *testing.T) {
	t.Parallel()
	db, _ := load(t, small)
	handler := edge(t, db, "http://127.0.0.1:1/none")
	status, codes, body := post(t, handler, token(t, tenantA, time.Hour), operation{Query: `{ viewer { email threads { totalCount }
		metrics(range: {from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z"}) { metric } } }`})
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []string{"ANALYTICS_UNAVAILABLE"}, codes)
	require.Contains(t, body, mark(tenantA)+"user@example.com")
	require.Contains(t, body, `"totalCount":3`)
	require.Contains(t, body, `"path":["viewer","metrics"]`)
	require.Contains(t, body, `"metrics":null`)
}
