package migrations_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/migrations"
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

// yesterday is the same for all of a test, even one that midnight finds at work.
var yesterday = time.Now().UTC().AddDate(0, 0, -1).Format("2006-01-02 ")

// recent is a moment of yesterday: old events fall to the TTL at once.
func recent(clock string) string { return yesterday + clock }

const aggregates = `
	SELECT concat(formatDateTime(hour, '%H'), ' ', workload_id, ' ', metric_name, ': ', arrayStringConcat(arrayMap(x -> toString(x),
		[sum(total_value), sum(event_count), min(min_value), max(max_value), sum(total_value) / sum(event_count)]), ' '))
	FROM aggregated_metrics WHERE user_id = 1 GROUP BY hour, workload_id, metric_name ORDER BY hour, workload_id, metric_name`

func TestAggregatesAreRightBeforeAndAfterMerges(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t).ClickHouse(t)
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
	db := testdb.NewClickHouse(t).ClickHouse(t)
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
	db := testdb.NewClickHouse(t).ClickHouse(t)
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
	requireAggregatesOfEvents(t, db)

	// Other events that happen to aggregate to an equal row are not a retry.
	batch("b", first)
	insertEvents(t, db, t.Context(), first)
	insertEvents(t, db, t.Context(), first)
	require.EqualValues(t, 4, value[uint64](t, db, "SELECT count() FROM workload_events"))
	require.Equal(t, []string{"10 train latency: 40 4 10 10 10"}, column[string](t, db, aggregates))
	requireAggregatesOfEvents(t, db)
}

// What each table of aggregates says, by user, and the same from the events; user 0 is everybody.
var metricTables = map[string][2]string{
	"aggregated_metrics": {"hour, workload_id, thread_id", "toStartOfHour(timestamp) AS hour, workload_id, dimensions['thread_id'] AS thread_id"},
	"metric_sums": {"grain, start", "arrayJoin([('day', toStartOfDay(timestamp)), ('hour', toStartOfHour(timestamp)), ('quarter', toStartOfFifteenMinutes(timestamp))]) AS piece," +
		" CAST(piece.1 AS Enum8('day' = 1, 'hour' = 2, 'quarter' = 3)) AS grain, piece.2 AS start"},
	"metric_dimensions": {"hour, model, tool, agent_type, status, environment", "toStartOfHour(timestamp) AS hour, dimensions['model'] AS model, dimensions['tool'] AS tool," +
		" dimensions['agent_type'] AS agent_type, dimensions['status'] AS status, dimensions['environment'] AS environment"},
	"metric_bins": {"hour, bin", "toStartOfHour(timestamp) AS hour, toInt16(multiIf(metric.value > 0, 10000 + floor(log(metric.value) / log(1.02))," +
		" metric.value < 0, -10000 - ceil(log(-metric.value) / log(1.02)), 0)) AS bin"},
}

// requireAggregatesOfEvents compares all tables with the events, once as they are and once merged.
func requireAggregatesOfEvents(t *testing.T, db *sql.DB) {
	t.Helper()
	for table, of := range metricTables {
		sums, values := "sum(total_value), min(min_value), max(max_value), ", "sum(metric.value), min(metric.value), max(metric.value), "
		if table == "metric_bins" {
			sums, values = "", ""
		}
		owners := "arrayJoin(arrayDistinct([user_id, 0])) AS owner"
		if table == "aggregated_metrics" {
			owners = "user_id AS owner"
		}
		want := column[string](t, db, "SELECT toString(tuple(owner, metric_name, unit, "+of[0]+", "+values+"count())) FROM (SELECT "+owners+
			", metric.name AS metric_name, metric.unit AS unit, metric.value, "+of[1]+
			" FROM workload_events ARRAY JOIN metrics AS metric WHERE event_type = 'metric' AND isFinite(metric.value)) GROUP BY owner, metric_name, unit, "+of[0]+" ORDER BY ALL")
		require.NotEmpty(t, want)
		for _, merged := range []bool{false, true} {
			if merged {
				_, err := db.Exec("OPTIMIZE TABLE " + table + " FINAL")
				require.NoError(t, err)
			}
			require.Equal(t, want, column[string](t, db, "SELECT toString(tuple(user_id, metric_name, unit, "+of[0]+", "+sums+"sum(event_count))) FROM "+table+
				" GROUP BY user_id, metric_name, unit, "+of[0]+" ORDER BY ALL"), "%s, merged: %v", table, merged)
		}
		require.EqualValues(t, len(want), value[uint64](t, db, "SELECT count() FROM "+table), table+" has merged")
	}
}

// insertMixedEvents writes values of all kinds by three users, and by nobody, in several blocks.
func insertMixedEvents(t *testing.T, db *sql.DB) {
	t.Helper()
	for block := range 3 {
		_, err := db.Exec(fmt.Sprintf(`INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit, dimensions)
			SELECT toDateTime64('%s', 3, 'UTC') + toIntervalMinute(number * 7), number %% 4, concat('w', toString(number %% 5)), if(number %% 10 = 9, 'error', 'metric'),
				['latency', 'tokens', 'tokens'], [toInt64(number %% 41) / 64 - 0.25, if(number %% 13 = 0, nan, number), %d], ['ms', if(number %% 2 = 0, '', 'k'), ''],
				map('model', toString(number %% 3), 'status', if(number %% 4 = 0, 'error', 'ok'), 'thread_id', if(number %% 2 = 0, '', toString(number %% 7)))
			FROM numbers(500)`, recent("00:00:00"), block))
		require.NoError(t, err)
	}
}

