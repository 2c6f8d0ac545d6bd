package migrations_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
)

// metrics makes an event's VALUES from names and values; at is like 2026-11-23 10:05:00.
func event(at string, user int, workload, kind, names, values string) string {
	return fmt.Sprintf("(generateUUIDv4(), '%s', %d, '%s', '%s', 'compute', %s, %s, arrayMap(x -> 'ms', %s))", at, user, workload, kind, names, values, names)
}

func insertEvents(t *testing.T, db *sql.DB, ctx context.Context, events ...string) {
	t.Helper()
	_, err := db.ExecContext(ctx, `INSERT INTO workload_events (event_id, timestamp, user_id, workload_id, event_type, event_category, metrics.name, metrics.value, metrics.unit) VALUES `+
		strings.Join(events, ", "))
	require.NoError(t, err)
}

// recent is a moment of today: old events fall to the TTL at once.
func recent(clock string) string {
	return time.Now().UTC().AddDate(0, 0, -1).Format("2006-01-02 ") + clock
}

const aggregates = `
	SELECT concat(formatDateTime(hour, '%H'), ' ', workload_id, ' ', metric_name, ': ', arrayStringConcat(arrayMap(x -> toString(x),
		[sum(total_value), sum(event_count), min(min_value), max(max_value), sum(total_value) / sum(event_count)]), ' '))
	FROM aggregated_metrics WHERE user_id = 1 GROUP BY hour, workload_id, metric_name ORDER BY hour, workload_id, metric_name`

func TestAggregatesAreRightBeforeAndAfterMerges(t *testing.T) {
	t.Parallel()
	db := testdb.New(t).ClickHouse(t)
	insertEvents(t, db, t.Context(),
		event(recent("10:00:00"), 1, "train", "metric", "['latency', 'tokens']", "[10, 100]"),
		event(recent("10:59:59.999"), 1, "train", "metric", "['latency']", "[-30]"))
	insertEvents(t, db, t.Context(), event(recent("10:30:00"), 1, "train", "metric", "['tokens', 'latency']", "[1, 5]"))
	insertEvents(t, db, t.Context(),
		event(recent("11:00:00"), 1, "train", "metric", "['latency']", "[7]"),
		event(recent("10:00:00"), 1, "serve", "metric", "['latency']", "[0]"),
		event(recent("10:00:00"), 2, "train", "metric", "['latency']", "[1000]"),
		event(recent("10:00:00"), 1, "train", "error", "['latency']", "[1000]"),
		event(recent("10:00:00"), 1, "train", "metric", "[]", "[]"),
		event(recent("10:00:00"), 1, "train", "metric", "['latency', 'latency']", "[nan, inf]"))
	want := []string{
		"10 serve latency: 0 1 0 0 0",
		"10 train latency: -15 3 -30 10 -5",
		"10 train tokens: 101 2 1 100 50.5",
		"11 train latency: 7 1 7 7 7",
	}
	require.Equal(t, want, column[string](t, db, aggregates))

	_, err := db.Exec("OPTIMIZE TABLE aggregated_metrics FINAL")
	require.NoError(t, err)
	require.EqualValues(t, 5, value[uint64](t, db, "SELECT count() FROM aggregated_metrics"), "the parts have merged")
	require.Equal(t, want, column[string](t, db, aggregates))
	require.Equal(t, -5.0, value[float64](t, db, "SELECT avg_value FROM aggregated_metrics FINAL WHERE user_id = 1 AND workload_id = 'train' AND metric_name = 'latency' AND toHour(hour) = 10"))
	require.Equal(t, -30.0, value[float64](t, db, "SELECT min_value FROM aggregated_metrics WHERE user_id = 1 AND workload_id = 'train' AND metric_name = 'latency' AND toHour(hour) = 10"))
}

func TestPercentilesMergeAcrossPartsAndHours(t *testing.T) {
	t.Parallel()
	db := testdb.New(t).ClickHouse(t)
	for hour := range 4 {
		_, err := db.Exec(fmt.Sprintf(`INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit)
			SELECT '%s', 1, 'train', 'metric', ['latency'], [number * 4 + %d], ['ms'] FROM numbers(250)`, recent(fmt.Sprintf("%02d:00:00", hour)), hour))
		require.NoError(t, err)
	}
	quantiles := value[[]float32](t, db, "SELECT quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(value_quantiles) FROM aggregated_metrics")
	require.InDeltaSlice(t, []float32{500, 900, 950, 990}, quantiles, 10)
}

