package resolvers_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

// found is the answer to a search.
type found struct {
	Data struct {
		Search struct {
			PageInfo struct {
				HasNextPage bool
				EndCursor   *string
			}
			Nodes []hit
		}
		SimilarReferences []struct {
			Score     float64
			Reference *struct {
				DatabaseID string
				Name       string
			}
		}
	}
	Errors []struct {
		Extensions struct{ Code string }
	}
}

type hit struct {
	Type    string
	Score   float64
	Snippet []struct {
		Text    string
		Matches bool
	}
	Thread    *struct{ DatabaseID, Title string }
	Message   *struct{ DatabaseID, Content string }
	Reference *struct{ DatabaseID, Name string }
}

func (h hit) String() string {
	switch {
	case h.Thread != nil && h.Message == nil && h.Reference == nil && h.Type == "THREAD":
		return h.Thread.Title
	case h.Message != nil && h.Thread == nil && h.Reference == nil && h.Type == "MESSAGE":
		return h.Message.Content
	case h.Reference != nil && h.Thread == nil && h.Message == nil && h.Type == "REFERENCE":
		return h.Reference.Name
	}
	return "nothing, or too much"
}

const searchQuery = `query($query: String!, $types: [SearchType!], $similarTo: SimilarityInput, $first: Int, $after: String) {
	search(query: $query, types: $types, similarTo: $similarTo, first: $first, after: $after) { pageInfo { hasNextPage endCursor }
		nodes { type score snippet { text matches } thread { databaseId title } message { databaseId content } reference { databaseId name } } } }`

const similarQuery = `query($to: SimilarityInput!, $first: Int! = 10, $minScore: Float) {
	similarReferences(to: $to, first: $first, minScore: $minScore) { score reference { databaseId name } } }`

func (a *api) find(t *testing.T, viewer models.Viewer, query string, variables map[string]any) (answer found) {
	t.Helper()
	raw := a.ask(t.Context(), viewer, operation{Query: query, Variables: variables})
	require.NoError(t, json.Unmarshal([]byte(raw), &answer), raw)
	require.NotContains(t, raw, "INTERNAL")
	return answer
}

func names(hits []hit) []string {
	list := make([]string, len(hits))
	for i, h := range hits {
		list[i] = h.String()
	}
	return list
}

// library is two tenants who have written about the same things.
func library(t *testing.T) (*testdb.DB, *sql.DB, *api) {
	t.Helper()
	db := testdb.New(t)
	owner := db.Owner(t)
	_, err := owner.ExecContext(t.Context(), `
		INSERT INTO users (id, email) SELECT n, 'user' || n || '@example.com' FROM generate_series(1, 3) n;
		INSERT INTO threads (id, user_id, title, status) SELECT md5('thread' || u || s)::uuid, u, 'Budget of ' || u || ' ' || s, s FROM generate_series(1, 2) u, unnest('{active,deleted}'::text[]) s;
		INSERT INTO messages (thread_id, role, content) SELECT md5('thread' || u || s)::uuid, 'user', 'The budgets of ' || u || ' are <b>small</b> ' || s || ' ' || n
			FROM generate_series(1, 2) u, unnest('{active,deleted}'::text[]) s, generate_series(1, 30) n;
		INSERT INTO "references" (user_id, name, type, content, metadata) SELECT u, 'Sheet ' || u || ' ' || n, 'document', CASE WHEN n = 1 THEN 'about budgeting' END,
			CASE WHEN n = 2 THEN '{"description": "a budget too"}'::jsonb END FROM generate_series(1, 2) u, generate_series(1, 3) n;`)
	require.NoError(t, err)
	return db, owner, real(t, db)
}

