package analytics

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

// Summed is a question that sums answer: Metrics, Series or Usage.
type Summed interface {
	// Group tells which questions are put together.
	Group() string
	asked() values
}

// values asks what metrics add up to in each step between two borders.
type values struct {
	borders     []int64  // milliseconds since 1970
	names       []string // nil: all
	units       []string // nil: any
	percentiles bool
}

func (v values) asked() values { return v }

// Group keeps questions that need no percentiles from reading sketches, and series from totals: two queries of the same work are done sooner than
// one.
func (v values) Group() string {
	const ofTotals = 3 // borders of a range and the one before it
	return fmt.Sprint(v.percentiles, len(v.borders) > ofTotals)
}

// has tells whether values of a metric in a unit are asked for.
func (v values) has(metric, unit string) bool {
	return (v.names == nil || slices.Contains(v.names, metric)) && (v.units == nil || slices.Contains(v.units, unit))
}

// join widens v by what another question asks between the same borders.
func (v values) join(other values) values {
	v.names, v.units = union(v.names, other.names), union(v.units, other.units)
	v.percentiles = v.percentiles || other.percentiles
	return v
}

// Beside is what a question asks beside others: where one of them reads the same with percentiles, these come along, so that both are of one Group.
func Beside(question Summed, others []Summed) Summed {
	asked := question.asked()
	for _, other := range others {
		if other := other.asked(); other.percentiles && slices.Equal(other.borders, asked.borders) && covers(other.names, asked.names) && covers(other.units, asked.units) {
			asked.percentiles = true
			return asked
		}
	}
	return question
}

// covers tells whether a has all of b; nil stands for all.
func covers(a, b []string) bool {
	return a == nil || b != nil && !slices.ContainsFunc(b, func(name string) bool { return !slices.Contains(a, name) })
}

