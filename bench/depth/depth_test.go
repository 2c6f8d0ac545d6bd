// Package depth_test measures that a page deep in a thread costs what its first page costs, and that the reference query needs as many
// statements over a million messages as over a hundred.
package depth_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/bench/edge"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

// 10 threads of 100,000 messages each, of one user among others.
const populate = `
	INSERT INTO users (id, email) SELECT n, 'user' || n || '@example.com' FROM generate_series(1, 100) n;
	INSERT INTO threads (id, user_id, title, created_at) SELECT md5('thread' || n)::uuid, 1 + n / 10, 'thread ' || n, now() - n * interval '1 minute' FROM generate_series(0, 999) n;
	INSERT INTO runs (user_id, thread_id, input_data) SELECT t.user_id, t.id, '{}' FROM threads t, generate_series(1, 5);
	ALTER TABLE messages DISABLE TRIGGER USER;
	INSERT INTO messages (thread_id, user_id, role, content, created_at)
		SELECT md5('thread' || n % 10)::uuid, 1, 'user', repeat('what was said ', 20), timestamptz '2026-01-01' + n * interval '1 second' FROM generate_series(0, 999999) n;
	ALTER TABLE messages ENABLE TRIGGER USER;`

func BenchmarkPageDepth(b *testing.B) {
	db := testdb.New(b)
	owner := db.Owner(b)
	_, err := owner.ExecContext(b.Context(), populate)
	require.NoError(b, err)
	_, err = owner.ExecContext(b.Context(), "VACUUM ANALYZE messages, threads, runs, users")
	require.NoError(b, err)
	asked := edge.Open(b, db)
	thread := models.GlobalID{Kind: models.KindThread, Key: "0"}
	require.NoError(b, owner.QueryRowContext(b.Context(), "SELECT md5('thread0')::uuid").Scan(&thread.Key))

	const query = `query($thread: ID!, $after: String) { thread(id: $thread) { messages(first: 20, after: $after) { nodes { id role content createdAt } pageInfo { endCursor } } } }`
	var deep string // after 90 % of the thread
	require.NoError(b, owner.QueryRowContext(b.Context(), `SELECT id::text || ' ' || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
		FROM messages WHERE thread_id = md5('thread0')::uuid ORDER BY created_at, id OFFSET 90000 LIMIT 1`).Scan(&deep))
	after := models.Cursor{Column: "created_at", Value: deep[37:], ID: deep[:36]}.String()
	first := map[string]any{"thread": thread.String()}
	far := map[string]any{"thread": thread.String(), "after": after}

	var shallow, deeper []time.Duration
	for range 20 { // warm both
		ask(b, asked, query, first)
		ask(b, asked, query, far)
	}
	for b.Loop() { // alternating, so that both meet the same weather
		shallow = append(shallow, ask(b, asked, query, first))
		deeper = append(deeper, ask(b, asked, query, far))
	}
	b.ReportMetric(float64(edge.Percentile(deeper, 50))/float64(edge.Percentile(shallow, 50)), "deep/first")
	b.ReportMetric(float64(edge.Percentile(shallow, 50).Microseconds()), "first-µs")
	b.ReportMetric(float64(edge.Percentile(deeper, 50).Microseconds()), "deep-µs")

	const reference = `{ viewer { threads(first: 20) { nodes { title messages(first: 20) { nodes { role content } } runs(first: 5) { nodes { status } } } } } }`
	tally := new(models.Tally)
	asked.Ask(models.WithTally(b.Context(), tally), b, 1, reference, nil)
	b.ReportMetric(float64(tally.Statements.Load()), "reference-statements")
}

// ask returns how long the first user's question took, which has an answer.
func ask(b *testing.B, asked *edge.Edge, query string, variables map[string]any) time.Duration {
	b.Helper()
	answer, took := asked.Ask(b.Context(), b, 1, query, variables)
	require.Contains(b, string(answer), `"nodes":[{`)
	return took
}
