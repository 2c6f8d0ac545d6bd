package resolvers_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embeddings"
	"github.com/netra-ai/netra/internal/embedtest"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
)

// embedded is a database in which two tenants have references by several models, and an api whose endpoint has the first of these.
func embedded(t *testing.T, deadline time.Duration) (*sql.DB, *embedtest.Server, *api) {
	t.Helper()
	db := testdb.New(t)
	owner, server := db.Owner(t), embedtest.New(t)
	_, err := owner.ExecContext(t.Context(), `INSERT INTO users (id, email) SELECT n, 'user' || n || '@example.com' FROM generate_series(1, 3) n; INSERT INTO embedding_settings (model) VALUES ('words-1')`)
	require.NoError(t, err)
	for user := 1; user <= 2; user++ {
		for _, model := range []string{"words-1", "words-2", ""} {
			for _, text := range []string{"annual budget plan", "budget", "weather report"} {
				vector, err := models.FormatVector(embedtest.Embed("words-1", text)) // so that only the model's name keeps them apart
				require.NoError(t, err)
				_, err = owner.ExecContext(t.Context(), `INSERT INTO "references" (user_id, name, type, content, embedding, embedding_model) VALUES ($1::int, $2::text, 'document', $2::text, $3::text::vector, nullif($4::text, ''))`,
					user, fmt.Sprintf("%s of %d by %s", text, user, model), vector, model)
				require.NoError(t, err)
			}
		}
	}
	endpoint, err := embeddings.New(embeddings.Config{URL: server.URL, Model: "words-1", Key: embedtest.Key, QueryDeadline: deadline})
	require.NoError(t, err)
	t.Cleanup(endpoint.Close)
	return owner, server, real(t, db, func(root *resolvers.Resolver) { root.Embeddings = endpoint })
}

func (a *api) similar(t *testing.T, viewer models.Viewer, variables map[string]any) (names []string, codes []string) {
	t.Helper()
	answer := a.find(t, viewer, similarQuery, variables)
	for _, s := range answer.Data.SimilarReferences {
		names = append(names, s.Reference.Name)
	}
	for _, e := range answer.Errors {
		codes = append(codes, e.Extensions.Code)
	}
	return names, codes
}

func TestSimilarToText_ComparesWithTheViewersReferencesOfTheSameModel(t *testing.T) {
	t.Parallel()
	_, server, api := embedded(t, time.Minute)
	one, two := models.Viewer{UserID: 1}, models.Viewer{UserID: 2}
	text := func(text string) map[string]any {
		return map[string]any{"to": map[string]any{"text": text}, "minScore": 0.3}
	}

	names, codes := api.similar(t, one, text("Budget plan"))
	require.Empty(t, codes)
	require.Equal(t, []string{"annual budget plan of 1 by words-1", "budget of 1 by words-1"}, names)
	names, _ = api.similar(t, two, text("weather"))
	require.Equal(t, []string{"weather report of 2 by words-1"}, names)
	names, _ = api.similar(t, models.Viewer{UserID: 3, Superuser: true}, text("weather"))
	require.ElementsMatch(t, []string{"weather report of 1 by words-1", "weather report of 2 by words-1"}, names)
	names, codes = api.similar(t, models.Viewer{UserID: 3}, text("weather"))
	require.Empty(t, append(names, codes...))

	calls := len(server.Calls())
	_, _ = api.similar(t, one, text("Budget plan"))
	require.Len(t, server.Calls(), calls, "known")
	_, _ = api.similar(t, two, text("Budget plan"))
	require.Len(t, server.Calls(), calls+1, "what others have asked shows nowhere, not even in how long it takes")

	fused := api.find(t, one, searchQuery, map[string]any{"query": "report", "types": []string{"REFERENCE"}, "similarTo": map[string]any{"text": "weather"}, "first": 1})
	require.Empty(t, fused.Errors)
	require.Equal(t, "weather report of 1 by words-1", fused.Data.Search.Nodes[0].String())

	// The other ways to ask keep models apart too, where the model is known.
	vector := embedtest.Embed("words-1", "weather report")
	names, _ = api.similar(t, one, map[string]any{"to": map[string]any{"vector": vector, "model": "words-2"}, "minScore": 0.3})
	require.Equal(t, []string{"weather report of 1 by words-2"}, names)
	names, _ = api.similar(t, one, map[string]any{"to": map[string]any{"vector": vector}, "minScore": 0.3})
	require.Len(t, names, 3, "of every model, as whoever gives a vector without a model wants it")
}

