package resolvers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
)

// TestEveryOperation_PlainFields shows that package plain changes how an answer is made and not one byte of it, nor the number of statements: where everything
// is well, and where rows are gone and a table cannot be read.
func TestEveryOperation_PlainFields(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{"sound": "", "broken": `
		DO $$ DECLARE c record; BEGIN
			FOR c IN SELECT conrelid::regclass AS of, conname FROM pg_constraint WHERE confrelid IN ('threads'::regclass, 'users'::regclass) LOOP
				EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.of, c.conname);
			END LOOP;
		END $$;
		DELETE FROM threads WHERE id IN (SELECT thread_id FROM runs ORDER BY id LIMIT 3);
		DELETE FROM users WHERE id = 4;
		ALTER TABLE messages RENAME COLUMN role TO gone;`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, data := load(t, small)
			_, err := db.Owner(t).ExecContext(t.Context(), harm)
			require.NoError(t, err)
			comparePlain(t, db, newPool(data), harm != "")
		})
	}
}

func comparePlain(t *testing.T, db *testdb.DB, pool *pool, broken bool) {
	byExecutor, both := real(t, db), real(t, db)
	byExecutor.exec = newAPI(byExecutor.root).exec
	var plans, others, failed int64
	answering := graph.Plain(both.root, resolvers.Loading, anybody)
	compile := answering.Compile
	both.exec = newAPI(both.root).exec
	both.exec.SetQueryCache(graphql.MapCache[*ast.QueryDocument]{}) // plans are kept with a document
	answering.Compile = func(operation *graphql.OperationContext, typeName string, selections ast.SelectionSet) plain.Plan {
		plan := compile(operation, typeName, selections)
		if plan == nil {
			atomic.AddInt64(&others, 1)
		} else {
			atomic.AddInt64(&plans, 1)
		}
		return plan
	}
	both.exec.Use(answering)
	schema := graph.NewExecutableSchema(graph.Config{}).Schema()
	kept := keeper()
	var compared *graphql.Response
	compare := func(viewer models.Viewer, op operation) {
		about := fmt.Sprintf("%s\n%v", op.Query, op.Variables)
		var wantTally, gotTally models.Tally
		want := byExecutor.respond(models.WithTally(t.Context(), &wantTally), viewer, op)
		got := both.respond(plain.Keep(models.WithTally(t.Context(), &gotTally), kept(op.Query)), viewer, op)
		compared = want
		require.Equal(t, string(want.Data), string(got.Data), about)
		wantErrors, err := json.Marshal(want.Errors)
		require.NoError(t, err)
		gotErrors, err := json.Marshal(got.Errors)
		require.NoError(t, err)
		require.Equal(t, string(wantErrors), string(gotErrors), about)
		if strings.Contains(string(gotErrors), lookedUpInVain) {
			require.LessOrEqual(t, wantTally.Statements.Load(), gotTally.Statements.Load(), "statements of %s", about)
		} else {
			require.Equal(t, wantTally.Statements.Load(), gotTally.Statements.Load(), "statements of %s", about)
		}
		require.Equal(t, wantTally.Questions.Load(), gotTally.Questions.Load(), "questions of %s", about)
		if want.Data != nil && len(want.Errors) > 0 {
			failed++
		}
	}
	for seed := range uint64(3 * operations(t)) {
		op, again := newOperation(seed, schema, pool), plans
		compare(models.Viewer{UserID: superuser, Superuser: true}, op)
		if again < plans && !strings.Contains(op.Query, "@") {
			again = plans
			compare(models.Viewer{UserID: superuser, Superuser: true}, op)
			require.Equal(t, again, plans, "plans are kept")
		}
	}
	require.Greater(t, plans, int64(operations(t)), "fields that were plain")
	require.NotZero(t, others, "fields that were not")
	require.NotZero(t, failed, "answers with errors")

	for _, selection := range []string{
		`{ nodes { id ID: id __typename t: __typename role content createdAt metadata model tokensUsed databaseId } }`,
		`{ nodes { ...A ...A ... on Node { id } ... on Message { content ...A } } pageInfo { hasNextPage startCursor } pageInfo { endCursor hasNextPage } }`,
		`{ edges { cursor node { id @skip(if: $no) role @include(if: $no) content @skip(if: $yes) } } __typename }`,
		`{ edges { node { id @skip(if: $yes) } node { content } } ... @include(if: $no) { totalCount } }`,
		`{ nodes { id @skip(if: $yes) } }`,
		`{ nodes { id } totalCount }`,
		`{ totalCount }`,
		`{ nodes { id thread { id title } } edges { node { role thread { user { email threads(first: 1) { totalCount } } } } } }`,
		`{ nodes { thread { messages(first: 0) { totalCount } runs { totalCount } } } }`,
		`{ nodes { thread { id @skip(if: $yes) runs(first: 2, last: 1) { totalCount } } } }`,
		`{ nodes { thread { messages(after: "malformed") { totalCount } m: messages(last: $two) { nodes { id } } } } }`,
		`{ nodes { thread { usage(range: { from: "2026-03-01T00:00:00Z", to: "2026-03-02T00:00:00Z" }) { requests } user { id } } } }`,
	} {
		op := operation{
			Query: `query($yes: Boolean!, $no: Boolean!, $two: Int) { viewer { id name threads { nodes { title messages(first: 3) ` + selection + `
				runs { totalCount nodes { status metadata outputData thread { title user { name } } user { id runs(first: $two) { nodes { thread { id } } } } } } } } } }
				fragment A on Message { role c: content }`,
		}
		for _, op.Variables = range []map[string]any{{"yes": true, "no": false, "two": 2}, {"yes": false, "no": true, "two": 1}, {"yes": true, "no": true, "two": nil}} {
			compare(models.Viewer{UserID: tenantA}, op)
		}
	}
	for _, selection := range []string{
		`{ t: thread(id: $id) { __typename id title user { name } messages(first: 2) { nodes { content } totalCount } } }`,
		`{ thread(id: $id) { id } ... on Query { thread(id: $id) { title user { id } } } }`,
		`{ thread(id: $id) @include(if: $yes) { id runs(first: 1) { nodes { user { name } } } } }`,
		`{ thread(id: $id) { usage(range: { from: "2026-03-01T00:00:00Z", to: "2026-03-02T00:00:00Z" }) { requests } } }`,
		`{ thread(id: "malformed") { id } }`,
		`{ __typename thread(id: $id) { id } viewer { name } }`,
		`{ node(id: $id) { id } }`,
		`{ viewer { name @skip(if: $yes) } }`,
		`{ __typename }`,
	} {
		op := operation{Query: "query ($id: ID!, $yes: Boolean!) " + selection}
		for name, declared := range map[string]string{"$id)": "$id: ID!, ", "$yes)": "$yes: Boolean!"} {
			if !strings.Contains(selection, name) {
				op.Query = strings.Replace(op.Query, declared, "", 1)
			}
		}
		op.Query = strings.Replace(op.Query, "() ", "", 1)
		for i, id := range pool.byKind[models.KindThread] {
			op.Variables = map[string]any{"id": id, "yes": i%2 == 0}
			compare(models.Viewer{UserID: tenantA}, op)
		}
		require.NotEmpty(t, compared.Data, op.Query)
	}
	require.Zero(t, both.loaders.Nets(), "no batch waited for a sibling that never asks")
}

