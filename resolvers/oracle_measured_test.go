package resolvers_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
)

func (o *oracle) Platform() graph.PlatformResolver {
	return oraclePlatform{o, oracleMeasured[*models.Platform]{o}}
}
func (o *oracle) Workload() graph.WorkloadResolver {
	return oracleWorkload{o, oracleMeasured[*models.Workload]{o}}
}
func (o *oracle) WorkloadEvent() graph.WorkloadEventResolver { return oracleEvent{o} }

func (o *oracle) EventMetric() graph.EventMetricResolver { return oracleMetric{} }

type oracleMetric struct{}

func (oracleMetric) Value(_ context.Context, m *models.EventMetric) (*float64, error) {
	return &m.Value, nil
}

type (
	oraclePlatform struct {
		*oracle
		oracleMeasured[*models.Platform]
	}
	oracleWorkload struct {
		*oracle
		oracleMeasured[*models.Workload]
	}
	oracleEvent struct{ *oracle }
	// oracleMeasured puts each question about each object alone, and forgets the answer. That the answers are right is what package analytics
	// tests; here it is that those put together are the same.
	oracleMeasured[T models.Measured] struct{ o *oracle }
)

// put notes the question; several aliases of one question about the same objects are one, and those of one group are put together.
func put[Q grouped, V any](ctx context.Context, o *oracle, of models.Measured, sort string, question Q, err error,
	ask func(context.Context, []models.Subject, []Q) (map[models.Subject][]V, error)) (V, error) {
	var none V
	if err != nil {
		return none, err
	}
	o.askTogether(ctx, of, sort, question)
	answers, err := ask(ctx, []models.Subject{of.Subject()}, []Q{question})
	if err != nil {
		return none, err
	}
	return answers[of.Subject()][0], nil
}

// grouped is a question that can be put with others.
type grouped interface{ Group() string }

// group is what fields of one object ask together.
type group struct {
	object, rows string // the object's path, and that by which its rows are the same as those of another path
	sort         string
	ofThreads    bool
}

func (o *oracle) askTogether(ctx context.Context, of models.Measured, sort string, question grouped) {
	field := graphql.GetFieldContext(ctx)
	asked := group{pathOf(field.Parent) + field.Object, rowsPath(ctx), sort, of.Subject().Kind == models.SubjectThread}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.together[asked] = append(o.together[asked], question)
}

// count adds what was asked together to the questions. The same rows by two paths share an answer when they were asked for the same.
func (o *oracle) count() {
	for group, questions := range o.together {
		var sums []analytics.Summed
		for _, question := range questions {
			if sum, ok := question.(analytics.Summed); ok {
				sums = append(sums, sum)
			}
		}
		queries := map[string]map[string]bool{} // the questions by their group
		for _, question := range questions {
			if sum, ok := question.(analytics.Summed); ok {
				question = analytics.Beside(sum, sums)
			}
			if queries[question.Group()] == nil {
				queries[question.Group()] = map[string]bool{}
			}
			queries[question.Group()][fmt.Sprintf("%T %+v", question, question)] = true
		}
		for _, query := range queries {
			path := group.rows + group.sort + strings.Join(slices.Sorted(maps.Keys(query)), " ")
			o.questions[path] = true
			if group.ofThreads {
				o.relations[path] = true // their runs
			}
		}
	}
}

func (o *oracle) ask(ctx context.Context, of models.Measured, question string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	path := rowsPath(ctx) + question
	o.questions[path] = true
	if of.Subject().Kind == models.SubjectThread {
		o.relations[path] = true // its runs
	}
}

// rowsPath is the path of the object that ctx's field belongs to, where a connection's nodes are the same by either way.
func rowsPath(ctx context.Context) string {
	path := ""
	for field := graphql.GetFieldContext(ctx).Parent; field != nil; field = field.Parent {
		switch {
		case field.Field.Field == nil, strings.HasSuffix(field.Object, "Edge"):
		case strings.HasSuffix(field.Object, "Connection"):
			path = field.Object + ".rows/" + path
		default:
			path = field.Object + "." + field.Field.Alias + "/" + path
		}
	}
	return path
}

func wants(ctx context.Context, names ...string) bool {
	for _, field := range graphql.CollectFieldsCtx(ctx, []string{graphql.GetFieldContext(ctx).Field.Definition.Type.Name()}) {
		for _, name := range names {
			if field.Name == name {
				return true
			}
		}
	}
	return false
}