// union is of sorted names; nil stands for all.
func union(a, b []string) []string {
	if a == nil || b == nil {
		return nil
	}
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// chosen is the condition on metrics.
func (v values) chosen(suffix string) string {
	condition := ""
	if v.names != nil {
		condition += " AND metric_name IN {names" + suffix + ":Array(String)}"
	}
	if v.units != nil {
		condition += " AND unit IN {units" + suffix + ":Array(String)}"
	}
	return condition
}

// parameters are what chosen and steps mention.
func (v values) parameters(borders []int64, suffix string) clickhouse.Parameters {
	parameters := clickhouse.Parameters{}
	if v.names != nil {
		parameters["names"+suffix] = texts(v.names)
	}
	if v.units != nil {
		parameters["units"+suffix] = texts(v.units)
	}
	if borders != nil {
		list := make([]string, len(borders))
		for i, border := range borders {
			list[i] = strconv.FormatInt(border, 10)
		}
		parameters["borders"+suffix] = "[" + strings.Join(list, ",") + "]"
	}
	return parameters
}

// summing puts questions together. What they ask between the same borders is one period, and each period has a number.
type summing struct {
	periods []values
	of      []int // the period of each question
}

func newSumming(questions []Summed) summing {
	var q summing
	for _, question := range questions {
		asked := question.asked()
		i := slices.IndexFunc(q.periods, func(v values) bool { return slices.Equal(v.borders, asked.borders) })
		if i < 0 {
			i = len(q.periods)
			q.periods = append(q.periods, asked)
		}
		q.periods[i] = q.periods[i].join(asked)
		q.of = append(q.of, i)
	}
	return q
}

// stride is between the numbers of the first steps of two periods.
const stride = 2 * maxPoints

// SQL selects, by tenant, subject, metric, unit and step: count, total, smallest, largest, and the quantiles if they were asked for. Steps
// are numbered from 1, and those of each further period from one more than a multiple of stride. It reads the coarsest aggregates that the
// steps allow, and the ends from the events, each table once for all periods.
func (q summing) SQL(in scope) (string, clickhouse.Parameters) {
	times := times{clickhouse.Parameters{}}
	state, sketched, result := "", "", ""
	if slices.ContainsFunc(q.periods, func(v values) bool { return v.percentiles }) {
		state, sketched, result = ", value_quantiles", ", quantilesTDigestState"+quantiles+"(value) AS value_quantiles", ", quantilesTDigestMerge"+quantiles+"(value_quantiles)"
	}
	borders, covers := make([][]int64, len(q.periods)), make([][]part, len(q.periods))
	for i, period := range q.periods {
		borders[i] = settle(period.borders, in.summed(), in.now)
		covers[i] = cover(borders[i], in.summed())
		if q.oneStep() {
			maps.Copy(times.parameters, period.parameters(nil, ""))
		} else {
			maps.Copy(times.parameters, period.parameters(borders[i], q.suffix(i)))
		}
	}
	keys := "tenant, subject, metric_name, unit"
	if !q.oneStep() {
		keys += ", step"
	}
	var parts []string
	for i, grain := range in.summed() {
		if i > 0 && grain.table == in.summed()[i-1].table { // its rows were selected with those
			continue
		}
		var wanted, steps []string
		for i, period := range q.periods {
			var pieces []string
			for _, part := range covers[i] {
				if part.grain.table == grain.table {
					pieces = append(pieces, times.within(part))
				}
			}
			if len(pieces) > 0 {
				wanted = append(wanted, either(pieces)+period.chosen(q.suffix(i)))
				steps = append(steps, q.step(i, grain))
			}
		}
		if len(wanted) == 0 {
			continue
		}
		where, step := wanted[0], steps[0]
		if len(wanted) > 1 { // a row counts in each period that wants it
			where = either(wanted)
			for i := range steps {
				steps[i] = "if(" + wanted[i] + ", [" + steps[i] + "], [])"
			}
			step = "arrayJoin(arrayConcat(" + strings.Join(steps, ", ") + "))"
		}
		if step != "" {
			step = ", " + step + " AS step"
		}
		if grain.size > 0 {
			parts = append(parts, in.from(grain.table, "metric_name, unit, event_count, total_value, min_value, max_value"+state+step, where))
			continue
		}
		parts = append(parts, in.from(grain.table, "metric_name, unit, count() AS event_count, sum(value) AS total_value, min(value) AS min_value, max(value) AS max_value"+sketched+step,
			isMetric+" AND "+where+" GROUP BY "+keys))
	}
	return "SELECT tenant, subject, metric_name, unit, " + q.number() + " AS number, sum(event_count), sum(total_value), min(min_value), max(max_value)" + result +
		" FROM (" + strings.Join(parts, " UNION ALL ") + ") GROUP BY " + keys, times.parameters
}

// oneStep says that there is no step to tell from another.
func (q summing) oneStep() bool { return len(q.periods) == 1 && len(q.periods[0].borders) == 2 }

// suffix tells the parameters of a period from those of others.
func (q summing) suffix(period int) string {
	if period == 0 {
		return ""
	}
	return "_" + strconv.Itoa(period)
}

// step is the expression for the border at which a row's step begins, after the period's number where there are several; empty where there is one step.
func (q summing) step(period int, grain grain) string {
	parameter := "{borders" + q.suffix(period) + ":Array(Int64)}"
	switch {
	case q.oneStep():
		return ""
	case len(q.periods) == 1:
		return grain.step(parameter)
	}
	return "(toUInt16(" + strconv.Itoa(period) + "), " + grain.step(parameter) + ")"
}

// number is the expression for the number of a step.
func (q summing) number() string {
	switch {
	case q.oneStep():
		return "toUInt64(1)"
	case len(q.periods) == 1:
		return "indexOf({borders:Array(Int64)}, step)"
	}
	lists := make([]string, len(q.periods))
	for i := range q.periods {
		lists[i] = "{borders" + q.suffix(i) + ":Array(Int64)}"
	}
	return "step.1 * " + strconv.Itoa(stride) + " + indexOf([" + strings.Join(lists, ", ") + "][step.1 + 1], step.2)"
}

// quantiles are the percentiles that the aggregates can tell.
const quantiles = "(0.5, 0.9, 0.95, 0.99)"

// isMetric is which values of events the aggregates know.
const isMetric = "event_type = 'metric' AND isFinite(value)"

// Sums are what a subject's metrics add up to, by metric, unit and step. They are put in order here: planning to sort a few rows costs ClickHouse more than
// sorting them.
type Sums []sum

type sum struct {
	metric, unit    string
	step            int // the first is 0
	count           uint64
	total, min, max float64
	percentiles     []float64 // the 50th, 90th, 95th and 99th, when they were asked for
}

func (s sum) average() float64 { return s.total / float64(s.count) }

// Sums answers questions, of one Group, together: for each subject it has the sums that each question needs. It fails with
// AnalyticsUnavailable, Timeout or TooComplex.
func (a *Analytics) Sums(ctx context.Context, subjects []models.Subject, questions []Summed) (map[models.Subject][]Sums, error) {
	found := answers[Sums](subjects, len(questions))
	question := newSumming(questions)
	sketched := slices.ContainsFunc(question.periods, func(v values) bool { return v.percentiles })
	err := a.ask(ctx, question, subjects, func(row row) error {
		var sum sum
		var number uint64
		var estimates []float32
		into := []any{&sum.metric, &sum.unit, &number, &sum.count, &sum.total, &sum.min, &sum.max}
		if sketched {
			into = append(into, &estimates)
		}
		subject, err := row.read(into...)
		if err != nil {
			return err
		}
		for _, estimate := range estimates {
			sum.percentiles = append(sum.percentiles, min(max(float64(estimate), sum.min), sum.max))
		}
		period := int(number-1) / stride
		sum.step = int(number-1) % stride
		for i, of := range question.of {
			if of == period && questions[i].asked().has(sum.metric, sum.unit) {
				found[subject][i] = append(found[subject][i], sum)
			}
		}
		return nil
	})
	for _, answers := range found {
		for _, sums := range answers {
			slices.SortFunc(sums, func(a, b sum) int {
				return cmp.Or(cmp.Compare(a.metric, b.metric), cmp.Compare(a.unit, b.unit), cmp.Compare(a.step, b.step))
			})
		}
	}
	return found, err
}

// answers has a place for each subject's answer to each of so many questions.
func answers[V any](subjects []models.Subject, questions int) map[models.Subject][]V {
	found := make(map[models.Subject][]V, len(subjects))
	for _, subject := range subjects {
		found[subject] = make([]V, questions)
	}
	return found
}
