package resolvers

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
)

// The fields of the interface Measured, the same for every type that implements it.

// answer puts a question about the objects of one level, as one of several that are put together.
func answer[Q, V any](ctx context.Context, r *Resolver, of models.Measured, together func() (questions []Q, place int),
	ask func(context.Context, []models.Subject, []Q) (map[models.Subject][]V, error)) (V, error) {
	together = sync.OnceValues(together) // for one object of the level: the others only wait for the answer
	return loaders.Answer(ctx, r.Loaders, of.Cohort(), of.Subject(), func() any {
		questions, _ := together()
		return questions
	}, func(batch context.Context, subjects []models.Subject) (map[models.Subject][]V, error) {
		questions, _ := together()
		return ask(batch, subjects, questions)
	}, func(answers []V) V {
		_, place := together()
		return answers[place]
	})
}

// itself is the part of an answer that is to one question alone.
func itself[V any](answer V) V { return answer }

// sums are what metrics, metricSeries and usage are made of.
func (r *Resolver) sums(ctx context.Context, of models.Measured, question analytics.Summed) (analytics.Sums, error) {
	return answer(ctx, r, of, func() ([]analytics.Summed, int) {
		all := summedBeside(ctx)
		asked := make([]analytics.Summed, len(all))
		for i, other := range all {
			asked[i] = analytics.Beside(other, all)
		}
		return together(analytics.Beside(question, all), asked)
	}, r.Analytics.Sums)
}

func summedBeside(ctx context.Context) []analytics.Summed {
	var all []analytics.Summed
	for _, f := range fieldsBeside(ctx) {
		var other analytics.Summed
		var err error
		switch f.field.Name {
		case "metrics":
			other, err = newMetrics(f.with.Range, f.with.Names, f.selected(ctx))
		case "metricSeries":
			other, err = newSeries(f.with.Name, f.with.Range, f.with.Step, f.with.TimeZone, f.with.Unit, f.selected(ctx))
		case "usage":
			other, err = analytics.NewUsage(f.with.Range)
		default:
			continue
		}
		if err == nil {
			all = append(all, other)
		}
	}
	return all
}

func (r *Resolver) metrics(ctx context.Context, of models.Measured, span models.TimeRange, names []string) ([]*models.MetricSummary, error) {
	question, err := newMetrics(span, names, selected(ctx))
	if err != nil {
		return nil, err
	}
	sums, err := r.sums(ctx, of, question)
	if err != nil {
		return nil, err
	}
	return question.Of(sums), nil
}

func newMetrics(span models.TimeRange, names, selected []string) (analytics.Metrics, error) {
	return analytics.NewMetrics(span, names, hasPercentile(selected), slices.Contains(selected, "previous"))
}

func (r *Resolver) metricSeries(ctx context.Context, of models.Measured, name string, span models.TimeRange, step models.TimeStep, timeZone, unit *string) ([]*models.MetricPoint, error) {
	question, err := newSeries(name, span, step, timeZone, unit, selected(ctx))
	if err != nil {
		return nil, err
	}
	sums, err := r.sums(ctx, of, question)
	if err != nil {
		return nil, err
	}
	return question.Of(sums), nil
}

func newSeries(name string, span models.TimeRange, step models.TimeStep, timeZone, unit *string, selected []string) (analytics.Series, error) {
	return analytics.NewSeries(name, unit, span, step, timeZone, hasPercentile(selected))
}

// hasPercentile tells whether the operation wants what is costly to merge.
func hasPercentile(selected []string) bool {
	return slices.ContainsFunc(selected, func(field string) bool { return slices.Contains([]string{"p50", "p90", "p95", "p99"}, field) })
}

func (r *Resolver) usage(ctx context.Context, of models.Measured, span models.TimeRange) (*models.Usage, error) {
	question, err := analytics.NewUsage(span)
	if err != nil {
		return nil, err
	}
	sums, err := r.sums(ctx, of, question)
	if err != nil {
		return nil, err
	}
	return question.Of(sums), nil
}

