package analytics

import (
	"context"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/netra-ai/netra/models"
)

// SQL is the text and the parameters of a question, as the viewer of ctx would send it.
func (a *Analytics) SQL(ctx context.Context, q question, subjects ...models.Subject) (string, clickhouse.Parameters, error) {
	scope, err := a.newScope(ctx, subjects)
	if err != nil {
		return "", nil, err
	}
	text, parameters := q.SQL(scope)
	return scope.with() + text, parameters, nil
}

// Send puts any SQL the way that questions go.
func (a *Analytics) Send(ctx context.Context, text string) error {
	return a.send(ctx, "Test", text, nil, func(driver.Rows) error { return nil })
}

// Translate is what becomes of an error of ClickHouse's.
func Translate(err error) error { return translate(context.Background(), err) }

// Borders of the steps, in milliseconds since 1970.
func (q Series) Borders() []int64 { return q.borders }

// A question that can be put together with others has the SQL that it is put with alone.

func (q Metrics) SQL(in scope) (string, clickhouse.Parameters) {
	return newSumming([]Summed{q}).SQL(in)
}
func (q Series) SQL(in scope) (string, clickhouse.Parameters) { return newSumming([]Summed{q}).SQL(in) }
func (q Usage) SQL(in scope) (string, clickhouse.Parameters)  { return newSumming([]Summed{q}).SQL(in) }
func (q Breakdown) SQL(in scope) (string, clickhouse.Parameters) {
	return newSplitting([]Breakdown{q}).SQL(in)
}
func (q Histogram) SQL(in scope) (string, clickhouse.Parameters) {
	return binning{q.asked()}.SQL(in)
}
func (q TopWorkloads) SQL(in scope) (string, clickhouse.Parameters) {
	return ranking{q.asked(), q.first}.SQL(in)
}

// Together is the SQL of several questions at once.
func Together(questions ...Summed) question { return newSumming(questions) }

// One question and its answer, perhaps put together with others.

func (a *Analytics) Metrics(ctx context.Context, subjects []models.Subject, q Metrics, beside ...Summed) (map[models.Subject][]*models.MetricSummary, error) {
	return one(ctx, a.Sums, subjects, Summed(q), beside, q.Of)
}

func (a *Analytics) Series(ctx context.Context, subjects []models.Subject, q Series, beside ...Summed) (map[models.Subject][]*models.MetricPoint, error) {
	return one(ctx, a.Sums, subjects, Summed(q), beside, q.Of)
}

func (a *Analytics) Usage(ctx context.Context, subjects []models.Subject, q Usage, beside ...Summed) (map[models.Subject]*models.Usage, error) {
	return one(ctx, a.Sums, subjects, Summed(q), beside, q.Of)
}

func (a *Analytics) Breakdown(ctx context.Context, subjects []models.Subject, q Breakdown, beside ...Breakdown) (map[models.Subject][]*models.MetricSlice, error) {
	return one(ctx, a.Breakdowns, subjects, q, beside, func(slices []*models.MetricSlice) []*models.MetricSlice { return slices })
}

func (a *Analytics) Histogram(ctx context.Context, subjects []models.Subject, q Histogram, beside ...Histogram) (map[models.Subject][]*models.HistogramBucket, error) {
	return one(ctx, a.Histograms, subjects, q, beside, func(buckets []*models.HistogramBucket) []*models.HistogramBucket { return buckets })
}

func (a *Analytics) Top(ctx context.Context, subjects []models.Subject, q TopWorkloads, beside ...TopWorkloads) (map[models.Subject][]models.Workload, error) {
	return one(ctx, a.TopWorkloads, subjects, q, beside, func(workloads []models.Workload) []models.Workload { return workloads })
}

func one[Q, S, V any](ctx context.Context, ask func(context.Context, []models.Subject, []Q) (map[models.Subject][]S, error), subjects []models.Subject, q Q, beside []Q, of func(S) V) (map[models.Subject]V, error) {
	answers, err := ask(ctx, subjects, append(slices.Clone(beside), q))
	found := make(map[models.Subject]V, len(answers))
	for subject, answer := range answers {
		found[subject] = of(answer[len(beside)])
	}
	return found, err
}