func TestSimilarReferences_OfAReferenceComparesWithinItsModel(t *testing.T) {
	t.Parallel()
	owner, _, api := embedded(t, time.Minute)
	for model, other := range map[string]string{"words-1": "annual budget plan of 1 by words-1", "": "annual budget plan of 1 by "} {
		id := models.GlobalID{Kind: models.KindReference}
		require.NoError(t, owner.QueryRowContext(t.Context(), `SELECT id FROM "references" WHERE name = $1`, "budget of 1 by "+model).Scan(&id.Key))
		names, codes := api.similar(t, models.Viewer{UserID: 1}, map[string]any{"to": map[string]any{"referenceId": id.String()}, "minScore": 0.3})
		require.Empty(t, codes)
		require.Equal(t, []string{other}, names)
	}
}

func TestSimilarToText_FailsWithACodeAndCallsNobodyInVain(t *testing.T) {
	t.Parallel()
	_, server, api := embedded(t, 2*time.Second)
	one := models.Viewer{UserID: 1}
	vector := embedtest.Embed("words-1", "x")
	for name, to := range map[string]map[string]any{
		"blank": {"text": " \n"}, "long": {"text": strings.Repeat("x", 8001)}, "two things": {"text": "x", "vector": vector}, "a model without a vector": {"text": "x", "model": "words-1"}, "no model": {"vector": vector, "model": ""},
	} {
		_, codes := api.similar(t, one, map[string]any{"to": to})
		require.Equal(t, []string{"BAD_USER_INPUT"}, codes, name)
	}
	text := map[string]any{"text": "budget"}
	for argument, value := range map[string]any{"first": 101, "minScore": 3, " minScore": -1.5} {
		_, codes := api.similar(t, one, map[string]any{"to": text, strings.TrimSpace(argument): value})
		require.Equal(t, []string{"BAD_USER_INPUT"}, codes, argument)
	}
	answer := api.find(t, one, searchQuery, map[string]any{"query": "budget", "similarTo": text, "after": "nonsense"})
	require.Equal(t, "BAD_USER_INPUT", answer.Errors[0].Extensions.Code)
	require.Empty(t, server.Calls(), "what can never work costs nothing")
	raw := api.ask(t.Context(), models.Viewer{UserID: 3}, operation{Query: `{ similarReferences(to: {text: "budget"}) { score } }`})
	require.JSONEq(t, `{"data": {"similarReferences": []}}`, raw)

	for name, test := range map[string]struct {
		fault func(w http.ResponseWriter, r *http.Request, c embedtest.Call) bool
		code  string
	}{
		"500": {func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) bool {
			embedtest.Refuse(w, 500, "", embedtest.Key)
			return true
		}, "EMBEDDINGS_UNAVAILABLE"},
		"400": {func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) bool {
			embedtest.Refuse(w, 400, "", "")
			return true
		}, "EMBEDDINGS_UNAVAILABLE"},
		"429": {func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) bool {
			embedtest.Refuse(w, 429, "", "")
			return true
		}, "EMBEDDINGS_UNAVAILABLE"},
		"another dimension": {func(w http.ResponseWriter, _ *http.Request, _ embedtest.Call) bool {
			_, _ = io.WriteString(w, `{"data":[{"index":0,"embedding":[1,2]}]}`)
			return true
		}, "EMBEDDINGS_UNAVAILABLE"},
		"silence": {func(_ http.ResponseWriter, r *http.Request, _ embedtest.Call) bool { <-r.Context().Done(); return true }, "TIMEOUT"},
	} {
		server.Break(test.fault)
		_, codes := api.similar(t, one, map[string]any{"to": map[string]any{"text": "new " + name}})
		require.Equal(t, []string{test.code}, codes, name)
	}
	server.Break(nil)
	_, codes := api.similar(t, one, map[string]any{"to": map[string]any{"text": "new 500"}})
	require.Empty(t, codes, "failures are not kept")
}

