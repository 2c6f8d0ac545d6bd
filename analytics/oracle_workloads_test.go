package analytics_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/models"
)

func checkBreakdown(t *testing.T, w *world, q asking) {
	by := pick(q.Rand, []string{"model", "tool", "agent_type", "status", "environment", "region", "thread_id", "no'ne"})
	within := w.span(q)
	if q.kind != models.SubjectUser && q.kind != models.SubjectPlatform || !slices.Contains([]string{"model", "tool", "agent_type", "status", "environment"}, by) {
		within = w.recently(q) // read from events
	}
	top := 1 + q.IntN(4)
	unit := pick(q.Rand, []*string{nil, &[]string{"ms"}[0]})
	question, err := analytics.NewBreakdown("latency_ms", unit, by, within, &top)
	require.NoError(t, err)
	other, err := analytics.NewBreakdown("latency_ms", unit, by, within, nil)
	require.NoError(t, err)
	status, err := analytics.NewBreakdown("latency_ms", unit, "status", within, nil)
	require.NoError(t, err)
	beside := []analytics.Breakdown{other}
	if status.Group() == question.Group() {
		beside = append(beside, status)
	}
	answers, err := w.analytics.Breakdown(q.ctx, q.subjects, question, beside[:q.IntN(len(beside)+1)]...)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		slices := map[string]*models.MetricSlice{}
		for _, v := range inMainUnit(w.measured(q, subject, within), "latency_ms", unit) {
			label := v.event.dimensions[by]
			if slices[label] == nil {
				slices[label] = &models.MetricSlice{Label: label, Unit: v.Unit, Min: v.Value, Max: v.Value}
			}
			merge(slices[label], &models.MetricSlice{Count: 1, Total: v.Value, Min: v.Value, Max: v.Value})
		}
		require.Equal(t, ranked(slices, top), answers[subject])
	}
}

func checkTopWorkloads(t *testing.T, w *world, q asking) {
	within := w.span(q)
	if q.kind == models.SubjectThread {
		within = w.recently(q) // older aggregates know a workload's thread by its events only
	}
	first := 1 + q.IntN(6)
	question, err := analytics.NewTopWorkloads("latency_ms", nil, within, &first)
	require.NoError(t, err)
	other, err := analytics.NewTopWorkloads(pick(q.Rand, []string{"latency_ms", "absent", `o'dd\`}), nil, within, nil)
	require.NoError(t, err)
	answers, err := w.analytics.Top(q.ctx, q.subjects, question, other)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		totals := map[models.Workload]float64{}
		for _, v := range inMainUnit(w.measured(q, subject, within), "latency_ms", nil) {
			totals[models.Workload{UserID: v.event.user, WorkloadID: v.event.workload, Of: subject}] += v.Value
		}
		require.Equal(t, largest(totals, first), answers[subject])
	}
}

func checkEvents(t *testing.T, w *world, q asking) {
	within := w.recently(q)
	filter := &models.WorkloadEventFilter{Timestamp: &models.TimeFilter{From: &within.From, To: &within.To}}
	if q.IntN(2) == 0 {
		filter.EventType = []string{pick(q.Rand, []string{"metric", "error", "none"})}
	}
	if q.IntN(2) == 0 {
		filter.Dimensions = models.JSON(`{"model": "cl'aude"}`)
	}
	if q.IntN(3) == 0 {
		filter.Metric = &[]string{`o'dd\`}[0]
	}
	matches := func(e *happened) bool {
		return (filter.EventType == nil || filter.EventType[0] == e.kind) && (filter.Dimensions == nil || e.dimensions["model"] == "cl'aude") &&
			(filter.Metric == nil || slices.ContainsFunc(e.values, func(v models.EventMetric) bool { return v.Name == *filter.Metric }))
	}
	limit := 1 + q.IntN(20)
	arguments := models.PageArguments{First: &limit}
	if q.IntN(2) == 0 {
		arguments = models.PageArguments{Last: &limit}
	}
	question, err := analytics.NewEvents(page(t, arguments, models.LatestEvents), filter)
	require.NoError(t, err)
	events, err := w.analytics.Events(q.ctx, q.subjects, question)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		var want, got []string
		told := func(at time.Time, user int, workload, kind string, values int) string {
			return fmt.Sprintf("%d of %d %s %q %d values", at.UnixMilli(), user, workload, kind, values)
		}
		var all []*happened
		for _, e := range w.happened(q, subject, within) {
			if matches(e) {
				all = append(all, e)
			}
		}
		slices.SortFunc(all, func(a, b *happened) int {
			if arguments.Last != nil {
				return a.at.Compare(b.at)
			}
			return b.at.Compare(a.at)
		})
		cut := min(limit+1, len(all))
		for _, event := range events {
			if event.Of == subject {
				got = append(got, told(event.Timestamp, event.UserID, event.WorkloadID, event.EventType, len(event.Metrics)))
			}
		}
		// Which of the events of one time come first is by their ids, which the database chose.
		var possible []string
		for i, e := range all {
			text := told(e.at, e.user, e.workload, e.kind, len(e.values))
			if i < cut {
				want = append(want, text)
			}
			if cut > 0 && e.at.Equal(all[cut-1].at) {
				possible = append(possible, text)
			}
		}
		require.Len(t, got, len(want))
		for i, text := range got {
			require.Equal(t, all[i].at.UnixMilli(), timeOf(t, text))
			if !slices.Contains(want, text) {
				require.Contains(t, possible, text)
			}
		}
	}
}

func timeOf(t *testing.T, text string) (milliseconds int64) {
	t.Helper()
	_, err := fmt.Sscan(text, &milliseconds)
	require.NoError(t, err)
	return milliseconds
}

func checkEventCounts(t *testing.T, w *world, q asking) {
	within := w.recently(q)
	question, err := analytics.NewEvents(page(t, models.PageArguments{}, models.LatestEvents), &models.WorkloadEventFilter{Timestamp: &models.TimeFilter{From: &within.From, To: &within.To}})
	require.NoError(t, err)
	counts, err := w.analytics.CountEvents(q.ctx, q.subjects, question)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		require.Equal(t, len(w.happened(q, subject, within)), counts[subject])
	}
}

