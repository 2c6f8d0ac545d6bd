package demo_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/netra-ai/netra/demo"
	"github.com/netra-ai/netra/internal/testdb"
)

var tiny = demo.Size{Users: 5, ThreadsPerUser: 4, MessagesPerThread: 12, RunsPerThread: 6, Events: 1100}

func config(db *testdb.DB) demo.SeedConfig {
	return demo.SeedConfig{OwnerURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL, Size: tiny, Seed: 7}
}

func seeded(t *testing.T) *testdb.DB {
	t.Helper()
	db := testdb.New(t)
	require.NoError(t, demo.Seed(t.Context(), config(db)))
	return db
}

// ask scans the one row of a query.
func ask[T any](t testing.TB, db *sql.DB, query string, arguments ...any) (answer T) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), query, arguments...).Scan(&answer))
	return answer
}

func requireSize(t *testing.T, db *testdb.DB, size demo.Size) {
	t.Helper()
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	threads := size.Users * size.ThreadsPerUser
	for table, want := range map[string]int{
		"users": size.Users, "threads": threads, "messages": threads * size.MessagesPerThread, "runs": threads * size.RunsPerThread,
	} {
		require.Equal(t, want, ask[int](t, owner, "SELECT count(*) FROM "+table), table)
	}
	require.Equal(t, size.Events, ask[int](t, clickhouse, "SELECT count() FROM workload_events"))
	require.Equal(t, size.Events, ask[int](t, clickhouse, "SELECT uniqExact(event_id) FROM workload_events"), "an event has an id of its own")
	require.Equal(t,
		ask[int](t, clickhouse, "SELECT sum(length(metrics.name)) FROM workload_events WHERE event_type = 'metric'"),
		ask[int](t, clickhouse, "SELECT sum(event_count) FROM aggregated_metrics"), "the aggregates have what the events have")
}

func TestSeedWritesExactlyWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	empty, err := demo.Empty(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	require.True(t, empty)

	require.NoError(t, demo.Seed(t.Context(), config(db)))
	requireSize(t, db, tiny)
	empty, err = demo.Empty(t.Context(), db.OwnerURL)
	require.NoError(t, err)
	require.False(t, empty)

	owner := db.Owner(t)
	for _, table := range []string{`"references" WHERE embedding IS NOT NULL`, "supply_catalog WHERE user_id IS NULL", "supply_catalog WHERE user_id = 1", "api_keys"} {
		require.Positive(t, ask[int](t, owner, "SELECT count(*) FROM "+table), table)
	}
	next := ask[int](t, owner, "INSERT INTO users (email) VALUES ('next@example.com') RETURNING id")
	require.Equal(t, tiny.Users+1, next, "ids go on after the seeded ones")
}

func TestSeedWritesAsFewAsTheDemoUsers(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	cfg := config(db)
	cfg.Size = demo.Size{Users: 3}
	require.NoError(t, demo.Seed(t.Context(), cfg))
	requireSize(t, db, cfg.Size)
}

func TestSeedBeginsWithTheDemoUsers(t *testing.T) {
	t.Parallel()
	owner := seeded(t).Owner(t)
	require.Equal(t, "alice@example.com, bob@example.com, admin@example.com",
		ask[string](t, owner, "SELECT string_agg(email, ', ' ORDER BY id) FROM users WHERE id <= 3"))
	require.Equal(t, "alice@example.com, bob@example.com, admin@example.com",
		ask[string](t, owner, "SELECT string_agg(email, ', ' ORDER BY created_at) FROM (SELECT * FROM users ORDER BY created_at LIMIT 3) u"))
	require.Equal(t, "admin@example.com", ask[string](t, owner, "SELECT string_agg(email, ', ') FROM users WHERE is_superuser"))
	require.NoError(t, bcrypt.CompareHashAndPassword(ask[[]byte](t, owner, "SELECT min(password_hash) FROM users"), []byte(demo.Password)))
	require.Equal(t, 3, ask[int](t, owner, "SELECT count(*) FROM users WHERE password_hash IS NOT NULL"))
}

