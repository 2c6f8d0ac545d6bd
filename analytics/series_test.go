package analytics_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/models"
)

// borders are the steps of a question, in its zone.
func borders(t *testing.T, q analytics.Series, zone string) []string {
	t.Helper()
	where, err := time.LoadLocation(zone)
	require.NoError(t, err)
	var shown []string
	for _, border := range q.Borders() {
		shown = append(shown, time.UnixMilli(border).In(where).Format("01-02 15:04:05.000 -07:00"))
	}
	return shown
}

func TestStepsBeginWhenTheClockOnTheWallSaysSo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		zone     string
		step     models.TimeStep
		from, to string
		want     []string
	}{
		{"Asia/Kolkata", models.StepHour, "2026-03-01T00:10:00Z", "2026-03-01T02:00:00.5Z",
			[]string{"03-01 05:40:00.000 +05:30", "03-01 06:00:00.000 +05:30", "03-01 07:00:00.000 +05:30", "03-01 07:30:00.500 +05:30"}},
		{"Pacific/Chatham", models.StepFifteenMinutes, "2026-03-01T00:10:00Z", "2026-03-01T00:30:00Z",
			[]string{"03-01 13:55:00.000 +13:45", "03-01 14:00:00.000 +13:45", "03-01 14:15:00.000 +13:45"}},
		{"Europe/Berlin", models.StepDay, "2026-03-27T23:00:00Z", "2026-03-29T22:00:00Z", // 23 hours
			[]string{"03-28 00:00:00.000 +01:00", "03-29 00:00:00.000 +01:00", "03-30 00:00:00.000 +02:00"}},
		{"America/New_York", models.StepHour, "2026-11-01T04:30:00Z", "2026-11-01T07:00:00Z", // 1:00 comes twice
			[]string{"11-01 00:30:00.000 -04:00", "11-01 01:00:00.000 -04:00", "11-01 01:00:00.000 -05:00", "11-01 02:00:00.000 -05:00"}},
		{"Australia/Lord_Howe", models.StepHour, "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z", // 2:00 is 2:30
			[]string{"10-04 01:00:00.000 +10:30", "10-04 02:30:00.000 +11:00", "10-04 03:00:00.000 +11:00", "10-04 04:00:00.000 +11:00"}},
		{"Africa/Cairo", models.StepDay, "2026-04-22T22:00:00Z", "2026-04-24T21:00:00Z", // a day without a midnight
			[]string{"04-23 00:00:00.000 +02:00", "04-24 01:00:00.000 +03:00", "04-25 00:00:00.000 +03:00"}},
		{"America/Havana", models.StepDay, "2026-10-31T04:00:00Z", "2026-11-02T05:00:00Z", // a day with two midnights
			[]string{"10-31 00:00:00.000 -04:00", "11-01 00:00:00.000 -04:00", "11-02 00:00:00.000 -05:00"}},
		{"America/St_Johns", models.StepWeek, "2026-03-04T12:00:00Z", "2026-03-17T00:00:00Z",
			[]string{"03-04 08:30:00.000 -03:30", "03-09 00:00:00.000 -02:30", "03-16 00:00:00.000 -02:30", "03-16 21:30:00.000 -02:30"}},
		{"UTC", models.StepMonth, "2025-12-31T00:00:00Z", "2026-03-01T00:00:00Z",
			[]string{"12-31 00:00:00.000 +00:00", "01-01 00:00:00.000 +00:00", "02-01 00:00:00.000 +00:00", "03-01 00:00:00.000 +00:00"}},
	} {
		t.Run(fmt.Sprint(test.zone, " ", test.step), func(t *testing.T) {
			t.Parallel()
			from, err := time.Parse(time.RFC3339, test.from)
			require.NoError(t, err)
			to, err := time.Parse(time.RFC3339, test.to)
			require.NoError(t, err)
			q, err := analytics.NewSeries("latency_ms", nil, span(from, to), test.step, &test.zone, false)
			require.NoError(t, err)
			require.Equal(t, test.want, borders(t, q, test.zone))
		})
	}
}

func TestNewSeriesRefuses(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"", "Local", "Mars/Olympus", "../etc/passwd", "Europe/Berlin\x00"} {
		_, err := analytics.NewSeries("latency_ms", nil, span(noon, noon.Add(day)), models.StepDay, &zone, false)
		require.Equal(t, models.BadUserInput, models.CodeOf(err), zone)
	}
	_, err := analytics.NewSeries("latency_ms", nil, span(noon, noon.Add(1000*time.Hour)), models.StepHour, nil, false)
	require.NoError(t, err)
	_, err = analytics.NewSeries("latency_ms", nil, span(noon, noon.Add(1000*time.Hour+1)), models.StepHour, nil, false)
	require.Equal(t, models.BadUserInput, models.CodeOf(err))
}