func TestSimilarToText_EndsWithTheClient(t *testing.T) {
	t.Parallel()
	_, server, api := embedded(t, 2*time.Minute)
	asked, ended := make(chan struct{}), make(chan struct{})
	server.Break(func(_ http.ResponseWriter, r *http.Request, _ embedtest.Call) bool {
		close(asked)
		<-r.Context().Done()
		close(ended)
		return true
	})
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-asked; leave() }()
	began := time.Now()
	api.ask(ctx, models.Viewer{UserID: 1}, operation{Query: `{ similarReferences(to: {text: "budget"}) { score } }`})
	<-ended
	require.Less(t, time.Since(began), time.Minute, "before the deadline")
}

func TestSimilarToText_WithoutAnEndpointOnlyVectorsWork(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	_, err := db.Owner(t).ExecContext(t.Context(), `INSERT INTO users (id, email) VALUES (1, 'a@example.com')`)
	require.NoError(t, err)
	api := real(t, db)
	_, codes := api.similar(t, models.Viewer{UserID: 1}, map[string]any{"to": map[string]any{"text": "budget"}})
	require.Equal(t, []string{"EMBEDDINGS_UNAVAILABLE"}, codes)
	_, codes = api.similar(t, models.Viewer{UserID: 1}, map[string]any{"to": map[string]any{"vector": direction(0)}})
	require.Empty(t, codes)
}

func TestReference_TellsHowFarItsEmbeddingIs(t *testing.T) {
	t.Parallel()
	owner, _, api := embedded(t, time.Minute)
	_, err := owner.ExecContext(t.Context(), `DELETE FROM "references";
		UPDATE embedding_settings SET since = '2026-02-01';
		INSERT INTO "references" (user_id, name, type, content, embedding, embedding_model, embedding_hash, embedded_at, embedding_error)
		SELECT 1, r.name, 'document', 'x', CASE WHEN embedded THEN array_fill(1::float4, '{1536}')::vector END, model, CASE WHEN current THEN reference_hash(r.name, '{}', 'x') WHEN current = false THEN 0 END, at::timestamptz, error
		FROM (VALUES ('1 READY given', true, NULL, NULL, NULL, NULL), ('2 READY made', true, 'words-1', true, '2026-03-01', NULL), ('3 PENDING new', false, NULL, NULL, NULL, NULL),
			('4 PENDING changed', true, 'words-1', false, '2026-03-01', NULL), ('5 PENDING before the model', true, 'words-0', true, '2026-01-01', NULL),
			('6 FAILED refused', false, 'words-1', true, '2026-03-01', 'refused')) AS r(name, embedded, model, current, at, error);
		INSERT INTO "references" (user_id, name, type) VALUES (1, '', 'other')`)
	require.NoError(t, err)
	list := func(filter string) (names []string) {
		var answer struct {
			Data struct {
				Viewer struct {
					References struct {
						Nodes []struct {
							Name, EmbeddingStatus          string
							HasEmbedding                   bool
							EmbeddingModel, EmbeddingError *string
						}
					}
				}
			}
		}
		raw := api.ask(t.Context(), models.Viewer{UserID: 1}, operation{Query: `{ viewer { references(first: 100, orderBy: {field: NAME, direction: ASC}` + filter + `) { totalCount nodes { name embeddingStatus hasEmbedding embeddingModel embeddingError embeddedAt } } } }`})
		require.NoError(t, json.Unmarshal([]byte(raw), &answer))
		require.NotContains(t, raw, `"errors"`)
		for _, node := range answer.Data.Viewer.References.Nodes {
			names = append(names, node.Name)
			if node.Name == "" {
				require.Equal(t, "NONE", node.EmbeddingStatus)
				continue
			}
			require.Contains(t, node.Name, node.EmbeddingStatus)
			require.Equal(t, node.EmbeddingStatus == "FAILED", node.EmbeddingError != nil)
		}
		return names
	}
	require.Len(t, list(""), 7)
	require.Equal(t, []string{"1 READY given", "2 READY made"}, list(", filter: {embeddingStatus: [READY]}"))
	require.Equal(t, []string{"", "6 FAILED refused"}, list(", filter: {embeddingStatus: [FAILED, NONE]}"))
	require.Equal(t, []string{"4 PENDING changed", "5 PENDING before the model"}, list(", filter: {embeddingStatus: [PENDING], hasEmbedding: true}"))
}
