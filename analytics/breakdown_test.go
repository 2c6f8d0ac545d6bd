package analytics_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

const (
	rankedLabels = "SELECT tenant, subject, label.1 AS dimension, unit, place, any(label.2), sum(count), sum(total), min(smallest), max(largest) FROM (" +
		"SELECT tenant, subject, unit, label, count, total, smallest, largest," +
		" least(row_number() OVER (PARTITION BY tenant, subject, label.1, unit ORDER BY total DESC, label.2), {top:UInt64} + 1) AS place FROM (" +
		"SELECT tenant, subject, unit, label, sum(event_count) AS count, sum(total_value) AS total, min(min_value) AS smallest, max(max_value) AS largest FROM ("
	rankedLabelsEnd = ") GROUP BY tenant, subject, unit, label)) GROUP BY tenant, subject, dimension, unit, place ORDER BY tenant, subject, dimension, unit, place"
	labelsOfEvents  = ", unit, (toUInt16(0), dimensions[{by:Array(String)}[1]]) AS label, toUInt64(1) AS event_count," +
		" value AS total_value, value AS min_value, value AS max_value FROM workload_events ARRAY JOIN metrics.name AS metric_name, metrics.value AS value, metrics.unit AS unit WHERE "
)

func TestBreakdownSQL(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	ctx := models.WithViewer(t.Context(), models.System)
	start := recent()
	span := models.TimeRange{From: start.Add(time.Minute), To: start.Add(2 * time.Hour)}

	t.Run("reads whole hours where they know the dimension", func(t *testing.T) {
		t.Parallel()
		usd, three := "USD", 3
		question, err := analytics.NewBreakdown("cost_usd", &usd, "model", span, &three)
		require.NoError(t, err)
		text, parameters, err := a.SQL(ctx, question, alice)
		require.NoError(t, err)
		require.Equal(t, rankedLabels+
			"SELECT user_id AS tenant, '' AS subject, unit, (toUInt16(0), toString(model)) AS label, event_count, total_value, min_value, max_value FROM metric_dimensions"+
			" WHERE user_id IN {users:Array(UInt32)} AND hour >= {t4:DateTime('UTC')} AND hour < {t5:DateTime('UTC')}"+
			" AND metric_name IN {names:Array(String)} AND unit IN {units:Array(String)} UNION ALL "+
			"SELECT user_id AS tenant, '' AS subject"+labelsOfEvents+"user_id IN {users:Array(UInt32)} AND event_type = 'metric' AND isFinite(value)"+
			" AND timestamp >= {t6:DateTime64(3, 'UTC')} AND timestamp < {t7:DateTime64(3, 'UTC')}"+
			" AND metric_name IN {names:Array(String)} AND unit IN {units:Array(String)}"+rankedLabelsEnd, text)
		require.Equal(t, map[string]string{
			"names": "['cost_usd']", "units": "['USD']", "by": "['model']", "top": "3",
			"t4": secondsOf(start.Add(time.Hour)), "t5": secondsOf(span.To), "t6": momentOf(span.From), "t7": momentOf(start.Add(time.Hour)),
		}, map[string]string(parameters))
	})
	for name, test := range map[string]struct {
		by       string
		subject  models.Subject
		subjects string
	}{
		"another dimension": {"re'gion", alice, "SELECT user_id AS tenant, '' AS subject" + labelsOfEvents + "user_id IN {users:Array(UInt32)}"},
		"a workload": {"model", workload(1, "w"), "SELECT user_id AS tenant, workload_id AS subject" + labelsOfEvents +
			"user_id IN {users:Array(UInt32)} AND workload_id IN {ids:Array(String)}"},
	} {
		t.Run("reads events for "+name, func(t *testing.T) {
			t.Parallel()
			question, err := analytics.NewBreakdown("cost_usd", nil, test.by, span, nil)
			require.NoError(t, err)
			text, parameters, err := a.SQL(ctx, question, test.subject)
			require.NoError(t, err)
			require.Equal(t, rankedLabels+test.subjects+" AND event_type = 'metric' AND isFinite(value)"+
				" AND timestamp >= {t3:DateTime64(3, 'UTC')} AND timestamp < {t4:DateTime64(3, 'UTC')}"+
				" AND metric_name IN {names:Array(String)}"+rankedLabelsEnd, text)
			require.Equal(t, "['"+strings.ReplaceAll(test.by, "'", `\'`)+"']", parameters["by"])
			require.Equal(t, "10", parameters["top"])
		})
	}
}