func TestSeriesSQL(t *testing.T) {
	t.Parallel()
	thread, run := uuid.UUID{15: 1}, uuid.UUID{15: 2}
	a, err := analytics.Open(analytics.Config{URL: "http://127.0.0.1:1/netra_analytics", RunsOfThreads: func(context.Context, []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
		return map[uuid.UUID]uuid.UUID{run: thread}, nil
	}})
	require.NoError(t, err)
	ctx := models.WithViewer(t.Context(), models.System)
	unit := "ms"

	t.Run("reads whole days of months in a zone with half hours", func(t *testing.T) {
		t.Parallel()
		zone := "Asia/Kolkata"
		// Between two midnights in Kolkata, of the first day of two months.
		first := time.Date(lately.Year(), lately.Month(), 1, 0, 0, 0, 0, time.UTC).Add(-5*time.Hour - 30*time.Minute)
		from := first.AddDate(0, 0, -2)
		question, err := analytics.NewSeries("latency_ms", &unit, span(from, first.AddDate(0, 0, 2)), models.StepMonth, &zone, false)
		require.NoError(t, err)
		text, parameters, err := a.SQL(ctx, question, alice)
		require.NoError(t, err)
		const chosen = " AND metric_name IN {names:Array(String)} AND unit IN {units:Array(String)}"
		const columns = "SELECT user_id AS tenant, '' AS subject, metric_name, unit, event_count, total_value, min_value, max_value, roundDown(toInt64(toUnixTimestamp("
		require.Equal(t, "SELECT tenant, subject, metric_name, unit, indexOf({borders:Array(Int64)}, step) AS number, sum(event_count), sum(total_value), min(min_value), max(max_value)"+
			" FROM ("+columns+"start)) * 1000, {borders:Array(Int64)}) AS step FROM metric_sums WHERE user_id IN {users:Array(UInt32)} AND"+
			" (grain = 'day' AND (start >= {t3:DateTime('UTC')} AND start < {t4:DateTime('UTC')} OR start >= {t5:DateTime('UTC')} AND start < {t6:DateTime('UTC')})"+
			" OR grain = 'hour' AND (start >= {t7:DateTime('UTC')} AND start < {t8:DateTime('UTC')} OR start >= {t9:DateTime('UTC')} AND start < {t10:DateTime('UTC')}"+
			" OR start >= {t11:DateTime('UTC')} AND start < {t12:DateTime('UTC')} OR start >= {t13:DateTime('UTC')} AND start < {t14:DateTime('UTC')})"+
			" OR grain = 'quarter' AND (start >= {t15:DateTime('UTC')} AND start < {t16:DateTime('UTC')} OR start >= {t17:DateTime('UTC')} AND start < {t18:DateTime('UTC')}"+
			" OR start >= {t19:DateTime('UTC')} AND start < {t20:DateTime('UTC')}))"+chosen+
			") GROUP BY tenant, subject, metric_name, unit, step", text)
		utc := first.Truncate(day)
		require.Equal(t, clickhouse.Parameters{
			"names": "['latency_ms']", "units": "['ms']",
			"borders": "[" + millisOf(from) + "," + millisOf(first) + "," + millisOf(first.AddDate(0, 0, 2)) + "]",
			"t3":      secondsOf(utc.Add(-day)), "t4": secondsOf(utc),
			"t5": secondsOf(utc.Add(day)), "t6": secondsOf(utc.Add(2 * day)),
			"t7": secondsOf(utc.Add(-day - 5*time.Hour)), "t8": secondsOf(utc.Add(-day)),
			"t9": secondsOf(utc), "t10": secondsOf(utc.Add(18 * time.Hour)),
			"t11": secondsOf(utc.Add(19 * time.Hour)), "t12": secondsOf(utc.Add(day)),
			"t13": secondsOf(utc.Add(2 * day)), "t14": secondsOf(utc.Add(2*day + 18*time.Hour)),
			"t15": secondsOf(from), "t16": secondsOf(utc.Add(-day - 5*time.Hour)),
			"t17": secondsOf(utc.Add(18 * time.Hour)), "t18": secondsOf(utc.Add(19 * time.Hour)),
			"t19": secondsOf(utc.Add(2*day + 18*time.Hour)), "t20": secondsOf(first.AddDate(0, 0, 2)),
		}, parameters)
	})
	t.Run("of threads reads their runs, and what else names them", func(t *testing.T) {
		t.Parallel()
		question, err := analytics.NewSeries("latency_ms", nil, span(lately, lately.Add(day)), models.StepDay, nil, false)
		require.NoError(t, err)
		text, _, err := a.SQL(ctx, question, models.Subject{Kind: models.SubjectThread, UserID: 1, ID: thread.String()}, models.Subject{Kind: models.SubjectThread, UserID: 2, ID: uuid.UUID{15: 3}.String()})
		require.NoError(t, err)
		const owner = "transform(workload_id, runs, threads, '')"
		const columns = " AS subject, metric_name, unit, event_count, total_value, min_value, max_value FROM aggregated_metrics WHERE user_id IN {users:Array(UInt32)} AND "
		const rest = "} AND hour >= {t1:DateTime('UTC')} AND hour < {t2:DateTime('UTC')} AND metric_name IN {names:Array(String)}"
		require.Equal(t, "WITH ['"+run.String()+"'] AS runs, ['"+thread.String()+"'] AS threads"+
			" SELECT tenant, subject, metric_name, unit, toUInt64(1) AS number, sum(event_count), sum(total_value), min(min_value), max(max_value) FROM ("+
			"SELECT user_id AS tenant, "+owner+columns+"workload_id IN runs AND (user_id, "+owner+") IN {keys:Array(Tuple(UInt32, String))"+rest+
			" UNION ALL SELECT user_id AS tenant, thread_id"+columns+"thread_id IN {ids:Array(String)} AND "+owner+" != thread_id AND (user_id, thread_id) IN {keys:Array(Tuple(UInt32, String))"+rest+
			") GROUP BY tenant, subject, metric_name, unit", text)
	})
}