// TestSeedIsTheSameForTheSameSeed compares everything but the times.
func TestSeedIsTheSameForTheSameSeed(t *testing.T) {
	t.Parallel()
	contents := func(seed uint64) string {
		db := testdb.New(t)
		cfg := config(db)
		cfg.Seed = seed
		require.NoError(t, demo.Seed(t.Context(), cfg))
		var all []string
		for table, columns := range map[string]string{
			"users":          "id, email, name, password_hash, oauth_provider, oauth_id, is_superuser, metadata",
			"threads":        "id, user_id, title, status, metadata, updated_at - created_at",
			"messages":       "id, thread_id, user_id, role, content, tokens_used, model, metadata",
			"runs":           "id, thread_id, user_id, status, agent_type, input_data, output_data, error_message, started_at - created_at, metadata",
			`"references"`:   "id, user_id, name, type, content, file_path, embedding, metadata",
			"supply_catalog": "id, user_id, name, specifications, pricing",
			"api_keys":       "id, user_id, name, key_hash",
		} {
			all = append(all, table+" "+ask[string](t, db.Owner(t), fmt.Sprintf("SELECT md5(string_agg(r::text, ' ' ORDER BY r::text)) FROM (SELECT %s FROM %s) r", columns, table)))
		}
		all = append(all, ask[string](t, db.ClickHouse(t), `SELECT toString(groupBitXor(cityHash64(event_id, user_id, workload_id, event_type, event_category,
			metrics.name, metrics.value, metrics.unit, toString(dimensions), metadata))) FROM workload_events WHERE event_type = 'metric'`))
		sum := sha256.New()
		slices.Sort(all)
		for _, part := range all {
			sum.Write([]byte(part))
		}
		return hex.EncodeToString(sum.Sum(nil))
	}
	one := contents(7)
	require.Equal(t, one, contents(7))
	require.NotEqual(t, one, contents(8))
}

func TestSeededRowsKeepToTheirTenant(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	app := db.App(t)
	seen := func(settings, query string) (n int) {
		tx, err := app.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer tx.Rollback()
		_, err = tx.ExecContext(t.Context(), settings)
		require.NoError(t, err)
		require.NoError(t, tx.QueryRowContext(t.Context(), query).Scan(&n))
		return n
	}
	const alice = "SET LOCAL netra.user_id = '1'"
	for table, rows := range map[string]int{
		"users": 1, "threads": tiny.ThreadsPerUser, "messages": tiny.ThreadsPerUser * tiny.MessagesPerThread,
		"runs": tiny.ThreadsPerUser * tiny.RunsPerThread, "run_events": tiny.ThreadsPerUser * tiny.RunsPerThread,
	} {
		require.Equal(t, rows, seen(alice, "SELECT count(id) FROM "+strings.Replace(table, "run_events", "(SELECT seq AS id FROM run_events) e", 1)), table)
		require.Zero(t, seen("SELECT 1", "SELECT count(id) FROM "+strings.Replace(table, "run_events", "(SELECT seq AS id FROM run_events) e", 1)), table)
	}
	require.Zero(t, seen(alice, `SELECT count(*) FROM messages m LEFT JOIN threads t ON t.id = m.thread_id AND t.user_id = m.user_id WHERE t.id IS NULL OR m.user_id <> 1`))
	require.Equal(t, tiny.Users*tiny.ThreadsPerUser, seen("SET LOCAL netra.superuser = 'on'", "SELECT count(*) FROM threads"))
	require.Equal(t, tiny.Users, ask[int](t, db.ClickHouse(t), "SELECT uniqExact(user_id) FROM workload_events"))
}