func TestNewBreakdownRefuses(t *testing.T) {
	t.Parallel()
	span := models.TimeRange{From: noon, To: noon.Add(time.Hour)}
	none, many := 0, 101
	for name, question := range map[string]func() error{
		"no dimension": func() error { _, err := analytics.NewBreakdown("m", nil, "", span, nil); return err },
		"a dimension of an absurd name": func() error {
			_, err := analytics.NewBreakdown("m", nil, strings.Repeat("x", 201), span, nil)
			return err
		},
		"no slices":       func() error { _, err := analytics.NewBreakdown("m", nil, "model", span, &none); return err },
		"too many slices": func() error { _, err := analytics.NewBreakdown("m", nil, "model", span, &many); return err },
		"an empty range": func() error {
			_, err := analytics.NewBreakdown("m", nil, "model", models.TimeRange{From: noon, To: noon}, nil)
			return err
		},
		"no workloads":       func() error { _, err := analytics.NewTopWorkloads("m", nil, span, &none); return err },
		"too many workloads": func() error { _, err := analytics.NewTopWorkloads("m", nil, span, &many); return err },
	} {
		require.Equal(t, models.BadUserInput, models.CodeOf(question()), name)
	}
}

// TestBreakdownAndTopWorkloads compares with what Go adds up from the events.
func TestBreakdownAndTopWorkloads(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t)
	a := open(t, db.ClickHouseURL)
	random := rand.New(rand.NewPCG(3, 3))
	start := recent().Add(-10 * day)
	var events []event
	for range 2000 {
		dimensions := map[string]string{"region": strconv.Itoa(random.IntN(40))}
		if random.IntN(5) > 0 {
			dimensions["model"] = fmt.Sprintf("m'%d", random.IntN(15))
		}
		kind := "metric"
		if random.IntN(10) == 0 {
			kind = "start" // its values are no measurements
		}
		events = append(events, event{start.Add(time.Duration(random.Int64N(int64(5 * day)))).Truncate(time.Millisecond), 1 + random.IntN(3),
			fmt.Sprintf("w%d", random.IntN(20)), kind, float64(random.IntN(1000)), dimensions})
	}
	report(t, db, events[:1000]...)
	report(t, db, events[1000:]...)
	_, err := db.ClickHouse(t).ExecContext(t.Context(), fmt.Sprintf("INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit)"+
		" VALUES (fromUnixTimestamp64Milli(%d, 'UTC'), 1, 'euro', 'metric', ['cost_usd', 'cost_usd'], [1e9, nan], ['EUR', 'USD'])", start.Add(time.Hour).UnixMilli()))
	require.NoError(t, err)

	in := func(e event, subject models.Subject) bool {
		return subject == platform || e.user == subject.UserID && (subject.Kind == models.SubjectUser || e.workload == subject.ID)
	}
	everyone := models.WithViewer(t.Context(), models.System)
	subjects := [][]models.Subject{{alice, bob, {Kind: models.SubjectUser, UserID: 99}}, {platform}, {workload(1, "w1"), workload(2, "w1"), workload(3, "w7")}}
	for i := range 12 {
		from := start.Add(time.Duration(random.Int64N(int64(4 * day))))
		span := models.TimeRange{From: from, To: from.Add(time.Duration(random.Int64N(int64(2 * day))))}
		of := subjects[i%len(subjects)]
		top := 1 + random.IntN(12)
		by := []string{"model", "region"}[random.IntN(2)]
		inSpan := func(e event) bool { return e.kind == "metric" && !e.at.Before(span.From) && e.at.Before(span.To) }

		t.Run(fmt.Sprintf("by %s and top %d of %v over %v", by, top, of, span.To.Sub(span.From)), func(t *testing.T) {
			t.Parallel()
			tally := new(models.Tally)
			usd := "USD"
			breakdown, err := analytics.NewBreakdown("cost_usd", &usd, by, span, &top)
			require.NoError(t, err)
			found, err := a.Breakdown(models.WithTally(everyone, tally), of, breakdown)
			require.NoError(t, err)
			topWorkloads, err := analytics.NewTopWorkloads("cost_usd", &usd, span, &top)
			require.NoError(t, err)
			workloads, err := a.Top(models.WithTally(everyone, tally), of, topWorkloads)
			require.NoError(t, err)
			require.EqualValues(t, 2, tally.Questions.Load())
			require.Len(t, found, len(of))
			require.Len(t, workloads, len(of))
			for _, subject := range of {
				slices, totals := map[string]*models.MetricSlice{}, map[models.Workload]float64{}
				for _, e := range events {
					if !in(e, subject) || !inSpan(e) {
						continue
					}
					label := e.dimensions[by]
					if slices[label] == nil {
						slices[label] = &models.MetricSlice{Label: label, Unit: "USD", Min: e.value, Max: e.value}
					}
					merge(slices[label], &models.MetricSlice{Count: 1, Total: e.value, Min: e.value, Max: e.value})
					totals[models.Workload{UserID: e.user, WorkloadID: e.workload, Of: subject}] += e.value
				}
				require.Equal(t, ranked(slices, top), found[subject])
				require.Equal(t, largest(totals, top), workloads[subject])
			}
		})
	}

	t.Run("are about the unit of most values", func(t *testing.T) {
		t.Parallel()
		breakdown, err := analytics.NewBreakdown("cost_usd", nil, "model", models.TimeRange{From: start, To: start.Add(5 * day)}, nil)
		require.NoError(t, err)
		found, err := a.Breakdown(everyone, []models.Subject{alice}, breakdown)
		require.NoError(t, err)
		require.Equal(t, "USD", found[alice][0].Unit)
		euro := workload(1, "euro")
		found, err = a.Breakdown(everyone, []models.Subject{euro}, breakdown)
		require.NoError(t, err)
		require.Len(t, found[euro], 1)
		require.Equal(t, "EUR", found[euro][0].Unit)
		top, err := analytics.NewTopWorkloads("cost_usd", nil, models.TimeRange{From: start, To: start.Add(5 * day)}, nil)
		require.NoError(t, err)
		workloads, err := a.Top(everyone, []models.Subject{alice}, top)
		require.NoError(t, err)
		require.Len(t, workloads[alice], 10)
		require.NotContains(t, workloads[alice], models.Workload{UserID: 1, WorkloadID: "euro", Of: alice})
	})
	t.Run("are never another tenant's", func(t *testing.T) {
		t.Parallel()
		ctx := models.WithViewer(t.Context(), models.Viewer{UserID: 1})
		span := models.TimeRange{From: start, To: start.Add(5 * day)}
		breakdown, err := analytics.NewBreakdown("cost_usd", nil, "model", span, nil)
		require.NoError(t, err)
		found, err := a.Breakdown(ctx, []models.Subject{alice, bob}, breakdown)
		require.NoError(t, err)
		require.NotEmpty(t, found[alice])
		require.Empty(t, found[bob])
		top, err := analytics.NewTopWorkloads("cost_usd", nil, span, nil)
		require.NoError(t, err)
		workloads, err := a.Top(ctx, []models.Subject{alice, bob}, top)
		require.NoError(t, err)
		require.NotEmpty(t, workloads[alice])
		require.Empty(t, workloads[bob])
		_, err = a.Top(ctx, []models.Subject{platform}, top)
		require.Equal(t, models.Forbidden, models.CodeOf(err))
	})
}