func TestUsageSQLIsThatOfItsMetrics(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	ctx := models.WithViewer(t.Context(), models.System)
	usage, err := analytics.NewUsage(span(lately, lately.Add(day)))
	require.NoError(t, err)
	metrics, err := analytics.NewMetrics(span(lately, lately.Add(day)), []string{"latency_ms", "errors", "tokens_input", "tokens_output", "cost_usd"}, false, false)
	require.NoError(t, err)
	text, parameters, err := a.SQL(ctx, usage, alice)
	require.NoError(t, err)
	wantText, wantParameters, err := a.SQL(ctx, metrics, alice)
	require.NoError(t, err)
	require.Equal(t, wantText, text)
	require.Equal(t, wantParameters, parameters)
}

func TestSummedTogetherSQL(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	days, err := analytics.NewSeries("latency_ms", nil, span(lately, lately.Add(4*day)), models.StepDay, nil, false)
	require.NoError(t, err)
	more, err := analytics.NewSeries("cost_usd", nil, span(lately, lately.Add(4*day)), models.StepDay, nil, false)
	require.NoError(t, err)
	hours, err := analytics.NewSeries("latency_ms", nil, span(lately, lately.Add(25*time.Hour)), models.StepHour, nil, false)
	require.NoError(t, err)
	text, parameters, err := a.SQL(models.WithViewer(t.Context(), models.System), analytics.Together(days, more, hours), alice)
	require.NoError(t, err)
	const columns = "SELECT user_id AS tenant, '' AS subject, metric_name, unit, event_count, total_value, min_value, max_value, "
	require.Contains(t, text, columns+"arrayJoin(arrayConcat(if(grain = 'day' AND ")
	require.Contains(t, text, ", [(toUInt16(0), roundDown(toInt64(toUnixTimestamp(start)) * 1000, {borders:Array(Int64)}))], [])")
	require.Contains(t, text, ", [(toUInt16(1), roundDown(toInt64(toUnixTimestamp(start)) * 1000, {borders_1:Array(Int64)}))], []))) AS step FROM metric_sums WHERE user_id IN {users:Array(UInt32)} AND (")
	require.Contains(t, text, "SELECT tenant, subject, metric_name, unit, step.1 * 2000 + indexOf([{borders:Array(Int64)}, {borders_1:Array(Int64)}][step.1 + 1], step.2) AS number")
	require.Equal(t, "['cost_usd','latency_ms']", parameters["names"])
	require.Equal(t, "['latency_ms']", parameters["names_1"])
}

func TestQuestionsComeAlongWithPercentilesOfTheSame(t *testing.T) {
	t.Parallel()
	today := span(lately, lately.Add(day))
	usage, err := analytics.NewUsage(today)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		within      models.TimeRange
		names       []string
		percentiles bool
		along       bool
	}{
		"all metrics":        {today, nil, true, true},
		"no percentiles":     {today, nil, false, false},
		"too few metrics":    {today, []string{"cost_usd"}, true, false},
		"of another range":   {span(lately, lately.Add(2*day)), nil, true, false},
		"just these metrics": {today, []string{"latency_ms", "errors", "tokens_input", "tokens_output", "cost_usd"}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			metrics, err := analytics.NewMetrics(test.within, test.names, test.percentiles, false)
			require.NoError(t, err)
			beside := analytics.Beside(usage, []analytics.Summed{usage, metrics})
			require.Equal(t, test.along, beside.Group() != usage.Group())
			require.Equal(t, test.along || !test.percentiles, beside.Group() == metrics.Group())
		})
	}
}
