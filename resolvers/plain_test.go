package resolvers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
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
	compile := graph.Plain(both.root, loaders.Together)
	both.exec = newAPI(both.root).exec
	both.exec.Use(plain.Fields(func(ctx context.Context, typeName string, selections ast.SelectionSet) plain.Plan {
		plan := compile(ctx, typeName, selections)
		if plan == nil {
			atomic.AddInt64(&others, 1)
		} else {
			atomic.AddInt64(&plans, 1)
		}
		return plan
	}))
	schema := graph.NewExecutableSchema(graph.Config{}).Schema()
	compare := func(viewer models.Viewer, op operation) {
		about := fmt.Sprintf("%s\n%v", op.Query, op.Variables)
		var wantTally, gotTally models.Tally
		want := byExecutor.respond(models.WithTally(t.Context(), &wantTally), viewer, op)
		got := both.respond(models.WithTally(t.Context(), &gotTally), viewer, op)
		require.Equal(t, string(want.Data), string(got.Data), about)
		wantErrors, err := json.Marshal(want.Errors)
		require.NoError(t, err)
		gotErrors, err := json.Marshal(got.Errors)
		require.NoError(t, err)
		require.Equal(t, string(wantErrors), string(gotErrors), about)
		require.Equal(t, wantTally.Statements.Load(), gotTally.Statements.Load(), "statements of %s", about)
		require.Equal(t, wantTally.Questions.Load(), gotTally.Questions.Load(), "questions of %s", about)
		if want.Data != nil && len(want.Errors) > 0 {
			failed++
		}
	}
	for seed := range uint64(3 * operations(t)) {
		compare(models.Viewer{UserID: superuser, Superuser: true}, newOperation(seed, schema, pool))
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
		compare(models.Viewer{UserID: tenantA}, operation{
			Query: `query($yes: Boolean!, $no: Boolean!, $two: Int) { viewer { id name threads { nodes { title messages(first: 3) ` + selection + `
				runs { totalCount nodes { status metadata outputData thread { title user { name } } user { id runs(first: $two) { nodes { thread { id } } } } } } } } } }
				fragment A on Message { role c: content }`,
			Variables: map[string]any{"yes": true, "no": false, "two": 2},
		})
	}
	require.Zero(t, both.loaders.Nets(), "no batch waited for a sibling that never asks")
}
