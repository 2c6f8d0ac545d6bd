package resolvers

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
)

// The fields of the interface Measured, the same for every type that implements it.

// answer puts a question about the objects of one level.
func answer[Q, V any](ctx context.Context, r *Resolver, of models.Measured, question Q, err error,
	ask func(context.Context, []models.Subject, Q) (map[models.Subject]V, error)) (V, error) {
	if err != nil {
		var none V
		return none, err
	}
	return loaders.Answer(ctx, r.Loaders, of.Cohort(), of.Subject(), question, func(batch context.Context, subjects []models.Subject) (map[models.Subject]V, error) {
		return ask(batch, subjects, question)
	})
}

func (r *Resolver) metrics(ctx context.Context, of models.Measured, span models.TimeRange, names []string) ([]*models.MetricSummary, error) {
	question, err := analytics.NewMetrics(span, names, selectsPercentile(ctx), slices.Contains(selected(ctx), "previous"))
	return answer(ctx, r, of, question, err, r.Analytics.Metrics)
}

func (r *Resolver) metricSeries(ctx context.Context, of models.Measured, name string, span models.TimeRange, step models.TimeStep, timeZone, unit *string) ([]*models.MetricPoint, error) {
	question, err := analytics.NewSeries(name, unit, span, step, timeZone, selectsPercentile(ctx))
	return answer(ctx, r, of, question, err, r.Analytics.Series)
}

// selectsPercentile tells whether the operation wants what is costly to merge.
func selectsPercentile(ctx context.Context) bool {
	return slices.ContainsFunc(selected(ctx), func(field string) bool { return slices.Contains([]string{"p50", "p90", "p95", "p99"}, field) })
}

func (r *Resolver) breakdown(ctx context.Context, of models.Measured, metric, by string, span models.TimeRange, top *int, unit *string) ([]*models.MetricSlice, error) {
	question, err := analytics.NewBreakdown(metric, unit, by, span, top)
	return answer(ctx, r, of, question, err, r.Analytics.Breakdown)
}

func (r *Resolver) histogram(ctx context.Context, of models.Measured, metric string, span models.TimeRange, buckets *int, unit *string) ([]*models.HistogramBucket, error) {
	question, err := analytics.NewHistogram(metric, unit, span, buckets)
	return answer(ctx, r, of, question, err, r.Analytics.Histogram)
}

func (r *Resolver) usage(ctx context.Context, of models.Measured, span models.TimeRange) (*models.Usage, error) {
	question, err := analytics.NewUsage(span)
	return answer(ctx, r, of, question, err, r.Analytics.Usage)
}

func (r *Resolver) activity(ctx context.Context, of models.Measured, span models.TimeRange) ([]*models.ActivityDay, error) {
	question, err := analytics.NewActivity(span)
	return answer(ctx, r, of, question, err, r.Analytics.Activity)
}

func (r *Resolver) topWorkloads(ctx context.Context, of models.Measured, metric string, span models.TimeRange, first *int, unit *string) ([]*models.Workload, error) {
	question, err := analytics.NewTopWorkloads(metric, unit, span, first)
	if err != nil {
		return nil, err
	}
	return loaders.Answers(ctx, r.Loaders, of.Cohort(), of.Subject(), question, func(batch context.Context, subjects []models.Subject) (map[models.Subject][]models.Workload, error) {
		return r.Analytics.TopWorkloads(batch, subjects, question)
	}, func(w models.Workload) *models.Workload { return &w })
}

func (r *Resolver) recentWorkloads(ctx context.Context, of models.Measured, args models.PageArguments) (*models.Connection[*models.Workload], error) {
	page, err := models.NewPage(args, models.RecentWorkloads)
	if err != nil {
		return nil, err
	}
	return loaders.Page(ctx, r.Loaders, of.Cohort(), of.Subject(), page, loaders.List[models.Subject, *models.Workload]{
		Rows: func(batch context.Context, subjects []models.Subject) ([]*models.Workload, error) {
			return r.Analytics.RecentWorkloads(batch, subjects, page)
		},
		Parent: func(w *models.Workload) models.Subject { return w.Of },
		Count:  r.Analytics.CountRecentWorkloads,
	})
}

