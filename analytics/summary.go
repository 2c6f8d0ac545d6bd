package analytics

import (
	"context"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

const maxNames = 100

// Summaries asks for the summary of each metric over a range, widened to whole hours in UTC.
type Summaries struct {
	from, to time.Time
	names    []string // nil: all
}

// NewSummaries fails with BadUserInput.
func NewSummaries(span models.TimeRange, names []string) (Summaries, error) {
	if err := checkRange(span); err != nil {
		return Summaries{}, err
	}
	if len(names) > maxNames {
		return Summaries{}, models.Errorf(models.BadUserInput, "names: at most %d", maxNames)
	}
	from := span.From.UTC().Truncate(time.Hour)
	to := span.To.UTC().Add(time.Hour - 1).Truncate(time.Hour)
	return Summaries{from: from, to: to, names: names}, nil
}

// SQL reads the aggregates. Parts that have not merged yet hold several rows of one key, hence the aggregation.
func (s Summaries) SQL(in scope) (string, clickhouse.Parameters) {
	parameters := clickhouse.Parameters{"from": seconds(s.from), "to": seconds(s.to)}
	named := ""
	if s.names != nil {
		named = " AND metric_name IN {names:Array(String)}"
		parameters["names"] = texts(s.names)
	}
	return "SELECT tenant, subject, metric_name, unit, sum(event_count), sum(total_value), min(min_value), max(max_value)," +
		" quantilesTDigestMerge(0.5, 0.9, 0.95, 0.99)(value_quantiles)" +
		" FROM (" + in.from(aggregatedMetrics, "metric_name, unit, event_count, total_value, min_value, max_value, value_quantiles",
		"hour >= fromUnixTimestamp({from:Int64}) AND hour < fromUnixTimestamp({to:Int64})"+named) +
		") GROUP BY tenant, subject, metric_name, unit ORDER BY tenant, subject, metric_name, unit", parameters
}

func seconds(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// Summaries answers for each user, by metric name. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) Summaries(ctx context.Context, users []int, question Summaries) (map[int][]*models.MetricSummary, error) {
	found := make(map[int][]*models.MetricSummary, len(users))
	for _, user := range users {
		found[user] = []*models.MetricSummary{}
	}
	subjects := make([]models.Subject, len(users))
	for i, user := range users {
		subjects[i] = models.Subject{Kind: models.SubjectUser, UserID: user}
	}
	err := a.ask(ctx, question, subjects, func(row row) error {
		var count uint64
		var quantiles []float32
		summary := new(models.MetricSummary)
		subject, err := row.read(&summary.Metric, &summary.Unit, &count, &summary.Total, &summary.Min, &summary.Max, &quantiles)
		if err != nil {
			return err
		}
		summary.Count = int64(count)
		summary.Average = summary.Total / float64(count)
		summary.P50, summary.P90, summary.P95, summary.P99 = float64(quantiles[0]), float64(quantiles[1]), float64(quantiles[2]), float64(quantiles[3])
		found[subject.UserID] = append(found[subject.UserID], summary)
		return nil
	})
	return found, err
}
