package analytics_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

var (
	noon   = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	lately = time.Now().UTC().Truncate(day).Add(-10 * day) // a midnight whose events are still there
)

func open(t testing.TB, url string) *analytics.Analytics {
	t.Helper()
	a, err := analytics.Open(analytics.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func span(from, to time.Time) models.TimeRange { return models.TimeRange{From: from, To: to} }

func secondsOf(t time.Time) string { return t.UTC().Format(time.DateTime) }
func momentOf(t time.Time) string  { return t.UTC().Format("2006-01-02 15:04:05.000") }
func millisOf(t time.Time) string  { return strconv.FormatInt(t.UnixMilli(), 10) }

func TestMetricsSQL(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	ctx := models.WithViewer(t.Context(), models.System)
	const tenants = " WHERE user_id IN {users:Array(UInt32)} AND "
	const sums = "SELECT tenant, subject, metric_name, unit, toUInt64(1) AS number, sum(event_count), sum(total_value), min(min_value), max(max_value)"
	const grouped = ") GROUP BY tenant, subject, metric_name, unit"

	t.Run("reads days, hours, quarters and the events at the ends", func(t *testing.T) {
		t.Parallel()
		from, to := lately.Add(22*time.Hour+40*time.Minute), lately.Add(3*day+20*time.Minute)
		question, err := analytics.NewMetrics(span(from, to), []string{"la'tency", `\`, "la'tency"}, true, false)
		require.NoError(t, err)
		text, parameters, err := a.SQL(ctx, question, alice)
		require.NoError(t, err)
		const named = " AND metric_name IN {names:Array(String)}"
		require.Equal(t, sums+", quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(value_quantiles) FROM ("+
			"SELECT user_id AS tenant, '' AS subject, metric_name, unit, event_count, total_value, min_value, max_value, value_quantiles FROM metric_sums"+
			tenants+"(grain = 'day' AND start >= {t1:DateTime('UTC')} AND start < {t2:DateTime('UTC')}"+
			" OR grain = 'hour' AND start >= {t3:DateTime('UTC')} AND start < {t4:DateTime('UTC')}"+
			" OR grain = 'quarter' AND (start >= {t5:DateTime('UTC')} AND start < {t6:DateTime('UTC')} OR start >= {t7:DateTime('UTC')} AND start < {t8:DateTime('UTC')}))"+named+
			" UNION ALL SELECT user_id AS tenant, '' AS subject, metric_name, unit, count() AS event_count, sum(value) AS total_value, min(value) AS min_value, max(value) AS max_value,"+
			" quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(value) AS value_quantiles FROM workload_events ARRAY JOIN metrics.name AS metric_name, metrics.value AS value, metrics.unit AS unit"+
			tenants+"event_type = 'metric' AND isFinite(value) AND"+
			" (timestamp >= {t9:DateTime64(3, 'UTC')} AND timestamp < {t10:DateTime64(3, 'UTC')}"+
			" OR timestamp >= {t11:DateTime64(3, 'UTC')} AND timestamp < {t12:DateTime64(3, 'UTC')})"+
			" AND metric_name IN {names:Array(String)} GROUP BY tenant, subject, metric_name, unit"+grouped, text)
		require.Equal(t, clickhouse.Parameters{
			"names": `['\\','la\'tency']`,
			"t1":    secondsOf(lately.Add(day)), "t2": secondsOf(lately.Add(3 * day)),
			"t3": secondsOf(lately.Add(23 * time.Hour)), "t4": secondsOf(lately.Add(day)),
			"t5": secondsOf(lately.Add(22*time.Hour + 45*time.Minute)), "t6": secondsOf(lately.Add(23 * time.Hour)),
			"t7": secondsOf(lately.Add(3 * day)), "t8": secondsOf(lately.Add(3*day + 15*time.Minute)),
			"t9": momentOf(from), "t10": momentOf(lately.Add(22*time.Hour + 45*time.Minute)),
			"t11": momentOf(lately.Add(3*day + 15*time.Minute)), "t12": momentOf(to),
		}, parameters)
	})
	t.Run("reads no sketches unless asked, and hours of workloads", func(t *testing.T) {
		t.Parallel()
		question, err := analytics.NewMetrics(span(lately, lately.Add(day)), nil, false, false)
		require.NoError(t, err)
		text, _, err := a.SQL(ctx, question, models.Subject{Kind: models.SubjectWorkload, UserID: 1, ID: "w"})
		require.NoError(t, err)
		require.Equal(t, sums+" FROM (SELECT user_id AS tenant, workload_id AS subject, metric_name, unit, event_count, total_value, min_value, max_value FROM aggregated_metrics"+
			tenants+"workload_id IN {ids:Array(String)} AND hour >= {t0:DateTime('UTC')} AND hour < {t1:DateTime('UTC')}"+grouped, text)
	})
	t.Run("reads what was before in the same selects", func(t *testing.T) {
		t.Parallel()
		question, err := analytics.NewMetrics(span(lately, lately.Add(day)), nil, false, true)
		require.NoError(t, err)
		text, parameters, err := a.SQL(ctx, question, alice)
		require.NoError(t, err)
		require.Contains(t, text, "roundDown(toInt64(toUnixTimestamp(start)) * 1000, {borders:Array(Int64)}) AS step FROM metric_sums"+tenants+
			"grain = 'day' AND start >= {t1:DateTime('UTC')} AND start < {t2:DateTime('UTC')}) GROUP BY")
		require.Contains(t, text, "indexOf({borders:Array(Int64)}, step) AS number")
		require.Equal(t, "["+millisOf(lately.Add(-day))+","+millisOf(lately)+","+millisOf(lately.Add(day))+"]", parameters["borders"])
	})
	t.Run("moves ends whose events have expired outwards", func(t *testing.T) {
		t.Parallel()
		from := lately.Add(-90 * day)
		question, err := analytics.NewMetrics(span(from.Add(7*time.Minute), from.Add(day-time.Millisecond)), nil, false, false)
		require.NoError(t, err)
		text, parameters, err := a.SQL(ctx, question, alice)
		require.NoError(t, err)
		require.NotContains(t, text, "workload_events")
		require.Equal(t, clickhouse.Parameters{"t0": secondsOf(from), "t1": secondsOf(from.Add(day))}, parameters)
	})
}

func TestNewMetricsRefuses(t *testing.T) {
	t.Parallel()
	for name, span := range map[string]models.TimeRange{
		"an empty range":             {From: noon, To: noon},
		"a range that ends first":    {From: noon, To: noon.Add(-time.Hour)},
		"more than a year":           {From: noon, To: noon.AddDate(1, 0, 2)},
		"a time before ClickHouse's": {From: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(1969, 1, 2, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := analytics.NewMetrics(span, nil, false, false)
			require.Equal(t, models.BadUserInput, models.CodeOf(err))
		})
	}
	_, err := analytics.NewMetrics(span(noon, noon.Add(time.Hour)), make([]string, 101), false, false)
	require.Equal(t, models.BadUserInput, models.CodeOf(err))
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t)
	clickhouse := db.ClickHouse(t)
	_, err := clickhouse.ExecContext(t.Context(), `INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit)
		SELECT fromUnixTimestamp64Milli($1 + number * 1000, 'UTC'), 1 + number % 2, 'w', 'metric', ['latency', 'tok''ens'], [number, 1.5], ['ms', ''] FROM numbers(1000)`, lately.UnixMilli())
	require.NoError(t, err)
	a := open(t, db.ClickHouseURL)
	question, err := analytics.NewMetrics(span(lately, lately.Add(time.Hour)), nil, true, false)
	require.NoError(t, err)
	named, err := analytics.NewMetrics(span(lately.Add(500*time.Second), lately.Add(1000*time.Second)), []string{"tok'ens", "latency"}, false, true)
	require.NoError(t, err)
	asAlice := models.WithViewer(t.Context(), models.Viewer{UserID: 1})

	t.Run("are of all metrics by name, with percentiles", func(t *testing.T) {
		t.Parallel()
		found, err := a.Metrics(asAlice, []models.Subject{alice}, question)
		require.NoError(t, err)
		require.Len(t, found[alice], 2)
		latency := found[alice][0]
		require.Equal(t, "latency", latency.Metric)
		require.Equal(t, "ms", latency.Unit)
		require.EqualValues(t, 500, latency.Count)
		require.Equal(t, 249500.0, latency.Total)
		require.Equal(t, 499.0, latency.Average)
		require.Equal(t, 0.0, latency.Min)
		require.Equal(t, 998.0, latency.Max)
		require.InDelta(t, 499, latency.P50, 10)
		require.InDelta(t, 948, latency.P95, 10)
		require.Nil(t, latency.Previous)
	})
	t.Run("compare with the range before", func(t *testing.T) {
		t.Parallel()
		found, err := a.Metrics(asAlice, []models.Subject{alice}, named)
		require.NoError(t, err)
		require.Len(t, found[alice], 2)
		ratio := 187250.0 / 62250
		require.Equal(t, &models.PreviousMetric{From: lately, To: lately.Add(500 * time.Second), Count: 250, Value: 62250, Ratio: &ratio}, found[alice][0].Previous)
		require.Equal(t, 375.0, found[alice][1].Previous.Value)
	})
	t.Run("are never of another tenant", func(t *testing.T) {
		t.Parallel()
		found, err := a.Metrics(asAlice, []models.Subject{alice, bob}, question)
		require.NoError(t, err)
		require.NotEmpty(t, found[alice])
		require.Empty(t, found[bob])
	})
	t.Run("are of everybody for a superuser, in one question", func(t *testing.T) {
		t.Parallel()
		tally := new(models.Tally)
		ctx := models.WithTally(models.WithViewer(t.Context(), models.Viewer{UserID: 3, Superuser: true}), tally)
		carol := models.Subject{Kind: models.SubjectUser, UserID: 3}
		found, err := a.Metrics(ctx, []models.Subject{alice, bob, carol}, question)
		require.NoError(t, err)
		require.NotEmpty(t, found[bob])
		require.NotNil(t, found[carol], "nobody's list is null for want of metrics")
		require.EqualValues(t, 1, tally.Questions.Load())
		found, err = a.Metrics(ctx, []models.Subject{platform}, question)
		require.NoError(t, err)
		require.EqualValues(t, 1000, found[platform][0].Count)
	})
	t.Run("need a viewer, and of the platform a superuser", func(t *testing.T) {
		t.Parallel()
		_, err := a.Metrics(t.Context(), []models.Subject{alice}, question)
		require.Equal(t, models.Unauthenticated, models.CodeOf(err))
		_, err = a.Metrics(asAlice, []models.Subject{platform}, question)
		require.Equal(t, models.Forbidden, models.CodeOf(err))
	})
	t.Run("are unavailable while ClickHouse is away", func(t *testing.T) {
		t.Parallel()
		_, err := open(t, "http://127.0.0.1:1/netra_analytics").Metrics(asAlice, []models.Subject{alice}, question)
		require.Equal(t, models.AnalyticsUnavailable, models.CodeOf(err))
	})
}