// TestPlain_AnswersQueriesOfOneFieldWithoutTheExecutor shows for which queries, and that whoever may not use the root is left to the executor, which refuses.
func TestPlain_AnswersQueriesOfOneFieldWithoutTheExecutor(t *testing.T) {
	t.Parallel()
	db, _ := load(t, small)
	api := real(t, db)
	var fields, resolved atomic.Int64
	refusal := models.Errorf(models.Forbidden, "no")
	ask := func(query string, may error) *graphql.Response {
		api.exec = newAPI(api.root).exec
		answering := graph.Plain(api.root, resolvers.Loading, func(context.Context) error { return may })
		for name, root := range answering.Roots {
			resolve := root.Resolve
			root.Resolve = func(ctx context.Context, fc *graphql.FieldContext) (any, error) {
				resolved.Add(1)
				return resolve(ctx, fc)
			}
			answering.Roots[name] = root
		}
		api.exec.Use(answering)
		api.exec.AroundFields(func(ctx context.Context, next graphql.Resolver) (any, error) {
			fields.Add(1)
			return next(ctx)
		})
		fields.Store(0)
		resolved.Store(0)
		return api.respond(plain.Keep(t.Context(), nil), models.Viewer{UserID: tenantA}, operation{Query: query})
	}
	require.NotEmpty(t, ask(`{ viewer { id threads(first: 2) { nodes { title messages { totalCount } } } } }`, nil).Data)
	require.Zero(t, fields.Load())
	require.EqualValues(t, 1, resolved.Load())
	require.NotEmpty(t, ask(`{ viewer { id } platform { __typename } }`, nil).Data)
	require.NotZero(t, fields.Load())
	require.Zero(t, resolved.Load())
	require.NotEmpty(t, ask(`{ viewer { threads(first: 2) { nodes { messages(after: "malformed") { totalCount } } } } }`, nil).Errors)
	require.NotZero(t, fields.Load(), "what failed is the executor's to tell")
	require.EqualValues(t, 1, resolved.Load())
	ask(`{ viewer { id } }`, refusal)
	require.Zero(t, resolved.Load())
}

