package analytics_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestNewSummariesRefuses(t *testing.T) {
	t.Parallel()
	for name, span := range map[string]models.TimeRange{
		"an empty range":             {From: noon, To: noon},
		"a range that ends first":    {From: noon, To: noon.Add(-time.Hour)},
		"more than a year":           {From: noon, To: noon.AddDate(1, 0, 2)},
		"a time before ClickHouse's": {From: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC), To: time.Date(1969, 1, 2, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := analytics.NewSummaries(span, nil)
			require.Equal(t, models.BadUserInput, models.CodeOf(err))
		})
	}
	_, err := analytics.NewSummaries(models.TimeRange{From: noon, To: noon.Add(time.Hour)}, make([]string, 101))
	require.Equal(t, models.BadUserInput, models.CodeOf(err))
}

func open(t *testing.T, url string) *analytics.Analytics {
	t.Helper()
	a, err := analytics.Open(analytics.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

func TestSummaries(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	clickhouse := db.ClickHouse(t)
	_, err := clickhouse.ExecContext(t.Context(), `INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit)
		SELECT toDateTime64('2026-11-20 12:00:00', 3, 'UTC') + number, 1 + number % 2, 'w', 'metric', ['latency', 'tok''ens'], [number, 1.5], ['ms', ''] FROM numbers(1000)`)
	require.NoError(t, err)
	a := open(t, db.ClickHouseURL)
	span := models.TimeRange{From: noon, To: noon.Add(time.Hour)}
	question, err := analytics.NewSummaries(span, nil)
	require.NoError(t, err)
	named, err := analytics.NewSummaries(span, []string{"tok'ens"})
	require.NoError(t, err)

	t.Run("are of all metrics by name, with percentiles", func(t *testing.T) {
		t.Parallel()
		found, err := a.Summaries(models.WithViewer(t.Context(), models.Viewer{UserID: 1}), []int{1}, question)
		require.NoError(t, err)
		require.Len(t, found[1], 2)
		latency := found[1][0]
		require.Equal(t, "latency", latency.Metric)
		require.Equal(t, "ms", latency.Unit)
		require.EqualValues(t, 500, latency.Count)
		require.Equal(t, 249500.0, latency.Total)
		require.Equal(t, 499.0, latency.Average)
		require.Equal(t, 0.0, latency.Min)
		require.Equal(t, 998.0, latency.Max)
		require.InDelta(t, 499, latency.P50, 10)
		require.InDelta(t, 948, latency.P95, 10)
	})
	t.Run("are of the metrics named", func(t *testing.T) {
		t.Parallel()
		found, err := a.Summaries(models.WithViewer(t.Context(), models.Viewer{UserID: 1}), []int{1}, named)
		require.NoError(t, err)
		require.Len(t, found[1], 1)
		require.Equal(t, 750.0, found[1][0].Total)
	})
	t.Run("are never of another tenant", func(t *testing.T) {
		t.Parallel()
		found, err := a.Summaries(models.WithViewer(t.Context(), models.Viewer{UserID: 1}), []int{1, 2}, question)
		require.NoError(t, err)
		require.NotEmpty(t, found[1])
		require.Empty(t, found[2])
	})
	t.Run("are of everybody for a superuser, in one question", func(t *testing.T) {
		t.Parallel()
		tally := new(models.Tally)
		ctx := models.WithTally(models.WithViewer(t.Context(), models.Viewer{UserID: 3, Superuser: true}), tally)
		found, err := a.Summaries(ctx, []int{1, 2, 3}, question)
		require.NoError(t, err)
		require.NotEmpty(t, found[2])
		require.NotNil(t, found[3], "nobody's list is null for want of metrics")
		require.EqualValues(t, 1, tally.Questions.Load())
	})
	t.Run("need a viewer", func(t *testing.T) {
		t.Parallel()
		_, err := a.Summaries(t.Context(), []int{1}, question)
		require.Equal(t, models.Unauthenticated, models.CodeOf(err))
	})
	t.Run("are unavailable while ClickHouse is away", func(t *testing.T) {
		t.Parallel()
		_, err := open(t, "http://127.0.0.1:1/netra_analytics").Summaries(models.WithViewer(t.Context(), models.Viewer{UserID: 1}), []int{1}, question)
		require.Equal(t, models.AnalyticsUnavailable, models.CodeOf(err))
	})
}
