package analytics

import (
	"context"
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
	splitByUser     = []grain{{metricDimensions, "hour", wholeHour}, eventGrain}
	knownDimensions = []string{"model", "tool", "agent_type", "status", "environment"}
)

// Breakdown asks how a metric divides by the values of a dimension.
type Breakdown struct {
	values    values
	dimension string
	top       int
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

// SQL ranks the labels within each unit and adds up those beyond the top. metric_dimensions answers by whole hours where it knows the
// scope and the dimension; events answer the rest.
func (q Breakdown) SQL(in scope) (string, clickhouse.Parameters) {
	grains := eventsOnly
	if in.byUser() && slices.Contains(knownDimensions, q.dimension) {
		grains = splitByUser
	}
	times := times{q.values.parameters(nil)}
	times.parameters["by"] = texts([]string{q.dimension})
	times.parameters["top"] = strconv.Itoa(q.top)
	var parts []string
	for _, part := range cover(settle(q.values.borders, grains, in.now), grains) {
		if part.grain.size > 0 {
			// The column's name is one of ours: it is among those above.
			parts = append(parts, in.from(part.grain.table, "unit, "+q.dimension+" AS label, event_count, total_value, min_value, max_value",
				times.within(part)+q.values.chosen("metric_name", "unit")))
		} else {
			parts = append(parts, in.from(part.grain.table, "metric.unit AS unit, dimensions[{by:Array(String)}[1]] AS label, toUInt64(1) AS event_count,"+
				" metric.value AS total_value, metric.value AS min_value, metric.value AS max_value",
				isMetric+" AND "+times.within(part)+q.values.chosen("metric.name", "metric.unit")))
		}
	}
	return "SELECT tenant, subject, unit, place, any(label), sum(count), sum(total), min(smallest), max(largest) FROM (" +
		"SELECT tenant, subject, unit, label, count, total, smallest, largest," +
		" least(row_number() OVER (PARTITION BY tenant, subject, unit ORDER BY total DESC, label), {top:UInt64} + 1) AS place FROM (" +
		"SELECT tenant, subject, unit, label, sum(event_count) AS count, sum(total_value) AS total, min(min_value) AS smallest, max(max_value) AS largest" +
		" FROM (" + strings.Join(parts, " UNION ALL ") + ") GROUP BY tenant, subject, unit, label" +
		")) GROUP BY tenant, subject, unit, place ORDER BY tenant, subject, unit, place", times.parameters
}

// otherLabel names what is beyond the top.
const otherLabel = "other"

// Breakdown answers for each subject with slices, the largest total first and all beyond the top together last, or with none where the
// metric has no value in the range. Values of events that lack the dimension have an empty label. It fails with AnalyticsUnavailable,
// Timeout or TooComplex.
func (a *Analytics) Breakdown(ctx context.Context, subjects []models.Subject, question Breakdown) (map[models.Subject][]*models.MetricSlice, error) {
	found := lists[*models.MetricSlice](subjects)
	units := units[[]*models.MetricSlice]{}
	err := a.ask(ctx, question, subjects, func(row row) error {
		var place, count uint64
		slice := new(models.MetricSlice)
		subject, err := row.read(&slice.Unit, &place, &slice.Label, &count, &slice.Total, &slice.Min, &slice.Max)
		if err != nil {
			return err
		}
		slice.Count, slice.Average = int64(count), slice.Total/float64(count)
		if int(place) > question.top {
			slice.Label, slice.Other = otherLabel, true
		}
		of := units.of(subject, slice.Unit, count)
		of.data = append(of.data, slice)
		return nil
	})
	for subject, of := range units.largest() {
		share(of.data)
		found[subject] = of.data
	}
	return found, err
}

func share(slices []*models.MetricSlice) {
	sum := 0.0
	for _, slice := range slices {
		sum += slice.Total
	}
	if sum == 0 {
		return
	}
	for _, slice := range slices {
		share := slice.Total / sum
		slice.Share = &share
	}
}