func TestSearch_FindsWhatTheViewerMaySeeAndNothingOfTheBin(t *testing.T) {
	t.Parallel()
	db, _, api := library(t)
	for viewer, tenants := range map[models.Viewer][]int{{UserID: 1}: {1}, {UserID: 2}: {2}, {UserID: 3}: {}, {UserID: 3, Superuser: true}: {1, 2}, {}: {}} {
		var want []string
		for _, u := range tenants {
			want = append(want, fmt.Sprintf("Budget of %d active", u), fmt.Sprintf("Sheet %d 1", u), fmt.Sprintf("Sheet %d 2", u))
			for n := 1; n <= 30; n++ {
				want = append(want, fmt.Sprintf("The budgets of %d are <b>small</b> active %d", u, n))
			}
		}
		answer := api.find(t, viewer, searchQuery, map[string]any{"query": "budget", "first": 100})
		require.ElementsMatch(t, want, names(answer.Data.Search.Nodes), "%+v", viewer)
		require.Empty(t, answer.Errors)
	}

	// The functions with the owner's rights are no way around the policies, whatever is asked of them.
	app := db.App(t)
	for _, statement := range []string{"SELECT count(*) FROM search_documents('budget', '{thread,message,reference}', 1000)",
		"SELECT count(*) FROM find_supply_items('specifications', '{\"{}\"}')", "SELECT count(*) FROM similar_references((SELECT array_agg(1) FROM generate_series(1, 1536))::vector, 1000)"} {
		var seen int
		require.NoError(t, app.QueryRowContext(t.Context(), statement).Scan(&seen))
		require.Zero(t, seen, "without a viewer there is nothing to see: %s", statement)
	}
}

func TestSearch_PagesHoldEveryResultOnceAndTheBestFirst(t *testing.T) {
	t.Parallel()
	_, _, api := library(t)
	viewer := models.Viewer{UserID: 1}
	all := api.find(t, viewer, searchQuery, map[string]any{"query": "budget", "first": 100}).Data.Search.Nodes
	var paged []hit
	variables := map[string]any{"query": "budget", "first": 7}
	for {
		page := api.find(t, viewer, searchQuery, variables)
		require.Empty(t, page.Errors)
		paged = append(paged, page.Data.Search.Nodes...)
		if !page.Data.Search.PageInfo.HasNextPage {
			break
		}
		variables["after"] = *page.Data.Search.PageInfo.EndCursor
	}
	require.Equal(t, all, paged)
	require.Len(t, all, 33)
	require.Equal(t, "THREAD", all[0].Type, "a title that matches weighs the most")
	for i := range all[1:] {
		require.GreaterOrEqual(t, all[i].Score, all[i+1].Score)
	}
}

func TestSearch_UnderstandsQueriesAsPeopleTypeThem(t *testing.T) {
	t.Parallel()
	_, _, api := library(t)
	for query, want := range map[string]int{
		"budget": 33, "BUDGETS": 33, "budget sheet": 2, "sheet or thread": 3, `"small active"`: 30, `"active small"`: 0, "budget -small": 3, "nowhere": 0, "": 0, "the": 0, "'": 0,
		"\\ & | ! ( ' :* <->": 0, "<b>": 0, "-budget": 1,
	} {
		require.Len(t, api.find(t, models.Viewer{UserID: 1}, searchQuery, map[string]any{"query": query, "first": 100}).Data.Search.Nodes, want, query)
	}
	threads := api.find(t, models.Viewer{UserID: 1}, searchQuery, map[string]any{"query": "budget", "types": []string{"THREAD"}})
	require.Equal(t, []string{"Budget of 1 active"}, names(threads.Data.Search.Nodes))
	require.Empty(t, api.find(t, models.Viewer{UserID: 1}, searchQuery, map[string]any{"query": "budget", "types": []string{}}).Data.Search.Nodes)
	for name, variables := range map[string]map[string]any{
		"a long query": {"query": strings.Repeat("x", 501)}, "NUL": {"query": "\x00"}, "a cursor of another list": {"query": "x", "after": models.Cursor{Column: "name", Value: "x", ID: key("x").String()}.String()},
		"a cursor without a number": {"query": "x", "after": models.Cursor{Column: "score", Value: "x", ID: key("x").String()}.String()}, "first 101": {"query": "x", "first": 101},
	} {
		answer := api.find(t, models.Viewer{UserID: 1}, searchQuery, variables)
		require.Len(t, answer.Errors, 1, name)
	}
}

func TestSearch_SnippetsAreTextInParts(t *testing.T) {
	t.Parallel()
	_, owner, api := library(t)
	_, err := owner.ExecContext(t.Context(), `UPDATE threads SET title = E'a \x01<b onclick="x">needle</b>\x02 & needles' WHERE id = md5('thread1active')::uuid`)
	require.NoError(t, err)
	hits := api.find(t, models.Viewer{UserID: 1}, searchQuery, map[string]any{"query": "needle"}).Data.Search.Nodes
	require.Len(t, hits, 1)
	var marked []string
	for _, part := range hits[0].Snippet {
		require.NotContains(t, part.Text, "\x01")
		require.NotContains(t, part.Text, "\x02")
		if part.Matches {
			marked = append(marked, part.Text)
		}
	}
	require.Equal(t, []string{"needle", "needles"}, marked)
}