func merge(into, more *models.MetricSlice) {
	into.Count += more.Count
	into.Total += more.Total
	into.Min, into.Max = min(into.Min, more.Min), max(into.Max, more.Max)
}

// ranked are the slices as an answer has them. The values are whole numbers, so that sums are the same in any order.
func ranked(of map[string]*models.MetricSlice, top int) []*models.MetricSlice {
	all := []*models.MetricSlice{}
	sum := 0.0
	for _, slice := range of {
		all = append(all, slice)
		sum += slice.Total
	}
	slices.SortFunc(all, func(a, b *models.MetricSlice) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Label, b.Label))
	})
	if len(all) > top {
		rest := all[top]
		for _, slice := range all[top+1:] {
			merge(rest, slice)
		}
		rest.Label, rest.Other = "other", true
		all = all[:top+1]
	}
	for _, slice := range all {
		slice.Average = slice.Total / float64(slice.Count)
		if share := slice.Total / sum; sum != 0 {
			slice.Share = &share
		}
	}
	return all
}

func largest(totals map[models.Workload]float64, first int) []models.Workload {
	all := []models.Workload{}
	for workload := range totals {
		all = append(all, workload)
	}
	slices.SortFunc(all, func(a, b models.Workload) int {
		return cmp.Or(cmp.Compare(totals[b], totals[a]), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.WorkloadID, b.WorkloadID))
	})
	return all[:min(first, len(all))]
}

func TestTopWorkloadsSQL(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	start := recent()
	question, err := analytics.NewTopWorkloads("cost_usd", nil, models.TimeRange{From: start, To: start.Add(time.Hour + time.Minute)}, nil)
	require.NoError(t, err)
	text, _, err := a.SQL(models.WithViewer(t.Context(), models.System), question, platform)
	require.NoError(t, err)
	require.Equal(t, "SELECT tenant, subject, metric_name, unit, sum(count) OVER (PARTITION BY tenant, subject, metric_name, unit), user_id, workload_id FROM ("+
		"SELECT tenant, subject, metric_name, unit, user_id, workload_id, sum(event_count) AS count, sum(total_value) AS total FROM ("+
		"SELECT toUInt32(0) AS tenant, '' AS subject, user_id, workload_id, metric_name, unit, event_count, total_value FROM aggregated_metrics"+
		" WHERE 1 AND hour >= {t1:DateTime('UTC')} AND hour < {t2:DateTime('UTC')} AND metric_name IN {names:Array(String)} UNION ALL "+
		"SELECT toUInt32(0) AS tenant, '' AS subject, user_id, workload_id, metric_name, unit, toUInt64(1) AS event_count, value AS total_value"+
		" FROM workload_events ARRAY JOIN metrics.name AS metric_name, metrics.value AS value, metrics.unit AS unit WHERE 1 AND event_type = 'metric' AND isFinite(value)"+
		" AND timestamp >= {t3:DateTime64(3, 'UTC')} AND timestamp < {t4:DateTime64(3, 'UTC')}"+
		" AND metric_name IN {names:Array(String)}) GROUP BY tenant, subject, metric_name, unit, user_id, workload_id"+
		") ORDER BY tenant, subject, metric_name, unit, total DESC, user_id, workload_id LIMIT 10 BY tenant, subject, metric_name, unit", text)
}
