package resolvers_test

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/models"
)

// TestEveryOperation_PlainFields shows that package plain changes how an answer is written and not one byte of it.
func TestEveryOperation_PlainFields(t *testing.T) {
	t.Parallel()
	db, data := load(t, small)
	byExecutor, both := real(t, db), real(t, db)
	byExecutor.exec = newAPI(byExecutor.root).exec
	var plans, others atomic.Int64
	both.exec = newAPI(both.root).exec
	both.exec.Use(plain.Fields(func(typeName string, operation *graphql.OperationContext, selections ast.SelectionSet) plain.Plan {
		plan := graph.Plain(typeName, operation, selections)
		if plan == nil {
			others.Add(1)
		} else {
			plans.Add(1)
		}
		return plan
	}))
	schema, pool := graph.NewExecutableSchema(graph.Config{}).Schema(), newPool(data)
	compare := func(viewer models.Viewer, op operation) {
		about := fmt.Sprintf("%s\n%v", op.Query, op.Variables)
		want, got := byExecutor.respond(t.Context(), viewer, op), both.respond(t.Context(), viewer, op)
		require.Equal(t, string(want.Data), string(got.Data), about)
		wantErrors, err := json.Marshal(want.Errors)
		require.NoError(t, err)
		gotErrors, err := json.Marshal(got.Errors)
		require.NoError(t, err)
		require.Equal(t, string(wantErrors), string(gotErrors), about)
	}
	for seed := range uint64(3 * operations(t)) {
		compare(models.Viewer{UserID: superuser, Superuser: true}, newOperation(seed, schema, pool))
	}
	require.Greater(t, plans.Load(), int64(operations(t)), "fields that were plain")
	require.Greater(t, others.Load(), int64(operations(t)), "fields that were not")

	for _, selection := range []string{
		`{ nodes { id ID: id __typename t: __typename role content createdAt metadata model tokensUsed databaseId } }`,
		`{ nodes { ...A ...A ... on Node { id } ... on Message { content ...A } } pageInfo { hasNextPage startCursor } pageInfo { endCursor hasNextPage } }`,
		`{ edges { cursor node { id @skip(if: $no) role @include(if: $no) content @skip(if: $yes) } } __typename }`,
		`{ edges { node { id @skip(if: $yes) } node { content } } ... @include(if: $no) { totalCount } }`,
		`{ nodes { id @skip(if: $yes) } }`,
		`{ nodes { id } totalCount }`,
		`{ nodes { id thread { id title } } edges { node { role } } }`,
	} {
		compare(models.Viewer{UserID: tenantA}, operation{
			Query: `query($yes: Boolean!, $no: Boolean!) { viewer { id name threads { nodes { title messages(first: 3) ` + selection + ` runs { nodes { status metadata outputData } } } } } }
				fragment A on Message { role c: content }`,
			Variables: map[string]any{"yes": true, "no": false},
		})
	}
}
