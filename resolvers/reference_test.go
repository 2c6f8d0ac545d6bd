package resolvers_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

const referenceQuery = `{ viewer { email threads(first: 20) { nodes { title status
	messages(first: 20) { nodes { role content createdAt } }
	runs(first: 5) { nodes { status agentType createdAt } } } } } }`

const referenceQueryWithTotals = `{ viewer { threads(first: 20) { totalCount nodes { title
	messages(first: 20) { totalCount nodes { role content } }
	runs(first: 5) { nodes { status } } } } } }`

// TestReferenceQueryStatements reads PostgreSQL's own count: of statements on tables, beside the one that sets the viewer.
func TestReferenceQueryStatements(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]size{"few rows": small, "many rows": large} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, _ := load(t, s)
			api, owner := real(t, db), db.Owner(t)
			count := func(query string) (statements int) {
				var before int
				ask := func(into *int) {
					require.NoError(t, owner.QueryRowContext(t.Context(), `SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
						WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
						AND userid = 'netra_app'::regrole AND query ~ 'FROM (users|threads|messages|runs|unnest)'`).Scan(into))
				}
				ask(&before)
				require.Contains(t, api.ask(t.Context(), models.Viewer{UserID: tenantA}, operation{Query: query}), mark(tenantA))
				ask(&statements)
				return statements - before
			}
			require.Equal(t, 4, count(referenceQuery))
			require.Equal(t, 6, count(referenceQueryWithTotals))
		})
	}
}