// allBeside are the questions that the fields of a name ask of the same object.
func allBeside[Q any](ctx context.Context, name string, ask func(arguments) (Q, error)) []Q {
	var all []Q
	for _, f := range fieldsBeside(ctx) {
		if f.field.Name != name {
			continue
		}
		if question, err := ask(f.with); err == nil {
			all = append(all, question)
		}
	}
	return all
}

func (r *Resolver) breakdown(ctx context.Context, of models.Measured, metric, by string, span models.TimeRange, top *int, unit *string) ([]*models.MetricSlice, error) {
	question, err := analytics.NewBreakdown(metric, unit, by, span, top)
	if err != nil {
		return nil, err
	}
	return answer(ctx, r, of, func() ([]analytics.Breakdown, int) {
		return together(question, allBeside(ctx, "breakdown", func(with arguments) (analytics.Breakdown, error) {
			return analytics.NewBreakdown(with.Metric, with.Unit, with.By, with.Range, with.Top)
		}))
	}, r.Analytics.Breakdowns)
}

func (r *Resolver) histogram(ctx context.Context, of models.Measured, metric string, span models.TimeRange, buckets *int, unit *string) ([]*models.HistogramBucket, error) {
	question, err := analytics.NewHistogram(metric, unit, span, buckets)
	if err != nil {
		return nil, err
	}
	return answer(ctx, r, of, func() ([]analytics.Histogram, int) {
		return together(question, allBeside(ctx, "histogram", func(with arguments) (analytics.Histogram, error) {
			return analytics.NewHistogram(with.Metric, with.Unit, with.Range, with.Buckets)
		}))
	}, r.Analytics.Histograms)
}

func (r *Resolver) activity(ctx context.Context, of models.Measured, span models.TimeRange) ([]*models.ActivityDay, error) {
	question, err := analytics.NewActivity(span)
	if err != nil {
		return nil, err
	}
	return loaders.Answer(ctx, r.Loaders, of.Cohort(), of.Subject(), func() any { return question }, func(batch context.Context, subjects []models.Subject) (map[models.Subject][]*models.ActivityDay, error) {
		return r.Analytics.Activity(batch, subjects, question)
	}, itself)
}

func (r *Resolver) topWorkloads(ctx context.Context, of models.Measured, metric string, span models.TimeRange, first *int, unit *string) ([]*models.Workload, error) {
	question, err := analytics.NewTopWorkloads(metric, unit, span, first)
	if err != nil {
		return nil, err
	}
	together := sync.OnceValues(func() ([]analytics.TopWorkloads, int) {
		return together(question, allBeside(ctx, "topWorkloads", func(with arguments) (analytics.TopWorkloads, error) {
			return analytics.NewTopWorkloads(with.Metric, with.Unit, with.Range, with.First)
		}))
	})
	return loaders.Answers(ctx, r.Loaders, of.Cohort(), of.Subject(), func() any {
		questions, _ := together()
		return questions
	}, func(batch context.Context, subjects []models.Subject) (map[models.Subject][][]models.Workload, error) {
		questions, _ := together()
		return r.Analytics.TopWorkloads(batch, subjects, questions)
	}, func(lists [][]models.Workload) []*models.Workload {
		_, place := together()
		workloads := make([]*models.Workload, len(lists[place]))
		for i, workload := range lists[place] {
			workloads[i] = &workload
		}
		return workloads
	})
}

func (r *Resolver) recentWorkloads(ctx context.Context, of models.Measured, args models.PageArguments) (*models.Connection[*models.Workload], error) {
	page, err := models.NewPage(args, models.RecentWorkloads)
	if err != nil {
		return nil, err
	}
	return loaders.Page(ctx, r.Loaders, of.Cohort(), of.Subject(), page, loaders.List[models.Subject, *models.Workload]{
		Rows: func(batch context.Context, subjects []models.Subject, page models.Page) ([]*models.Workload, error) {
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
		Rows: func(batch context.Context, subjects []models.Subject, _ models.Page) ([]*models.WorkloadEvent, error) {
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
	return loaders.Answer(ctx, r.Loaders, w.Cohort(), w.Subject(), func() any { return "recency" }, r.Analytics.Recency, itself)
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
