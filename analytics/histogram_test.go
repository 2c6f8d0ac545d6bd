package analytics_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

func TestHistogramSQL(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	ctx := models.WithViewer(t.Context(), models.System)
	question, err := analytics.NewHistogram("latency_ms", nil, span(lately, lately.Add(90*time.Minute)), nil)
	require.NoError(t, err)
	const values = "metric_name, unit, toInt16(multiIf(value > 0, 10000 + least(greatest(floor(log(value) / log(1.02)), -9999), 22767)," +
		" value < 0, -10000 - least(greatest(ceil(log(-value) / log(1.02)), -9999), 22767), 0)) AS bin, toUInt64(1) AS event_count FROM workload_events ARRAY JOIN metrics.name AS metric_name, metrics.value AS value, metrics.unit AS unit"
	const condition = " AND event_type = 'metric' AND isFinite(value) AND timestamp >= "
	const grouped = " AND metric_name IN {names:Array(String)}) GROUP BY tenant, subject, metric_name, unit, bin ORDER BY tenant, subject, metric_name, unit, bin"

	text, _, err := a.SQL(ctx, question, platform)
	require.NoError(t, err)
	require.Equal(t, "SELECT tenant, subject, metric_name, unit, bin, sum(event_count) FROM ("+
		"SELECT user_id AS tenant, '' AS subject, metric_name, unit, bin, event_count FROM metric_bins WHERE user_id IN {users:Array(UInt32)}"+
		" AND hour >= {t1:DateTime('UTC')} AND hour < {t2:DateTime('UTC')} AND metric_name IN {names:Array(String)}"+
		" UNION ALL SELECT toUInt32(0) AS tenant, '' AS subject, "+values+" WHERE 1"+condition+"{t3:DateTime64(3, 'UTC')} AND timestamp < {t4:DateTime64(3, 'UTC')}"+grouped, text)

	text, _, err = a.SQL(ctx, question, models.Subject{Kind: models.SubjectWorkload, UserID: 1, ID: "w"})
	require.NoError(t, err)
	require.Equal(t, "SELECT tenant, subject, metric_name, unit, bin, sum(event_count) FROM ("+
		"SELECT user_id AS tenant, workload_id AS subject, "+values+" WHERE user_id IN {users:Array(UInt32)} AND workload_id IN {ids:Array(String)}"+
		condition+"{t1:DateTime64(3, 'UTC')} AND timestamp < {t2:DateTime64(3, 'UTC')}"+grouped, text)
}

func TestNewHistogramRefuses(t *testing.T) {
	t.Parallel()
	for _, buckets := range []int{-1, 0, 101} {
		_, err := analytics.NewHistogram("latency_ms", nil, span(noon, noon.Add(day)), &buckets)
		require.Equal(t, models.BadUserInput, models.CodeOf(err))
	}
}

func TestHistogramsHoldTheLargestAndTheSmallestValues(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t)
	extremes := []float64{-math.MaxFloat64, -1, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 1, math.MaxFloat64}
	insertHappened(t, db.ClickHouse(t), []happened{{at: lately, user: 1, kind: "metric", values: named("latency_ms", extremes...)}})
	a := open(t, db.ClickHouseURL)
	ctx := models.WithViewer(t.Context(), models.Viewer{UserID: 1})
	for limit, want := range map[int]int{1: 1, 2: 1, 3: 3, 100: 100} {
		question, err := analytics.NewHistogram("latency_ms", nil, span(lately, lately.Add(time.Hour)), &limit)
		require.NoError(t, err)
		found, err := a.Histogram(ctx, []models.Subject{alice}, question)
		require.NoError(t, err)
		buckets := found[alice]
		require.InDelta(t, want, len(buckets), 1)
		require.Equal(t, -math.MaxFloat64, buckets[0].From)
		require.Equal(t, math.MaxFloat64, buckets[len(buckets)-1].To)
		counted := int64(0)
		for _, bucket := range buckets {
			require.Less(t, bucket.From, bucket.To)
			counted += bucket.Count
		}
		require.EqualValues(t, len(extremes), counted)
	}
}

// named are values of one metric.
func named(metric string, values ...float64) []models.EventMetric {
	list := make([]models.EventMetric, len(values))
	for i, value := range values {
		list[i] = models.EventMetric{Name: metric, Value: value, Unit: "ms"}
	}
	return list
}