func (r *Resolver) events(ctx context.Context, of models.Measured, args models.PageArguments, filter *models.WorkloadEventFilter) (*models.Connection[*models.WorkloadEvent], error) {
	page, err := models.NewPage(args, models.LatestEvents)
	if err != nil {
		return nil, err
	}
	question, err := analytics.NewEvents(page, filter)
	if err != nil {
		return nil, err
	}
	return loaders.Page(ctx, r.Loaders, of.Cohort(), of.Subject(), page, loaders.List[models.Subject, *models.WorkloadEvent]{
		Rows: func(batch context.Context, subjects []models.Subject) ([]*models.WorkloadEvent, error) {
			return r.Analytics.Events(batch, subjects, question)
		},
		Parent: func(e *models.WorkloadEvent) models.Subject { return e.Of },
		Count: func(batch context.Context, subjects []models.Subject) (map[models.Subject]int, error) {
			return r.Analytics.CountEvents(batch, subjects, question)
		},
	})
}

// recency asks once for all fields that it answers.
func (r *Resolver) recency(ctx context.Context, w *models.Workload) (*models.WorkloadRecency, error) {
	return loaders.Answer(ctx, r.Loaders, w.Cohort(), w.Subject(), "recency", r.Analytics.Recency)
}

// runOf is the run that a workload is. The id alone does not make it one: another tenant's run may have the same.
func (r *Resolver) runOf(ctx context.Context, w *models.Workload) (*models.Run, error) {
	var key *models.Subject
	if _, err := uuid.Parse(w.WorkloadID); err == nil && len(w.WorkloadID) == len(uuid.Nil.String()) && strings.ToLower(w.WorkloadID) == w.WorkloadID {
		subject := w.Subject()
		key = &subject
	}
	run, err := loaders.One(ctx, r.Loaders, w.Cohort(), key, func(batch context.Context, subjects []models.Subject) ([]*models.Run, error) {
		ids := make([]uuid.UUID, len(subjects))
		for i, subject := range subjects {
			ids[i] = uuid.MustParse(subject.ID)
		}
		runs, err := r.Store.Runs(batch, ids, selected(ctx))
		return slices.DeleteFunc(runs, func(run *models.Run) bool { return !slices.Contains(subjects, run.Subject()) }), err
	}, (*models.Run).Subject)
	if models.CodeOf(err) == models.NotFound {
		return nil, nil
	}
	return run, err
}

// workloadOf makes the workload of an event; no database is asked.
func (r *Resolver) workloadOf(ctx context.Context, e *models.WorkloadEvent) (*models.Workload, error) {
	subject := models.Subject{Kind: models.SubjectWorkload, UserID: e.UserID, ID: e.WorkloadID}
	return loaders.One(ctx, r.Loaders, e.Cohort(), &subject, func(_ context.Context, subjects []models.Subject) ([]*models.Workload, error) {
		workloads := make([]*models.Workload, len(subjects))
		for i, subject := range subjects {
			workloads[i] = &models.Workload{UserID: subject.UserID, WorkloadID: subject.ID}
		}
		return workloads, nil
	}, (*models.Workload).Subject)
}

// workload reads one by its global id. It fails with NotFound alike for what is absent and for what is not the viewer's to see.
func (r *Resolver) workload(ctx context.Context, id string) (*models.Workload, error) {
	parsed, err := models.ParseIDOf(models.KindWorkload, id)
	if err != nil {
		return nil, err
	}
	subject, err := workloadSubject(parsed)
	if err != nil {
		return nil, err
	}
	rows, err := r.Analytics.Workloads(ctx, []models.Subject{subject})
	return single(ctx, rows, err, models.KindWorkload)
}

func workloadSubject(id models.GlobalID) (models.Subject, error) {
	user, workload, err := models.ParseWorkloadKey(id.Key)
	return models.Subject{Kind: models.SubjectWorkload, UserID: user, ID: workload}, err
}