func (m oracleMeasured[T]) Metrics(ctx context.Context, of T, span models.TimeRange, names []string) ([]*models.MetricSummary, error) {
	question, err := analytics.NewMetrics(span, names, wants(ctx, "p50", "p90", "p95", "p99"), wants(ctx, "previous"))
	sums, err := put(ctx, m.o, of, "sums", analytics.Summed(question), err, m.o.analytics.Sums)
	if err != nil {
		return nil, err
	}
	return question.Of(sums), nil
}

func (m oracleMeasured[T]) MetricSeries(ctx context.Context, of T, name string, span models.TimeRange, step models.TimeStep, zone, unit *string) ([]*models.MetricPoint, error) {
	question, err := analytics.NewSeries(name, unit, span, step, zone, wants(ctx, "p50", "p90", "p95", "p99"))
	sums, err := put(ctx, m.o, of, "sums", analytics.Summed(question), err, m.o.analytics.Sums)
	if err != nil {
		return nil, err
	}
	return question.Of(sums), nil
}

func (m oracleMeasured[T]) Breakdown(ctx context.Context, of T, metric, by string, span models.TimeRange, top *int, unit *string) ([]*models.MetricSlice, error) {
	question, err := analytics.NewBreakdown(metric, unit, by, span, top)
	return put(ctx, m.o, of, "breakdowns", question, err, m.o.analytics.Breakdowns)
}

func (m oracleMeasured[T]) Histogram(ctx context.Context, of T, metric string, span models.TimeRange, buckets *int, unit *string) ([]*models.HistogramBucket, error) {
	question, err := analytics.NewHistogram(metric, unit, span, buckets)
	return put(ctx, m.o, of, "histograms", question, err, m.o.analytics.Histograms)
}

func (m oracleMeasured[T]) Usage(ctx context.Context, of T, span models.TimeRange) (*models.Usage, error) {
	question, err := analytics.NewUsage(span)
	sums, err := put(ctx, m.o, of, "sums", analytics.Summed(question), err, m.o.analytics.Sums)
	if err != nil {
		return nil, err
	}
	return question.Of(sums), nil
}

func (m oracleMeasured[T]) Activity(ctx context.Context, of T, span models.TimeRange) ([]*models.ActivityDay, error) {
	question, err := analytics.NewActivity(span)
	if err != nil {
		return nil, err
	}
	m.o.ask(ctx, of, fmt.Sprintf("activity %+v", question))
	answers, err := m.o.analytics.Activity(ctx, []models.Subject{of.Subject()}, question)
	return answers[of.Subject()], err
}

func (m oracleMeasured[T]) TopWorkloads(ctx context.Context, of T, metric string, span models.TimeRange, first *int, unit *string) ([]*models.Workload, error) {
	question, err := analytics.NewTopWorkloads(metric, unit, span, first)
	values, err := put(ctx, m.o, of, "top workloads", question, err, m.o.analytics.TopWorkloads)
	workloads := make([]*models.Workload, len(values))
	for i := range values {
		workloads[i] = &values[i]
	}
	if err != nil {
		return nil, err
	}
	return workloads, nil
}

func (m oracleMeasured[T]) RecentWorkloads(ctx context.Context, of T, first *int, after *string, last *int, before *string) (*models.WorkloadConnection, error) {
	page, err := models.NewPage(models.PageArguments{First: first, After: after, Last: last, Before: before}, models.RecentWorkloads)
	if err != nil {
		return nil, err
	}
	return loaders.Root(ctx, page, func(page models.Page) ([]*models.Workload, error) {
		m.o.ask(ctx, of, responsePath(ctx))
		return m.o.analytics.RecentWorkloads(ctx, []models.Subject{of.Subject()}, page)
	}, func(ctx context.Context) (int, error) {
		m.o.ask(ctx, of, responsePath(ctx)+"count")
		counts, err := m.o.analytics.CountRecentWorkloads(ctx, []models.Subject{of.Subject()})
		return counts[of.Subject()], err
	})
}