func TestSearch_WritersOfLongTextsAreNotRefused(t *testing.T) {
	t.Parallel()
	_, owner, api := library(t)
	for name, text := range map[string]string{
		"many different words": "string_agg(n::text, ' ')", "long letters": "string_agg(repeat('𐌰', 3) || n, ' ')",
		"paths": "string_agg('http://x.y/' || n || '/𐌰', ' ')", "one word": "string_agg('xxxxxxxxxx', '')",
	} {
		_, err := owner.ExecContext(t.Context(), `INSERT INTO messages (thread_id, role, content) SELECT md5('thread1active')::uuid, 'tool', 'haystack ' || `+text+` FROM generate_series(1, 300000) n`)
		require.NoError(t, err, name)
	}
	require.Len(t, api.find(t, models.Viewer{UserID: 1}, strings.Replace(searchQuery, " content }", " }", 1), map[string]any{"query": "haystack"}).Data.Search.Nodes, 4)
}

// direction is an embedding at an angle to the first axis.
func direction(degrees float64) []float64 {
	v := make([]float64, models.EmbeddingDimensions)
	for i := range v { // signs alone tell the angle: the share of the numbers that are negative
		v[i] = 1
		if float64(i) < degrees/180*float64(len(v)) {
			v[i] = -1
		}
	}
	return v
}

func TestSimilarReferences(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	owner := db.Owner(t)
	_, err := owner.ExecContext(t.Context(), `INSERT INTO users (id, email) SELECT n, 'user' || n || '@example.com' FROM generate_series(1, 3) n`)
	require.NoError(t, err)
	ids := map[string]string{}
	add := func(user int, name string, embedding []float64) {
		id := models.GlobalID{Kind: models.KindReference}
		var vector *string
		if embedding != nil {
			text, err := models.FormatVector(embedding)
			require.NoError(t, err)
			vector = &text
		}
		require.NoError(t, owner.QueryRowContext(t.Context(), `INSERT INTO "references" (user_id, name, type, embedding) VALUES ($1, $2, 'document', $3::text::vector) RETURNING id`, user, name, vector).Scan(&id.Key))
		ids[name] = id.String()
	}
	for _, degrees := range []float64{0, 10, 20, 30, 90, 170} {
		for user := 1; user <= 2; user++ {
			add(user, fmt.Sprintf("%d at %v", user, degrees), direction(degrees))
		}
	}
	add(1, "bare words", nil)
	api := real(t, db)
	ask := func(viewer models.Viewer, variables map[string]any) (names []string, answer found) {
		answer = api.find(t, viewer, similarQuery, variables)
		for _, similar := range answer.Data.SimilarReferences {
			names = append(names, similar.Reference.Name)
		}
		return names, answer
	}
	to := func(vector []float64) map[string]any { return map[string]any{"vector": vector} }
	one := models.Viewer{UserID: 1}

	names, answer := ask(one, map[string]any{"to": to(direction(12))})
	require.Equal(t, []string{"1 at 10", "1 at 20", "1 at 0", "1 at 30", "1 at 90", "1 at 170"}, names)
	require.InDelta(t, 1-2*18.0/180, answer.Data.SimilarReferences[3].Score, 1e-2, "the cosine: one minus twice the share of different signs")

	names, _ = ask(one, map[string]any{"to": map[string]any{"referenceId": ids["1 at 10"]}, "first": 2})
	require.Equal(t, []string{"1 at 20", "1 at 0"}, sorted(names, "1 at 20", "1 at 0"), "not itself, and nobody else's")
	names, _ = ask(one, map[string]any{"to": to(direction(0)), "minScore": 0.7})
	require.Equal(t, []string{"1 at 0", "1 at 10", "1 at 20"}, names)
	names, _ = ask(models.Viewer{UserID: 3, Superuser: true}, map[string]any{"to": to(direction(90)), "first": 2})
	require.ElementsMatch(t, []string{"1 at 90", "2 at 90"}, names)
	names, _ = ask(models.Viewer{UserID: 3}, map[string]any{"to": to(direction(90))})
	require.Empty(t, names)

	zero := make([]float64, models.EmbeddingDimensions)
	huge := direction(0)
	huge[7] = math.MaxFloat64
	for name, test := range map[string]struct {
		to   map[string]any
		code string
	}{
		"another's reference":               {map[string]any{"referenceId": ids["2 at 0"]}, "NOT_FOUND"},
		"an absent one":                     {map[string]any{"referenceId": models.GlobalID{Kind: models.KindReference, Key: key("absent").String()}.String()}, "NOT_FOUND"},
		"one that has no embedding yet":     {map[string]any{"referenceId": ids["bare words"]}, "CONFLICT"},
		"a user":                            {map[string]any{"referenceId": models.GlobalID{Kind: models.KindUser, Key: "1"}.String()}, "BAD_USER_INPUT"},
		"nothing":                           {map[string]any{}, "BAD_USER_INPUT"},
		"both":                              {map[string]any{"referenceId": ids["1 at 0"], "vector": direction(0)}, "BAD_USER_INPUT"},
		"a short vector":                    {to([]float64{1, 2}), "BAD_USER_INPUT"},
		"a vector of length 0":              {to(zero), "BAD_USER_INPUT"},
		"a number that 32 bits do not hold": {to(huge), "BAD_USER_INPUT"},
	} {
		_, answer := ask(one, map[string]any{"to": test.to})
		require.Len(t, answer.Errors, 1, name)
		require.Equal(t, test.code, answer.Errors[0].Extensions.Code, name)
	}

	fused := api.find(t, one, searchQuery, map[string]any{"query": `"bare words" or 90`, "types": []string{"REFERENCE"}, "similarTo": to(direction(90)), "first": 2})
	require.Len(t, fused.Data.Search.Nodes, 2)
	require.Equal(t, "1 at 90", fused.Data.Search.Nodes[0].String(), "what both searches find comes first")
	require.True(t, fused.Data.Search.PageInfo.HasNextPage)
}

