package analytics

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

const maxNames = 100

// Metrics asks for the summary of each metric over a range.
type Metrics struct {
	values   values
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

// SQL reads the coarsest aggregates that the range allows, and its ends from the events.
func (q Metrics) SQL(in scope) (string, clickhouse.Parameters) { return q.values.summed(in) }

// Metrics answers for each subject, by metric and unit. It fails with AnalyticsUnavailable, Timeout or TooComplex.
func (a *Analytics) Metrics(ctx context.Context, subjects []models.Subject, question Metrics) (map[models.Subject][]*models.MetricSummary, error) {
	type id struct {
		subject      models.Subject
		metric, unit string
	}
	before := map[id]sums{}
	found := lists[*models.MetricSummary](subjects)
	borders := question.values.borders
	err := a.ask(ctx, question, subjects, func(row row) error {
		var at id
		var sums sums
		subject, step, err := question.values.read(row, &at.metric, &at.unit, &sums)
		if err != nil {
			return err
		}
		if at.subject = subject; question.previous && step == 0 {
			before[at] = sums
			return nil
		}
		summary := &models.MetricSummary{
			Metric: at.metric, Unit: at.unit, Count: int64(sums.count), Total: sums.total, Average: sums.average(), Min: sums.min, Max: sums.max,
		}
		if p := sums.percentiles; p != nil {
			summary.P50, summary.P90, summary.P95, summary.P99 = p[0], p[1], p[2], p[3]
		}
		found[subject] = append(found[subject], summary)
		return nil
	})
	if err != nil || !question.previous {
		return found, err
	}
	for subject, summaries := range found {
		for _, summary := range summaries {
			was := before[id{subject, summary.Metric, summary.Unit}]
			summary.Previous = &models.PreviousMetric{
				From: time.UnixMilli(borders[0]).UTC(), To: time.UnixMilli(borders[1]).UTC(), Count: int64(was.count), Value: was.total,
			}
			if was.total != 0 {
				ratio := summary.Total / was.total
				summary.Previous.Ratio = &ratio
			}
		}
	}
	return found, nil
}

// values asks what metrics add up to in each step between two borders.
type values struct {
	borders     []int64  // milliseconds since 1970
	names       []string // nil: all
	units       []string // nil: any
	percentiles bool
}

// chosen is the condition on metrics, by the columns that hold their names and units.
func (v values) chosen(name, unit string) string {
	condition := ""
	if v.names != nil {
		condition += " AND " + name + " IN {names:Array(String)}"
	}
	if v.units != nil {
		condition += " AND " + unit + " IN {units:Array(String)}"
	}
	return condition
}

// parameters are what chosen and steps mention.
func (v values) parameters(borders []int64) clickhouse.Parameters {
	parameters := clickhouse.Parameters{}
	if v.names != nil {
		parameters["names"] = texts(v.names)
	}
	if v.units != nil {
		parameters["units"] = texts(v.units)
	}
	if len(borders) > 2 {
		list := make([]string, len(borders))
		for i, border := range borders {
			list[i] = strconv.FormatInt(border, 10)
		}
		parameters["borders"] = "[" + strings.Join(list, ",") + "]"
	}
	return parameters
}

// summed selects, by tenant, subject, metric, unit and step (the first is 1): count, total, smallest, largest, and the quantiles if they were
// asked for.
func (v values) summed(in scope) (string, clickhouse.Parameters) {
	borders := settle(v.borders, in.summed(), in.now)
	times := times{v.parameters(borders)}
	state, sketched, result := "", "", ""
	if v.percentiles {
		state, sketched, result = ", value_quantiles", ", quantilesTDigestState"+quantiles+"(value) AS value_quantiles", ", quantilesTDigestMerge"+quantiles+"(value_quantiles)"
	}
	var parts []string
	for _, part := range cover(borders, in.summed()) {
		step := ", " + part.grain.step(borders) + " AS step"
		if part.grain.size > 0 {
			parts = append(parts, in.from(part.grain.table, "metric_name, unit, event_count, total_value, min_value, max_value"+state+step,
				times.within(part)+v.chosen("metric_name", "unit")))
			continue
		}
		parts = append(parts, "SELECT tenant, subject, metric_name, unit, count() AS event_count, sum(value) AS total_value, min(value) AS min_value, max(value) AS max_value"+
			sketched+", step FROM ("+
			in.from(part.grain.table, "metric.name AS metric_name, metric.unit AS unit, metric.value AS value"+step,
				isMetric+" AND "+times.within(part)+v.chosen("metric.name", "metric.unit"))+
			") GROUP BY tenant, subject, metric_name, unit, step")
	}
	return "SELECT tenant, subject, metric_name, unit, " + stepNumber(borders) + " AS number, sum(event_count), sum(total_value), min(min_value), max(max_value)" + result +
		" FROM (" + strings.Join(parts, " UNION ALL ") + ") GROUP BY tenant, subject, metric_name, unit, step ORDER BY tenant, subject, metric_name, unit, number", times.parameters
}

// quantiles are the percentiles that the aggregates can tell.
const quantiles = "(0.5, 0.9, 0.95, 0.99)"

// isMetric is which values of events the aggregates know.
const isMetric = "event_type = 'metric' AND isFinite(metric.value)"

// sums are what values add up to.
type sums struct {
	count           uint64
	total, min, max float64
	percentiles     []float64 // the 50th, 90th, 95th and 99th, when they were asked for
}

func (s sums) average() float64 { return s.total / float64(s.count) }

// read reads a row of summed and says which step it is about; the first is 0.
func (v values) read(row row, metric, unit *string, sums *sums) (subject models.Subject, step int, err error) {
	var number uint64
	into := []any{metric, unit, &number, &sums.count, &sums.total, &sums.min, &sums.max}
	var estimates []float32
	if v.percentiles {
		into = append(into, &estimates)
	}
	subject, err = row.read(into...)
	for _, estimate := range estimates {
		sums.percentiles = append(sums.percentiles, min(max(float64(estimate), sums.min), sums.max))
	}
	return subject, int(number) - 1, err
}