func (m oracleMeasured[T]) Events(ctx context.Context, of T, first *int, after *string, last *int, before *string, filter *models.WorkloadEventFilter) (*models.WorkloadEventConnection, error) {
	page, err := models.NewPage(models.PageArguments{First: first, After: after, Last: last, Before: before}, models.LatestEvents)
	if err != nil {
		return nil, err
	}
	question, err := analytics.NewEvents(page, filter)
	if err != nil {
		return nil, err
	}
	return loaders.Root(ctx, page, func(page models.Page) ([]*models.WorkloadEvent, error) {
		m.o.ask(ctx, of, responsePath(ctx))
		return m.o.analytics.Events(ctx, []models.Subject{of.Subject()}, question)
	}, func(ctx context.Context) (int, error) {
		m.o.ask(ctx, of, responsePath(ctx)+"count")
		counts, err := m.o.analytics.CountEvents(ctx, []models.Subject{of.Subject()}, question)
		return counts[of.Subject()], err
	})
}

func (o oracleQuery) Platform(ctx context.Context) (*models.Platform, error) {
	if viewer, err := models.ViewerFrom(ctx); err != nil || !viewer.Superuser {
		return nil, models.Errorf(models.Forbidden, "only superusers may ask for this")
	}
	return &models.Platform{}, nil
}

func (o oraclePlatform) ActiveUsers(ctx context.Context, of *models.Platform, span models.TimeRange, step models.TimeStep) ([]*models.ActiveUsers, error) {
	question, err := analytics.NewActiveUsers(span, step)
	if err != nil {
		return nil, err
	}
	o.ask(ctx, of, responsePath(ctx))
	return o.analytics.ActiveUsers(ctx, question)
}

func (o oracleQuery) Workload(ctx context.Context, id string) (*models.Workload, error) {
	parsed, err := models.ParseIDOf(models.KindWorkload, id)
	if err != nil {
		return nil, err
	}
	w, asked := o.workload(ctx, parsed)
	if asked {
		o.ask(ctx, &models.Platform{}, responsePath(ctx))
	}
	if w == nil {
		return nil, models.Errorf(models.NotFound, "no such Workload")
	}
	return w, nil
}

// workload finds one in the events. Nobody asks ClickHouse about another tenant's.
func (o *oracle) workload(ctx context.Context, id models.GlobalID) (w *models.Workload, asked bool) {
	user, workload, err := models.ParseWorkloadKey(id.Key)
	if err != nil || !sees(ctx, user) {
		return nil, false
	}
	_, ok := find(o.events, func(e metricEvent) bool { return e.user == user && e.workload == workload })
	if !ok {
		return nil, true
	}
	return &models.Workload{UserID: user, WorkloadID: workload}, true
}

func (o oracleWorkload) User(ctx context.Context, w *models.Workload) (*models.User, error) {
	o.note(ctx, "")
	return o.user(ctx, w.UserID), nil
}

func (o oracleWorkload) Run(ctx context.Context, w *models.Workload) (*models.Run, error) {
	id, err := uuid.Parse(w.WorkloadID)
	if err != nil {
		return nil, nil
	}
	o.note(ctx, "")
	if run := o.run(ctx, id); run != nil && run.UserID == w.UserID {
		return run, nil
	}
	return nil, nil
}

func (o oracleWorkload) recency(ctx context.Context, w *models.Workload) (*models.WorkloadRecency, error) {
	o.ask(ctx, w, "recency")
	found, err := o.analytics.Recency(ctx, []models.Subject{w.Subject()})
	return found[w.Subject()], err
}

func (o oracleWorkload) LastSeen(ctx context.Context, w *models.Workload) (*time.Time, error) {
	if !w.LastSeen.IsZero() {
		return &w.LastSeen, nil
	}
	recency, err := o.recency(ctx, w)
	if recency == nil {
		return nil, err
	}
	return &recency.LastSeen, nil
}

func (o oracleWorkload) EventCount(ctx context.Context, w *models.Workload) (*int64, error) {
	recency, err := o.recency(ctx, w)
	if recency == nil {
		return nil, err
	}
	return &recency.EventCount, nil
}

func (o oracleWorkload) UniqueEventTypes(ctx context.Context, w *models.Workload) (*int, error) {
	recency, err := o.recency(ctx, w)
	if recency == nil {
		return nil, err
	}
	return &recency.UniqueEventTypes, nil
}

func (o oracleEvent) Workload(_ context.Context, e *models.WorkloadEvent) (*models.Workload, error) {
	return &models.Workload{UserID: e.UserID, WorkloadID: e.WorkloadID}, nil
}
