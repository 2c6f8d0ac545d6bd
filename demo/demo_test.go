package demo_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/demo"
	"github.com/netra-ai/netra/internal/testdb"
)

var tiny = demo.Size{Users: 4, ThreadsPerUser: 3, MessagesPerThread: 4, RunsPerThread: 2, Events: 100}

func seed(t *testing.T, db *testdb.DB) {
	t.Helper()
	require.NoError(t, demo.Seed(t.Context(), demo.SeedConfig{OwnerURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL, Size: tiny, Seed: 7}))
}

func TestSeed(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	empty, err := demo.Empty(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	require.True(t, empty)
	seed(t, db)
	owner := db.Owner(t)

	for table, want := range map[string]int{"users": 4, "threads": 12, "messages": 48, "runs": 24, "run_events": 24} {
		var n int
		require.NoError(t, owner.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
		require.Equal(t, want, n, table)
	}
	var events int
	require.NoError(t, db.ClickHouse(t).QueryRowContext(t.Context(), "SELECT count() FROM workload_events").Scan(&events))
	require.Equal(t, tiny.Events, events)

	var next int
	require.NoError(t, owner.QueryRowContext(t.Context(), "INSERT INTO users (email) VALUES ('next@example.com') RETURNING id").Scan(&next))
	require.Equal(t, 5, next, "ids go on after the seeded ones")

	empty, err = demo.Empty(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	require.False(t, empty)
	require.ErrorContains(t, demo.Seed(t.Context(), demo.SeedConfig{OwnerURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL, Size: tiny}),
		"the database has users already")
	require.Error(t, demo.Seed(t.Context(), demo.SeedConfig{Size: demo.Size{Users: 2}}), "the demo users are three")
}

func TestSeedIsTheSameForTheSameSeed(t *testing.T) {
	t.Parallel()
	one, two := testdb.New(t), testdb.New(t)
	seed(t, one)
	seed(t, two)
	contents := func(db *testdb.DB) (sum string) {
		require.NoError(t, db.Owner(t).QueryRowContext(t.Context(),
			`SELECT md5(string_agg(id || role || content, ',' ORDER BY id)) FROM messages`).Scan(&sum))
		return sum
	}
	require.Equal(t, contents(one), contents(two))
}

// TestAgents shows that each step of a run is in its history, in order.
func TestAgents(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	seed(t, db)
	owner := db.Owner(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- demo.RunAgents(ctx, demo.AgentsConfig{OwnerURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL, Rate: 5, Concurrency: 2, Log: slog.New(slog.DiscardHandler)})
	}()
	require.Eventually(t, func() bool {
		var histories int
		require.NoError(t, owner.QueryRowContext(t.Context(), `SELECT count(*) FROM (
			SELECT string_agg(e.new_status, ' ' ORDER BY e.version) AS steps FROM run_events e JOIN runs r ON r.id = e.run_id WHERE r.metadata @> '{"demo": true}' GROUP BY run_id
		) h WHERE steps IN ('pending processing completed', 'pending processing failed', 'pending processing cancelled')`).Scan(&histories))
		return histories >= 3
	}, 60*time.Second, 100*time.Millisecond)
	clickhouse := db.ClickHouse(t)
	require.Eventually(t, func() bool {
		var events int
		require.NoError(t, clickhouse.QueryRowContext(t.Context(), "SELECT count() FROM workload_events").Scan(&events))
		return events > tiny.Events
	}, 60*time.Second, 100*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
}

func TestAgentsWorkOnWhileClickHouseIsAway(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	seed(t, db)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- demo.RunAgents(ctx, demo.AgentsConfig{OwnerURL: db.OwnerURL, ClickHouseURL: "http://127.0.0.1:1/none", Rate: 5, Concurrency: 4, Log: slog.New(slog.DiscardHandler)})
	}()
	owner := db.Owner(t)
	require.Eventually(t, func() bool {
		var done int
		require.NoError(t, owner.QueryRowContext(t.Context(), `SELECT count(*) FROM runs WHERE metadata @> '{"demo": true}' AND completed_at IS NOT NULL`).Scan(&done))
		return done >= 3
	}, 60*time.Second, 100*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
}
