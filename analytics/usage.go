package analytics

import (
	"context"
	"math"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

// The metrics that usage is made of, in whatever unit they are reported.
const (
	metricLatency      = "latency_ms" // of every request
	metricErrors       = "errors"
	metricTokensInput  = "tokens_input"
	metricTokensOutput = "tokens_output"
	metricCost         = "cost_usd"
)

// Usage asks what was used over a range.
type Usage struct {
	values values
}

// NewUsage fails with BadUserInput.
func NewUsage(span models.TimeRange) (Usage, error) {
	if err := checkRange(span); err != nil {
		return Usage{}, err
	}
	return Usage{values{
		borders: []int64{instant(span.From), instant(span.To)},
		names:   []string{metricCost, metricErrors, metricLatency, metricTokensInput, metricTokensOutput},
	}}, nil
}

// SQL reads what Metrics reads of the five metrics.
func (q Usage) SQL(in scope) (string, clickhouse.Parameters) { return q.values.summed(in) }

// Usage answers for each subject. It fails with AnalyticsUnavailable, Timeout or TooComplex.
func (a *Analytics) Usage(ctx context.Context, subjects []models.Subject, question Usage) (map[models.Subject]*models.Usage, error) {
	totals := make(map[models.Subject]map[string]float64, len(subjects)) // by metric
	found := make(map[models.Subject]*models.Usage, len(subjects))
	for _, subject := range subjects {
		totals[subject], found[subject] = map[string]float64{}, new(models.Usage)
	}
	err := a.ask(ctx, question, subjects, func(row row) error {
		var metric, unit string
		var sums sums
		subject, _, err := question.values.read(row, &metric, &unit, &sums)
		if err != nil {
			return err
		}
		totals[subject][metric] += sums.total
		if metric == metricLatency {
			found[subject].Requests += int64(sums.count)
		}
		return nil
	})
	for subject, usage := range found {
		total := totals[subject]
		usage.Errors, usage.CostUsd = whole(total[metricErrors]), total[metricCost]
		usage.TokensInput, usage.TokensOutput = whole(total[metricTokensInput]), whole(total[metricTokensOutput])
		if usage.Requests > 0 {
			rate := total[metricErrors] / float64(usage.Requests)
			usage.ErrorRate = &rate
		}
		if seconds := total[metricLatency] / 1000; seconds > 0 {
			speed := total[metricTokensOutput] / seconds
			usage.TokensPerSecond = &speed
		}
	}
	return found, err
}

// whole rounds a total of what should have been counted in whole numbers.
func whole(total float64) int64 {
	return int64(math.Round(min(max(total, -1<<53), 1<<53)))
}
