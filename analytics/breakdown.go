package analytics

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

const (
	defaultTop   = 10
	maxTop       = 100
	maxDimension = 200 // bytes of a dimension's name
)

// splitByUser are the dimensions that metric_dimensions has as columns, and its grain.
var (
	splitByUser     = []grain{{metricDimensions, "hour", wholeHour, ""}, eventGrain}
	knownDimensions = []string{"model", "tool", "agent_type", "status", "environment"}
)

// Breakdown asks how a metric divides by the values of a dimension.
type Breakdown struct {
	values
	dimension string
	top       int
}

// Group is the metric, its unit and the range: several dimensions are put together where the same table knows them.
func (q Breakdown) Group() string {
	return fmt.Sprintf("%q %v %v", q.names, q.units, q.borders) + strconv.FormatBool(slices.Contains(knownDimensions, q.dimension))
}

// NewBreakdown asks for the top slices, 10 unless told. Without a unit it is about the one that most of a subject's values are in.
// It fails with BadUserInput.
func NewBreakdown(metric string, unit *string, by string, span models.TimeRange, top *int) (Breakdown, error) {
	values, err := oneMetric(metric, unit, span)
	if err != nil {
		return Breakdown{}, err
	}
	if by == "" || len(by) > maxDimension {
		return Breakdown{}, models.Errorf(models.BadUserInput, "by: the name of a dimension, at most %d bytes long", maxDimension)
	}
	q := Breakdown{values, by, defaultTop}
	if top != nil {
		q.top = *top
	}
	if q.top < 1 || q.top > maxTop {
		return Breakdown{}, models.Errorf(models.BadUserInput, "top: between 1 and %d", maxTop)
	}
	return q, nil
}

// oneMetric fails with BadUserInput.
func oneMetric(metric string, unit *string, span models.TimeRange) (values, error) {
	if err := checkRange(span); err != nil {
		return values{}, err
	}
	return values{borders: []int64{instant(span.From), instant(span.To)}, names: []string{metric}, units: chosenUnit(unit)}, nil
}

// splitting puts breakdowns of one metric together.
type splitting struct {
	values     values
	dimensions []string // of one table
	top        int
}

func newSplitting(questions []Breakdown) splitting {
	q := splitting{values: joined(questions)}
	for _, question := range questions {
		if !slices.Contains(q.dimensions, question.dimension) {
			q.dimensions = append(q.dimensions, question.dimension)
		}
		q.top = max(q.top, question.top)
	}
	return q
}

// SQL ranks the labels within each dimension and unit and adds up those beyond the top. metric_dimensions answers by whole hours where it
// knows the scope and the dimensions; events answer the rest.
func (q splitting) SQL(in scope) (string, clickhouse.Parameters) {
	grains := eventsOnly
	if in.byUser() && slices.Contains(knownDimensions, q.dimensions[0]) {
		grains = splitByUser
	}
	times := times{q.values.parameters(nil, "")}
	times.parameters["by"] = texts(q.dimensions)
	times.parameters["top"] = strconv.Itoa(q.top)
	var parts []string
	for _, part := range cover(settle(q.values.borders, grains, in.now), grains) {
		if part.grain.size > 0 {
			parts = append(parts, in.from(part.grain.table, "unit, "+q.label(part.grain)+" AS label, event_count, total_value, min_value, max_value",
				times.within(part)+q.values.chosen("")))
		} else {
			parts = append(parts, in.from(part.grain.table, "unit, "+q.label(part.grain)+" AS label, toUInt64(1) AS event_count,"+
				" value AS total_value, value AS min_value, value AS max_value",
				isMetric+" AND "+times.within(part)+q.values.chosen("")))
		}
	}
	return "SELECT tenant, subject, label.1 AS dimension, unit, place, any(label.2), sum(count), sum(total), min(smallest), max(largest) FROM (" +
		"SELECT tenant, subject, unit, label, count, total, smallest, largest," +
		" least(row_number() OVER (PARTITION BY tenant, subject, label.1, unit ORDER BY total DESC, label.2), {top:UInt64} + 1) AS place FROM (" +
		"SELECT tenant, subject, unit, label, sum(event_count) AS count, sum(total_value) AS total, min(min_value) AS smallest, max(max_value) AS largest" +
		" FROM (" + strings.Join(parts, " UNION ALL ") + ") GROUP BY tenant, subject, unit, label" +
		")) GROUP BY tenant, subject, dimension, unit, place ORDER BY tenant, subject, dimension, unit, place", times.parameters
}

