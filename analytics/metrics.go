package analytics

import (
	"slices"
	"time"

	"github.com/netra-ai/netra/models"
)

const maxNames = 100

// Metrics asks for the summary of each metric over a range.
type Metrics struct {
	values
	previous bool
}

// NewMetrics asks about the metrics of these names, at most 100, or about all when names is nil. Percentiles and what was before the range
// are read only when asked for. It fails with BadUserInput.
func NewMetrics(span models.TimeRange, names []string, percentiles, previous bool) (Metrics, error) {
	if err := checkRange(span); err != nil {
		return Metrics{}, err
	}
	if len(names) > maxNames {
		return Metrics{}, models.Errorf(models.BadUserInput, "names: at most %d", maxNames)
	}
	borders := []int64{instant(span.From), instant(span.To)}
	if previous {
		borders = slices.Insert(borders, 0, instant(span.From.Add(-span.To.Sub(span.From))))
	}
	if names != nil {
		names = slices.Compact(slices.Sorted(slices.Values(names)))
		names = append([]string{}, names...)
	}
	return Metrics{values{borders: borders, names: names, percentiles: percentiles}, previous}, nil
}

// Of is the answer from the sums that the question was put for, by metric and unit.
func (q Metrics) Of(sums Sums) []*models.MetricSummary {
	type id struct{ metric, unit string }
	before := map[id]sum{}
	summaries := []*models.MetricSummary{}
	for _, sum := range sums {
		if q.previous && sum.step == 0 {
			before[id{sum.metric, sum.unit}] = sum
			continue
		}
		summary := &models.MetricSummary{
			Metric: sum.metric, Unit: sum.unit, Count: int64(sum.count), Total: sum.total, Average: sum.average(), Min: sum.min, Max: sum.max,
		}
		if p := sum.percentiles; q.percentiles {
			summary.P50, summary.P90, summary.P95, summary.P99 = p[0], p[1], p[2], p[3]
		}
		summaries = append(summaries, summary)
	}
	if !q.previous {
		return summaries
	}
	from, to := time.UnixMilli(q.borders[0]).UTC(), time.UnixMilli(q.borders[1]).UTC()
	for _, summary := range summaries {
		was := before[id{summary.Metric, summary.Unit}]
		summary.Previous = &models.PreviousMetric{From: from, To: to, Count: int64(was.count), Value: was.total}
		if was.total != 0 {
			ratio := summary.Total / was.total
			summary.Previous.Ratio = &ratio
		}
	}
	return summaries
}