func TestARetriedInsertCountsOnce(t *testing.T) {
	t.Parallel()
	db := testdb.New(t).ClickHouse(t)
	batch := func(token string, events ...string) {
		insertEvents(t, db, clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token":                         token,
			"deduplicate_blocks_in_dependent_materialized_views": 1,
		})), events...)
	}
	first := event(recent("10:00:00"), 1, "train", "metric", "['latency']", "[10]")
	for range 3 {
		batch("a", first)
	}
	require.EqualValues(t, 1, value[uint64](t, db, "SELECT count() FROM workload_events"))
	require.Equal(t, []string{"10 train latency: 10 1 10 10 10"}, column[string](t, db, aggregates))

	// Other events that happen to aggregate to an equal row are not a retry.
	batch("b", first)
	insertEvents(t, db, t.Context(), first)
	insertEvents(t, db, t.Context(), first)
	require.EqualValues(t, 4, value[uint64](t, db, "SELECT count() FROM workload_events"))
	require.Equal(t, []string{"10 train latency: 40 4 10 10 10"}, column[string](t, db, aggregates))
}

func TestEqualActivitiesAddUpAndRetriedOnesDoNot(t *testing.T) {
	t.Parallel()
	db := testdb.New(t).ClickHouse(t)
	for _, token := range []string{"a", "b", "b", "c", "a"} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
		_, err := db.ExecContext(ctx, "INSERT INTO user_activity (user_id, action, count, total_duration_ms) VALUES (1, 'login', 1, 20)")
		require.NoError(t, err)
	}
	_, err := db.Exec("OPTIMIZE TABLE user_activity FINAL")
	require.NoError(t, err)
	require.Equal(t, []string{"3 60"}, column[string](t, db, "SELECT concat(toString(count), ' ', toString(total_duration_ms)) FROM user_activity WHERE date = toDate(now('UTC'))"))
}

func TestRecentWorkloadsAreThoseOfSevenDays(t *testing.T) {
	t.Parallel()
	db := testdb.New(t).ClickHouse(t)
	insertEvents(t, db, t.Context(),
		event(recent("10:00:00"), 1, "train", "start", "[]", "[]"),
		event(recent("10:00:01"), 1, "train", "stop", "[]", "[]"),
		event(recent("10:00:02"), 1, "train", "stop", "[]", "[]"),
		event(time.Now().UTC().AddDate(0, 0, -8).Format(time.DateTime), 1, "old", "start", "[]", "[]"))
	require.Equal(t, []string{"train 1 3 2 " + recent("10:00:02.000")}, column[string](t, db,
		"SELECT concat(workload_id, ' ', toString(user_id), ' ', toString(event_count), ' ', toString(unique_event_types), ' ', toString(last_seen)) FROM recent_workloads"))
}

func TestEventsAndAggregatesExpire(t *testing.T) {
	t.Parallel()
	db := testdb.New(t).ClickHouse(t)
	for table, ttl := range map[string]string{
		"workload_events":    "TTL timestamp + toIntervalDay(90)",
		"aggregated_metrics": "TTL hour + toIntervalYear(1)",
		"user_activity":      "TTL date + toIntervalMonth(6)",
	} {
		require.Contains(t, value[string](t, db, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = $1", table), ttl)
	}
	insertEvents(t, db, t.Context(), event(time.Now().UTC().AddDate(0, 0, -91).Format(time.DateTime), 1, "old", "start", "[]", "[]"))
	_, err := db.Exec("OPTIMIZE TABLE workload_events FINAL")
	require.NoError(t, err)
	require.EqualValues(t, 0, value[uint64](t, db, "SELECT count() FROM workload_events"))
}

func TestHoursAndMonthsAreUTCWhateverTheSessionsZone(t *testing.T) {
	t.Parallel()
	db := testdb.New(t).ClickHouse(t)
	inIndia := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"session_timezone": "Asia/Kolkata"}))
	insertEvents(t, db, inIndia, event(recent("10:45:00"), 1, "train", "metric", "['latency']", "[1]"))
	require.Equal(t, []string{"10 train latency: 1 1 1 1 1"}, column[string](t, db, aggregates))
}
