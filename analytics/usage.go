package analytics

import (
	"context"

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
	found := make(map[models.Subject]*models.Usage, len(subjects))
	latency := make(map[models.Subject]float64, len(subjects)) // in ms, together
	for _, subject := range subjects {
		found[subject] = new(models.Usage)
	}
	err := a.ask(ctx, question, subjects, func(row row) error {
		var metric, unit string
		var sums sums
		subject, _, err := question.values.read(row, &metric, &unit, &sums)
		if err != nil {
			return err
		}
		usage := found[subject]
		switch metric {
		case metricLatency:
			usage.Requests += int64(sums.count)
			latency[subject] += sums.total
		case metricErrors:
			usage.Errors += int64(sums.total)
		case metricTokensInput:
			usage.TokensInput += int64(sums.total)
		case metricTokensOutput:
			usage.TokensOutput += int64(sums.total)
		case metricCost:
			usage.CostUsd += sums.total
		}
		return nil
	})
	for subject, usage := range found {
		if usage.Requests > 0 {
			rate := float64(usage.Errors) / float64(usage.Requests)
			usage.ErrorRate = &rate
		}
		if seconds := latency[subject] / 1000; seconds > 0 {
			speed := float64(usage.TokensOutput) / seconds
			usage.TokensPerSecond = &speed
		}
	}
	return found, err
}