func TestSeededHistoryIsConsistent(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	owner := db.Owner(t)
	for promise, violations := range map[string]string{
		"messages follow one another": `SELECT count(*) FROM (SELECT created_at, lag(created_at) OVER w AS before, role, row_number() OVER w AS place
			FROM messages WINDOW w AS (PARTITION BY thread_id ORDER BY created_at)) m WHERE created_at <= before OR (place = 1) <> (role = 'system')`,
		"updated_at is the last activity": `SELECT count(*) FROM threads t WHERE updated_at <> greatest(created_at,
			(SELECT max(created_at) FROM messages WHERE thread_id = t.id), (SELECT max(coalesce(completed_at, started_at, created_at)) FROM runs WHERE thread_id = t.id))`,
		"nothing is from the future": `SELECT count(*) FROM (SELECT updated_at FROM threads UNION ALL SELECT created_at FROM messages
			UNION ALL SELECT completed_at FROM runs UNION ALL SELECT created_at FROM runs) all_times(at) WHERE at > now()`,
		"nothing is older than ClickHouse remembers": `SELECT count(*) FROM threads WHERE created_at < now() - interval '85 days'`,
		"times of a run follow one another":          `SELECT count(*) FROM runs WHERE started_at < created_at OR completed_at < started_at`,
		"a run has what its status says": `SELECT count(*) FROM runs WHERE
			(status = 'pending') <> (started_at IS NULL) OR (status IN ('pending', 'processing')) <> (completed_at IS NULL) OR
			(status = 'completed') <> (output_data IS NOT NULL) OR (status = 'failed') <> (error_message IS NOT NULL)`,
		"a run has one event, of its status": `SELECT count(*) FROM runs r FULL JOIN run_events e ON e.run_id = r.id AND e.version = r.version
			WHERE r.version IS DISTINCT FROM 1 OR e.new_status IS DISTINCT FROM r.status OR e.old_status IS NOT NULL`,
		"only assistants have models": `SELECT count(*) FROM messages WHERE (role = 'assistant') <> (model IS NOT NULL AND tokens_used > 0)`,
		"templates are filled in":     `SELECT count(*) FROM messages WHERE content LIKE '%\%!%' OR content LIKE '%[%]%'`,
	} {
		require.Zero(t, ask[int](t, owner, violations), promise)
	}
	for _, status := range []string{"pending", "processing", "completed", "failed", "cancelled"} {
		require.Positive(t, ask[int](t, owner, "SELECT count(*) FROM runs WHERE status = $1", status), status)
	}
	require.Greater(t, ask[int](t, owner, "SELECT count(*) FROM threads WHERE created_at > now() - interval '40 days'"),
		ask[int](t, owner, "SELECT count(*) FROM threads WHERE created_at <= now() - interval '40 days'"), "more of late")

	// Events belong to runs, and lie within their times.
	runs := make(map[string]string)
	rows, err := owner.QueryContext(t.Context(), `SELECT id, user_id || ' ' || thread_id || ' ' || status || ' ' || agent_type FROM runs WHERE status <> 'pending'`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, of string
		require.NoError(t, rows.Scan(&id, &of))
		runs[id] = of
	}
	require.NoError(t, rows.Err())
	events, err := db.ClickHouse(t).QueryContext(t.Context(), `SELECT workload_id, toString(user_id) || ' ' || dimensions['thread_id'] || ' ' || dimensions['status'] || ' ' || dimensions['agent_type']
		FROM workload_events WHERE timestamp <= now64(3)`)
	require.NoError(t, err)
	defer events.Close()
	count := 0
	for events.Next() {
		var id, of string
		require.NoError(t, events.Scan(&id, &of))
		require.Equal(t, runs[id], of)
		count++
	}
	require.NoError(t, events.Err())
	require.Equal(t, tiny.Events, count)
}

func TestSeedAppendsOtherUsers(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	cfg := config(db)
	require.EqualError(t, demo.Seed(t.Context(), cfg), "the database has users already: seed an empty one, or append")
	requireSize(t, db, tiny)

	cfg.Append = true
	require.NoError(t, demo.Seed(t.Context(), cfg))
	twice := tiny
	twice.Users, twice.Events = 2*tiny.Users, 2*tiny.Events
	requireSize(t, db, twice)
	require.Equal(t, 3, ask[int](t, db.Owner(t), "SELECT count(*) FROM users WHERE email LIKE '%@example.com'"))
}

func TestSeedRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for message, size := range map[string]demo.Size{
		"2 users: from 3, the demo users, to 10,000,000":                 {Users: 2},
		"20000000 users: from 3, the demo users, to 10,000,000":          {Users: 20_000_000},
		"sizes are not negative":                                         {Users: 3, ThreadsPerUser: -1},
		"events are reported for runs: without runs there are no events": {Users: 3, ThreadsPerUser: 3, Events: 1},
		"more than 10,000,000,000 rows in one table":                     {Users: 1000, ThreadsPerUser: 1000, MessagesPerThread: 1_000_000},
	} {
		require.EqualError(t, demo.Seed(t.Context(), demo.SeedConfig{Size: size}), message)
	}

	db := testdb.Empty(t)
	require.EqualError(t, demo.Seed(t.Context(), config(db)), "PostgreSQL has no schema yet: run `netra migrate up`")
	_, err := demo.Empty(t.Context(), db.OwnerURL)
	require.ErrorContains(t, err, "PostgreSQL has no schema yet: run `netra migrate up`")

	for what, spoil := range map[string]func(*demo.SeedConfig){
		"PostgreSQL is not to be reached: ": func(cfg *demo.SeedConfig) { cfg.OwnerURL = "postgres://owner:secret@127.0.0.1:1/none" },
		"ClickHouse is not to be reached: ": func(cfg *demo.SeedConfig) {
			cfg.OwnerURL, cfg.ClickHouseURL = testdb.New(t).OwnerURL, "http://owner:secret@127.0.0.1:1/none"
		},
		"parse the owner's URL of PostgreSQL": func(cfg *demo.SeedConfig) { cfg.OwnerURL = "postgres://owner:secret@127.0.0.1:port/" },
		"parse the URL of ClickHouse": func(cfg *demo.SeedConfig) {
			cfg.OwnerURL, cfg.ClickHouseURL = testdb.New(t).OwnerURL, "http://owner:secret@[/"
		},
	} {
		cfg := config(db)
		spoil(&cfg)
		err := demo.Seed(t.Context(), cfg)
		require.ErrorContains(t, err, what)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestSeedThatIsStoppedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"wrote users", "wrote messages", "wrote references"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			db := testdb.New(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			cfg := config(db)
			cfg.Progress = func(line string) {
				if strings.HasPrefix(line, phase) {
					stop()
				}
			}
			require.ErrorIs(t, demo.Seed(ctx, cfg), context.Canceled)
			empty, err := demo.Empty(t.Context(), db.OwnerURL)
			require.NoError(t, err)
			require.True(t, empty)

			cfg.Progress = nil
			require.NoError(t, demo.Seed(t.Context(), cfg))
			requireSize(t, db, tiny)
		})
	}
}

// TestSeedRemovesTheEventsOfAnEarlierAttempt lets PostgreSQL forget what ClickHouse has, as it does when a seed fails at its end.
func TestSeedRemovesTheEventsOfAnEarlierAttempt(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	clickhouse := db.ClickHouse(t)
	_, err := clickhouse.ExecContext(t.Context(), "INSERT INTO workload_events (user_id, workload_id, event_type) VALUES (1, 'not ours', 'start')")
	require.NoError(t, err)
	_, err = db.Owner(t).ExecContext(t.Context(), "DELETE FROM users")
	require.NoError(t, err)
	_, err = db.Owner(t).ExecContext(t.Context(), "DELETE FROM supply_catalog")
	require.NoError(t, err)

	require.NoError(t, demo.Seed(t.Context(), config(db)))
	require.Equal(t, 1, ask[int](t, clickhouse, "SELECT count() FROM workload_events WHERE workload_id = 'not ours'"))
	_, err = clickhouse.ExecContext(t.Context(), "DELETE FROM workload_events WHERE workload_id = 'not ours'")
	require.NoError(t, err)
	requireSize(t, db, tiny)
}

func TestSeedTellsHowFarItIs(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	cfg := config(db)
	var lines []string
	cfg.Progress = func(line string) { lines = append(lines, line) }
	require.NoError(t, demo.Seed(t.Context(), cfg))
	told := strings.Join(lines, "\n")
	for _, line := range []string{
		`wrote users: 5 \([\d,]+ a second\)`, `wrote threads: 20 \(`, `wrote messages: 240 \(`, `wrote runs: 120 \(`,
		`wrote references: 15, supply items: 18, API keys: \d`, `wrote events: 1,100 \(`, `gathered statistics \(`,
	} {
		require.Regexp(t, line, told)
	}
}