func TestAllAggregatesAreThoseOfTheEvents(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t).ClickHouse(t)
	insertMixedEvents(t, db)
	requireAggregatesOfEvents(t, db)
}

func TestAggregatesAreFilledFromTheEventsThatWereThereBefore(t *testing.T) {
	t.Parallel()
	test := testdb.New(t)
	db, owner, log := test.ClickHouse(t), test.Owner(t), slog.New(slog.DiscardHandler)
	insertMixedEvents(t, db)
	const first = 20261123000500
	for undone := int64(0); undone != first; {
		m, err := migrations.Down(t.Context(), owner, db, migrations.ClickHouse, log)
		require.NoError(t, err)
		undone = m.Version
	}
	require.Equal(t, []string{"aggregated_metrics"}, column[string](t, db, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%metric%' AND engine != 'MaterializedView'"))
	// A year of aggregates outlives the events.
	_, err := db.Exec(`INSERT INTO aggregated_metrics (hour, user_id, workload_id, metric_name, unit, total_value, event_count, min_value, max_value, value_quantiles)
		SELECT toStartOfDay(now('UTC')) - INTERVAL 200 DAY + INTERVAL 5 HOUR, 1, 'old', 'latency', 'ms', 30, 2, 10, 20, quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(toFloat64(number)) FROM (SELECT arrayJoin([10, 20]) AS number)`)
	require.NoError(t, err)
	insertEvents(t, db, t.Context(), event(recent("10:00:00"), 1, "train", "metric", "['latency']", "[10]"))

	require.NoError(t, migrations.Up(t.Context(), owner, db, log))
	for table, users := range map[string][]string{"aggregated_metrics": {"1"}, "metric_sums": {"0", "0", "0", "1", "1", "1"}} {
		require.Equal(t, users, column[string](t, db, "SELECT toString(user_id) FROM "+table+" WHERE total_value = 30 AND event_count = 2 AND min_value = 10 AND max_value = 20 ORDER BY user_id"), table)
		_, err := db.Exec("ALTER TABLE " + table + " DELETE WHERE total_value = 30 AND event_count = 2 AND min_value = 10 AND max_value = 20 SETTINGS mutations_sync = 1")
		require.NoError(t, err)
	}
	insertEvents(t, db, t.Context(), event(recent("11:00:00"), 1, "train", "metric", "['latency']", "[10]"))
	requireAggregatesOfEvents(t, db)
}

func TestEqualActivitiesAddUpAndRetriedOnesDoNot(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t).ClickHouse(t)
	for _, token := range []string{"a", "b", "b", "c", "a"} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
		_, err := db.ExecContext(ctx, "INSERT INTO user_activity (date, user_id, action, count, total_duration_ms) VALUES ('"+strings.TrimSpace(yesterday)+"', 1, 'login', 1, 20)")
		require.NoError(t, err)
	}
	_, err := db.Exec("OPTIMIZE TABLE user_activity FINAL")
	require.NoError(t, err)
	require.Equal(t, []string{"3 60"}, column[string](t, db, "SELECT concat(toString(count), ' ', toString(total_duration_ms)) FROM user_activity"))
}

func TestRecentWorkloadsAreThoseOfSevenDays(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t).ClickHouse(t)
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
	db := testdb.NewClickHouse(t).ClickHouse(t)
	for table, ttl := range map[string]string{
		"workload_events":    "TTL timestamp + toIntervalDay(90)",
		"aggregated_metrics": "TTL hour + toIntervalYear(1)",
		"metric_sums":        "TTL start + toIntervalYear(1)",
		"metric_bins":        "TTL hour + toIntervalYear(1)",
		"metric_dimensions":  "TTL hour + toIntervalYear(1)",
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
	db := testdb.NewClickHouse(t).ClickHouse(t)
	inIndia := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"session_timezone": "Asia/Kolkata"}))
	insertEvents(t, db, inIndia, event(recent("10:45:00"), 1, "train", "metric", "['latency']", "[1]"))
	require.Equal(t, []string{"10 train latency: 1 1 1 1 1"}, column[string](t, db, aggregates))
}

func TestASketchOfOneValueIsTheEnginesOwn(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t).ClickHouse(t)
	insertEvents(t, db, t.Context(), event(recent("10:00:00"), 1, "train", "metric",
		"['a', 'b', 'c', 'd', 'e', 'f']", "[0, -0.1, 12345678.9, 1e-45, 1e300, -1e300]"))
	require.EqualValues(t, 6, value[uint64](t, db, "SELECT countIf(hex(CAST(value_quantiles AS String)) = hex(CAST(initializeAggregation('quantilesTDigestState(0.5, 0.9, 0.95, 0.99)', total_value) AS String))) FROM aggregated_metrics"))
}