// sorted gives names that are equally similar one order.
func sorted(names []string, want ...string) []string {
	if len(names) == len(want) && names[0] == want[1] && names[1] == want[0] {
		return want
	}
	return names
}

func TestSearch_CostsAsManyStatementsForManyResultsAsForOne(t *testing.T) {
	t.Parallel()
	_, owner, api := library(t)
	vector, err := models.FormatVector(direction(0))
	require.NoError(t, err)
	_, err = owner.ExecContext(t.Context(), `UPDATE "references" SET embedding = $1::text::vector`, vector)
	require.NoError(t, err)
	count := func(query string, variables map[string]any) int {
		tally := new(models.Tally)
		answer := api.ask(models.WithTally(t.Context(), tally), models.Viewer{UserID: 1}, operation{Query: query, Variables: variables})
		require.NotContains(t, answer, "errors")
		return int(tally.Statements.Load())
	}
	require.Equal(t, 1, count(`{ search(query: "budget") { nodes { type score snippet { text } } } }`, nil))
	require.Equal(t, 4, count(searchQuery, map[string]any{"query": "budget", "first": 100}), "the search, and one statement for each type")
	require.Equal(t, 2, count(searchQuery, map[string]any{"query": "nothing or sheet", "first": 1}))
	for _, first := range []int{1, 10} {
		require.Equal(t, 2, count(similarQuery, map[string]any{"to": map[string]any{"vector": direction(0)}, "first": first}))
	}
	require.Zero(t, api.loaders.Nets())
}

func TestSearch_IsNotCrowdedOutByWhatIsInTheBin(t *testing.T) {
	t.Parallel()
	_, owner, api := library(t)
	_, err := owner.ExecContext(t.Context(), `
		INSERT INTO messages (thread_id, role, content, created_at) SELECT md5('thread1deleted')::uuid, 'user', 'small budget ' || n, now() + interval '1 hour' FROM generate_series(1, 600) n;
		INSERT INTO threads (user_id, title, status, created_at) SELECT 1, 'small budget', 'deleted', now() + interval '1 hour' FROM generate_series(1, 600) n`)
	require.NoError(t, err)
	for _, query := range []string{"budget", `"small budget" or "budgets of"`} {
		answer := api.find(t, models.Viewer{UserID: 1}, searchQuery, map[string]any{"query": query, "types": []string{"THREAD", "MESSAGE"}, "first": 100})
		require.GreaterOrEqual(t, len(answer.Data.Search.Nodes), 30, query)
	}
}
