package analytics

import (
	"math"

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
	values
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

// Of is the answer from the sums that the question was put for.
func (q Usage) Of(sums Sums) *models.Usage {
	total := map[string]float64{} // by metric
	usage := new(models.Usage)
	for _, sum := range sums {
		total[sum.metric] += sum.total
		if sum.metric == metricLatency {
			usage.Requests += int64(sum.count)
		}
	}
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
	return usage
}

// whole rounds a total of what should have been counted in whole numbers.
func whole(total float64) int64 {
	return int64(math.Round(min(max(total, -1<<53), 1<<53)))
}