// label is the expression for the number of a dimension and a row's value of it, in a row for each.
func (q splitting) label(grain grain) string {
	labels := make([]string, len(q.dimensions))
	for i, dimension := range q.dimensions {
		value := "dimensions[{by:Array(String)}[" + strconv.Itoa(i+1) + "]]"
		if grain.size > 0 {
			value = "toString(" + dimension + ")" // a column's name is one of ours: it is among knownDimensions
		}
		labels[i] = "(toUInt16(" + strconv.Itoa(i) + "), " + value + ")"
	}
	if len(labels) == 1 {
		return labels[0]
	}
	return "arrayJoin([" + strings.Join(labels, ", ") + "])"
}

// otherLabel names what is beyond the top.
const otherLabel = "other"

// Breakdowns answers questions, of one Group, together: for each subject and question with slices, the largest total first and all beyond the
// top together last, or with none where the metric has no value in the range. Values of events that lack the dimension have an empty label. It
// fails with AnalyticsUnavailable, Timeout or TooComplex.
func (a *Analytics) Breakdowns(ctx context.Context, subjects []models.Subject, questions []Breakdown) (map[models.Subject][][]*models.MetricSlice, error) {
	found := answers[[]*models.MetricSlice](subjects, len(questions))
	ranked := answers[units[[]models.MetricSlice]](subjects, len(questions))
	together := newSplitting(questions)
	err := a.ask(ctx, together, subjects, func(row row) error {
		var dimension uint16
		var place, count uint64
		var slice models.MetricSlice
		subject, err := row.read(&dimension, &slice.Unit, &place, &slice.Label, &count, &slice.Total, &slice.Min, &slice.Max)
		if err != nil {
			return err
		}
		slice.Count = int64(count)
		for i, question := range questions {
			if question.dimension != together.dimensions[dimension] {
				continue
			}
			of := ranked[subject][i].of(slice.Unit, count)
			if int(place) <= question.top {
				of.data = append(of.data, slice)
			} else {
				of.data = withOther(of.data, question.top, slice)
			}
		}
		return nil
	})
	for subject, list := range ranked {
		for i, units := range list {
			found[subject][i] = []*models.MetricSlice{}
			if len(units) > 0 {
				found[subject][i] = share(units.largest().data)
			}
		}
	}
	return found, err
}

// withOther adds a slice to what is beyond the top.
func withOther(slices []models.MetricSlice, top int, slice models.MetricSlice) []models.MetricSlice {
	if len(slices) == top {
		slice.Label, slice.Other = otherLabel, true
		return append(slices, slice)
	}
	other := &slices[top]
	other.Count += slice.Count
	other.Total += slice.Total
	other.Min, other.Max = min(other.Min, slice.Min), max(other.Max, slice.Max)
	return slices
}

// share gives slices their averages and what part each is of the sum of all.
func share(slices []models.MetricSlice) []*models.MetricSlice {
	sum := 0.0
	for _, slice := range slices {
		sum += slice.Total
	}
	shared := make([]*models.MetricSlice, len(slices))
	for i, slice := range slices {
		slice.Average = slice.Total / float64(slice.Count)
		if sum != 0 {
			share := slice.Total / sum
			slice.Share = &share
		}
		shared[i] = &slice
	}
	return shared
}