// recency is what the events say. The clock goes on while the test runs: what happened within so long after the start of the last seven
// days may have left them or not.
func (w *world) recency(q asking, of models.Subject, since time.Time) map[models.Workload]int {
	counts := map[models.Workload]int{}
	for _, e := range w.happened(q, of, span(since, w.now.Add(time.Hour))) {
		counts[models.Workload{UserID: e.user, WorkloadID: e.workload, Of: of}]++
	}
	return counts
}

const testTime = 20 * time.Minute

func checkRecentWorkloads(t *testing.T, w *world, q asking) {
	limit := 1 + q.IntN(12)
	workloads, err := w.analytics.RecentWorkloads(q.ctx, q.subjects, page(t, models.PageArguments{First: &limit}, models.RecentWorkloads))
	require.NoError(t, err)
	for _, subject := range q.subjects {
		var got []*models.Workload
		for _, workload := range workloads {
			if workload.Of == subject {
				got = append(got, workload)
			}
		}
		require.True(t, slices.IsSortedFunc(got, func(a, b *models.Workload) int {
			return -cmp.Or(a.LastSeen.Compare(b.LastSeen), cmp.Compare(a.UserID, b.UserID), cmp.Compare(a.WorkloadID, b.WorkloadID))
		}))
		certain, possible := w.recency(q, subject, w.now.Add(-7*day+testTime)), w.recency(q, subject, w.now.Add(-7*day))
		require.GreaterOrEqual(t, len(got), min(limit+1, len(certain)))
		require.LessOrEqual(t, len(got), min(limit+1, len(possible)))
		for _, workload := range got {
			seen := workload.LastSeen
			var last time.Time
			for _, e := range w.happened(q, subject, span(w.now.Add(-7*day), w.now.Add(time.Hour))) {
				if e.user == workload.UserID && e.workload == workload.WorkloadID && e.at.After(last) {
					last = e.at
				}
			}
			require.True(t, last.Equal(seen), "%s: %v instead of %v", workload.WorkloadID, seen, last)
		}
	}
}

func checkRecentWorkloadCounts(t *testing.T, w *world, q asking) {
	counts, err := w.analytics.CountRecentWorkloads(q.ctx, q.subjects)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		require.GreaterOrEqual(t, counts[subject], len(w.recency(q, subject, w.now.Add(-7*day+testTime))))
		require.LessOrEqual(t, counts[subject], len(w.recency(q, subject, w.now.Add(-7*day))))
	}
}