// TestPlain_AnswersAQueryOnce shows what transports rely on, which ask for responses until there is none, and tell what goes wrong meanwhile.
func TestPlain_AnswersAQueryOnce(t *testing.T) {
	t.Parallel()
	db, _ := load(t, small)
	api := real(t, db)
	dispatch := func(exec *executor.Executor) (graphql.ResponseHandler, context.Context) {
		ctx := graphql.StartOperationTrace(models.WithViewer(t.Context(), models.Viewer{UserID: tenantA}))
		operation, errs := exec.CreateOperationContext(ctx, &graphql.RawParams{Query: "{ viewer { id } }"})
		require.Empty(t, errs)
		return exec.DispatchOperation(plain.Keep(ctx, nil), operation)
	}
	wrong := gqlerror.List{gqlerror.Errorf("wrong")}
	next, ctx := dispatch(api.exec)
	require.Equal(t, wrong, api.exec.DispatchError(ctx, wrong).Errors)
	require.NotEmpty(t, next(ctx).Data)
	require.Nil(t, next(ctx))
	require.Equal(t, wrong, api.exec.DispatchError(ctx, wrong).Errors)

	panics := newAPI(api.root).exec
	panics.Use(plain.Fields{Roots: graph.Plain(api.root, resolvers.Loading, anybody).Roots, May: anybody,
		Compile: func(*graphql.OperationContext, string, ast.SelectionSet) plain.Plan { panic("no plan") }})
	next, ctx = dispatch(panics)
	require.NotEmpty(t, next(ctx).Errors)
}

// keeper keeps the plans of documents, as the server does.
func keeper() func(query string) *plain.Kept {
	known := map[string]*plain.Kept{}
	return func(query string) *plain.Kept {
		if known[query] == nil {
			known[query] = new(plain.Kept)
		}
		return known[query]
	}
}

// TestTrips_AreThoseOfWhatDependsOnAnother shows that what does not wait for the answer of something else goes to PostgreSQL together.
func TestTrips_AreThoseOfWhatDependsOnAnother(t *testing.T) {
	t.Parallel()
	db, data := load(t, small)
	api := real(t, db)
	thread := data.threads[slices.IndexFunc(data.threads, func(thread *models.Thread) bool { return thread.UserID == tenantA })].ID()
	for query, want := range map[string]int64{
		`{ viewer { id } }`: 1,
		`{ viewer { name threads { nodes { title } } runs { nodes { status } } } }`:                                                                             1, // the viewer's key is known
		`{ viewer { name threads { nodes { title messages { nodes { content } } runs { nodes { status } } } } } }`:                                              2,
		`query($thread: ID!) { thread(id: $thread) { title messages { nodes { content } } runs { nodes { status } } } }`:                                        1,
		`query($thread: ID!) { thread(id: $thread) { title user { name } messages { nodes { content } } } }`:                                                    2, // whose it is stands in its row
		`query($thread: ID!) { thread(id: $thread) { title messages { totalCount nodes { content } } runs(filter: {metadata: {a: 1}}) { nodes { status } } } }`: 3, // counts and searches in documents take their time alone
	} {
		var tally models.Tally
		answer := api.ask(models.WithTally(t.Context(), &tally), models.Viewer{UserID: tenantA}, operation{Query: query, Variables: map[string]any{"thread": thread}})
		require.NotContains(t, answer, "errors", query)
		require.Equal(t, want, tally.Trips.Load(), query)
	}
}
