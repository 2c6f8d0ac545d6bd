package analytics_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

// happened is an event as the oracle knows it.
type happened struct {
	at             time.Time
	user           int
	workload, kind string
	values         []models.EventMetric
	dimensions     map[string]string
}

// measured is one value that the aggregates are to know.
type measured struct {
	models.EventMetric
	event *happened
}

// world answers in plain Go, from a list of events, what the questions ask of ClickHouse.
type world struct {
	analytics *analytics.Analytics
	now       time.Time
	events    []happened
	runs      map[uuid.UUID]uuid.UUID // run → thread
	tenants   map[uuid.UUID]int       // of threads
	subjects  map[models.SubjectKind][]models.Subject
}

// A check asks one random question about subjects of one kind and compares the answer with the events.
var checks = []struct {
	name string
	run  func(t *testing.T, w *world, q asking)
}{
	{"Metrics", checkMetrics},
	{"Series", checkSeries},
	{"Histogram", checkHistogram},
	{"Usage", checkUsage},
	{"Breakdown", checkBreakdown},
	{"TopWorkloads", checkTopWorkloads},
	{"Events", checkEvents},
	{"CountEvents", checkEventCounts},
	{"RecentWorkloads", checkRecentWorkloads},
	{"CountRecentWorkloads", checkRecentWorkloadCounts},
}

// asking is who asks about whom.
type asking struct {
	*rand.Rand
	ctx      context.Context
	viewer   models.Viewer
	kind     models.SubjectKind
	subjects []models.Subject
}

// sees is whether the viewer may know of a subject.
func (q asking) sees(subject models.Subject) bool {
	return q.viewer.Superuser || subject.UserID == q.viewer.UserID && subject.Kind != models.SubjectPlatform
}

const questionsOfEach = 60

func TestEveryAnswerIsWhatTheEventsSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			t.Parallel()
			for n := range questionsOfEach {
				q := asking{Rand: rand.New(rand.NewPCG(uint64(i), uint64(n)))}
				q.viewer = pick(q.Rand, []models.Viewer{{UserID: 1}, {UserID: 2}, {UserID: 9, Superuser: true}, {UserID: 9, Superuser: true}})
				q.kind = pick(q.Rand, []models.SubjectKind{models.SubjectUser, models.SubjectThread, models.SubjectWorkload, models.SubjectPlatform})
				if q.kind == models.SubjectPlatform && !q.viewer.Superuser {
					q.kind = models.SubjectUser
				}
				tally := new(models.Tally)
				q.ctx = models.WithTally(models.WithViewer(t.Context(), q.viewer), tally)
				all := w.subjects[q.kind]
				for _, at := range q.Perm(len(all))[:1+q.IntN(min(4, len(all)))] {
					q.subjects = append(q.subjects, all[at])
				}
				name := fmt.Sprintf("question %d, %+v about %+v", n, q.viewer, q.subjects)
				t.Run(name, func(t *testing.T) { check.run(t, w, q) })
				if slices.ContainsFunc(q.subjects, q.sees) {
					require.EqualValues(t, 1, tally.Questions.Load(), name)
				} else {
					require.EqualValues(t, 0, tally.Questions.Load(), name)
				}
			}
		})
	}
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// newWorld makes events of the last weeks, and of a year before that, of which only the aggregates are left.
func newWorld(t *testing.T) *world {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 14))
	db := testdb.NewClickHouse(t)
	w := &world{now: time.Now().UTC().Truncate(time.Millisecond), runs: map[uuid.UUID]uuid.UUID{}, tenants: map[uuid.UUID]int{}}
	w.subjects = map[models.SubjectKind][]models.Subject{models.SubjectPlatform: {platform}}
	for user := 1; user <= 4; user++ { // nothing is known of the last
		w.subjects[models.SubjectUser] = append(w.subjects[models.SubjectUser], models.Subject{Kind: models.SubjectUser, UserID: user})
	}
	known := func(kind models.SubjectKind, user int, id string) {
		w.subjects[kind] = append(w.subjects[kind], models.Subject{Kind: kind, UserID: user, ID: id})
	}
	threads := []string{"", "no thread's id"}
	workloads := []string{`it's "quoted" \ and	tabbed`, "two\nlines", "café 🦊", "shared", "%_{users}"}
	for i := range 7 {
		thread, user := uuid.UUID{0: byte(i), 15: 1}, 1+i%3
		w.tenants[thread] = user
		threads = append(threads, thread.String())
		known(models.SubjectThread, user, thread.String())
		for n := range i % 4 {
			run := uuid.UUID{0: byte(i), 1: byte(n), 15: 2}
			w.runs[run] = thread
			workloads = append(workloads, run.String())
		}
	}
	for _, workload := range workloads {
		known(models.SubjectWorkload, 1, workload)
		known(models.SubjectWorkload, 2, workload)
	}
	names := []string{"latency_ms", "latency_ms", "errors", "tokens_input", "tokens_output", "cost_usd", `o'dd\`}
	for i := range 6000 {
		e := happened{user: 1 + r.IntN(3), workload: pick(r, workloads), kind: "metric", dimensions: map[string]string{}}
		switch {
		case i%5 == 0:
			e.at = w.now.Add(-oldest + time.Duration(r.Int64N(int64(oldest-old)))) // told by aggregates only
		case i%5 == 1:
			e.at = w.now.Truncate(day).Add(-8 * day).Add(time.Duration(r.IntN(3*96)) * 15 * time.Minute).Add(time.Duration(r.IntN(3)-1) * time.Millisecond)
		case i%5 == 2:
			e.at = w.now.Add(-7*day + time.Duration(r.Int64N(int64(3*time.Hour))))
		default:
			e.at = w.now.Add(-time.Duration(r.Int64N(int64(recentDays))))
		}
		e.at = e.at.Truncate(time.Millisecond)
		if r.IntN(10) == 0 {
			e.kind = "error"
		}
		if thread := pick(r, threads); thread != "" {
			e.dimensions["thread_id"] = thread
		}
		for key, values := range map[string][]string{"model": {"gpt", "cl'aude", ""}, "tool": {"search", "sql"}, "status": {"ok", "error"}, "region": {"eu", "us"}} {
			if r.IntN(4) > 0 {
				e.dimensions[key] = pick(r, values)
			}
		}
		for range r.IntN(5) {
			value := float64(r.IntN(1<<r.IntN(20)+1)-r.IntN(64)) / 64
			switch r.IntN(30) {
			case 0:
				value = pick(r, []float64{math.NaN(), math.Inf(1), math.Inf(-1)})
			case 1:
				value = 0
			}
			e.values = append(e.values, models.EventMetric{Name: pick(r, names), Value: value, Unit: pick(r, []string{"", "ms", "ms", "s"})})
		}
		w.events = append(w.events, e)
	}
	clickhouse := db.ClickHouse(t)
	for i, batch := range slices.Collect(slices.Chunk(w.events, 1000)) {
		insertHappened(t, clickhouse, batch)
		if i%2 == 0 {
			for _, table := range []string{"workload_events", "aggregated_metrics", "metric_sums", "metric_bins", "metric_dimensions"} {
				_, err := clickhouse.Exec("OPTIMIZE TABLE " + table + " FINAL")
				require.NoError(t, err)
			}
		}
	}
	var err error
	w.analytics, err = analytics.Open(analytics.Config{URL: db.ClickHouseURL, Deadline: time.Minute, RunsOfThreads: w.runsOfThreads})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.analytics.Close() })
	return w
}

func insertHappened(t *testing.T, db *sql.DB, events []happened) {
	t.Helper()
	tx, err := db.Begin()
	require.NoError(t, err)
	batch, err := tx.Prepare("INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit, dimensions)")
	require.NoError(t, err)
	for _, e := range events {
		names, values, units := []string{}, []float64{}, []string{}
		for _, v := range e.values {
			names, values, units = append(names, v.Name), append(values, v.Value), append(units, v.Unit)
		}
		_, err := batch.Exec(e.at, uint32(e.user), e.workload, e.kind, names, values, units, e.dimensions)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// runsOfThreads is what PostgreSQL says under row-level security.
func (w *world) runsOfThreads(ctx context.Context, threads []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	viewer, err := models.ViewerFrom(ctx)
	found := map[uuid.UUID]uuid.UUID{}
	for run, thread := range w.runs {
		if slices.Contains(threads, thread) && (viewer.Superuser || w.tenants[thread] == viewer.UserID) {
			found[run] = thread
		}
	}
	return found, err
}

// is whether an event is a subject's.
func (w *world) is(e *happened, of models.Subject) bool {
	switch of.Kind {
	case models.SubjectPlatform:
		return true
	case models.SubjectUser:
		return e.user == of.UserID
	case models.SubjectWorkload:
		return e.user == of.UserID && e.workload == of.ID
	default:
		run, _ := uuid.Parse(e.workload)
		thread, isRun := w.runs[run]
		return e.user == of.UserID && (isRun && thread.String() == of.ID || e.dimensions["thread_id"] == of.ID)
	}
}

// happened are the events of a subject within a range, as far as the one who asks may know of them.
func (w *world) happened(q asking, of models.Subject, within models.TimeRange) []*happened {
	var found []*happened
	for i := range w.events {
		if e := &w.events[i]; q.sees(of) && w.is(e, of) && !e.at.Before(within.From) && e.at.Before(within.To) {
			found = append(found, e)
		}
	}
	return found
}

// measured are their values.
func (w *world) measured(q asking, of models.Subject, within models.TimeRange) []measured {
	var found []measured
	for _, e := range w.happened(q, of, within) {
		for _, v := range e.values {
			if e.kind == "metric" && !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0) {
				found = append(found, measured{v, e})
			}
		}
	}
	return found
}

// inMainUnit are the values of a metric in a unit, or in the one that most of them are in.
func inMainUnit(all []measured, metric string, unit *string) []measured {
	byUnit := map[string][]measured{}
	for _, v := range all {
		if v.Name == metric && (unit == nil || v.Unit == *unit) {
			byUnit[v.Unit] = append(byUnit[v.Unit], v)
		}
	}
	var best []measured
	for _, unit := range slices.Sorted(maps.Keys(byUnit)) {
		if len(byUnit[unit]) > len(best) {
			best = byUnit[unit]
		}
	}
	return best
}

const (
	recentDays = 40 * day // with what was before them, younger than events last
	old        = 100 * day
	oldest     = 340 * day
)

// recently is a range whose ends lie anywhere.
func (w *world) recently(q asking) models.TimeRange {
	begin := w.now.Add(-recentDays)
	anywhere := func(size time.Duration) time.Time {
		return begin.Add(time.Duration(q.Int64N(int64(recentDays)))).Truncate(size)
	}
	from, to := anywhere(time.Millisecond), anywhere(time.Millisecond)
	switch q.IntN(6) {
	case 0:
		for from = begin; !from.After(begin); from = pick(q.Rand, w.events).at { // of old events only aggregates are left
		}
		return span(from, from.Add(time.Millisecond))
	case 1:
		from, to = anywhere(15*time.Minute), anywhere(15*time.Minute)
	case 2:
		from, to = anywhere(day), anywhere(day)
	case 3:
		from = w.now.Add(-7*day + time.Duration(q.Int64N(int64(2*time.Hour))))
		return span(from, from.Add(time.Duration(1+q.Int64N(int64(time.Hour)))))
	case 4:
		from, to = begin, w.now.Add(time.Hour)
	}
	if from.After(to) {
		from, to = to, from
	}
	return span(from, to.Add(time.Minute))
}

// longAgo is a range of which only the aggregates know, between borders of hours.
func (w *world) longAgo(q asking) models.TimeRange {
	from := w.now.Add(-oldest + time.Duration(q.Int64N(int64(oldest-old-60*day)))).Truncate(time.Hour)
	return span(from, from.Add(time.Duration(1+q.IntN(59*24))*time.Hour))
}

func (w *world) span(q asking) models.TimeRange {
	if q.IntN(3) == 0 {
		return w.longAgo(q)
	}
	return w.recently(q)
}

// requirePercentile allows for the sketch: the value's rank is off by at most 1 % of the values, and one.
func requirePercentile(t *testing.T, values []float64, level, estimate float64) {
	t.Helper()
	slices.Sort(values)
	require.GreaterOrEqual(t, estimate, values[0])
	require.LessOrEqual(t, estimate, values[len(values)-1])
	n := float64(len(values))
	below, _ := slices.BinarySearch(values, estimate)
	upTo, _ := slices.BinarySearchFunc(values, estimate, func(v, e float64) int {
		if v <= e {
			return -1
		}
		return 1
	})
	allowed := 1 + 0.01*n
	require.LessOrEqual(t, float64(below)-allowed, level*n, "%v of %d values is too high: %v", estimate, len(values), level)
	require.GreaterOrEqual(t, float64(upTo)+allowed, level*n, "%v of %d values is too low: %v", estimate, len(values), level)
}

func total(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

// beside are up to three questions to put together with another.
func (w *world) beside(t *testing.T, q asking) []analytics.Summed {
	var questions []analytics.Summed
	for range q.IntN(4) {
		within := w.recently(q)
		metrics, err := analytics.NewMetrics(within, pick(q.Rand, [][]string{nil, {"absent"}, {"latency_ms"}}), q.IntN(2) == 0, q.IntN(2) == 0)
		require.NoError(t, err)
		series, err := analytics.NewSeries("latency_ms", nil, within, models.StepDay, nil, q.IntN(2) == 0)
		require.NoError(t, err)
		usage, err := analytics.NewUsage(within)
		require.NoError(t, err)
		questions = append(questions, pick(q.Rand, []analytics.Summed{metrics, series, usage}))
	}
	return questions
}

func checkMetrics(t *testing.T, w *world, q asking) {
	within := w.span(q)
	var names []string
	if q.IntN(2) == 0 {
		names = []string{"latency_ms", `o'dd\`, "absent"}
	}
	percentiles, previous := q.IntN(2) == 0, q.IntN(2) == 0
	question, err := analytics.NewMetrics(within, names, percentiles, previous)
	require.NoError(t, err)
	answers, err := w.analytics.Metrics(q.ctx, q.subjects, question, w.beside(t, q)...)
	require.NoError(t, err)
	before := span(within.From.Add(-within.To.Sub(within.From)), within.From)
	for _, subject := range q.subjects {
		byMetric := func(within models.TimeRange) map[[2]string][]float64 {
			values := map[[2]string][]float64{}
			for _, v := range w.measured(q, subject, within) {
				if names == nil || slices.Contains(names, v.Name) {
					values[[2]string{v.Name, v.Unit}] = append(values[[2]string{v.Name, v.Unit}], v.Value)
				}
			}
			return values
		}
		want, was := byMetric(within), byMetric(before)
		got := answers[subject]
		require.NotNil(t, got)
		require.Len(t, got, len(want), "%+v %+v", within, question)
		require.True(t, slices.IsSortedFunc(got, func(a, b *models.MetricSummary) int {
			return cmp.Or(strings.Compare(a.Metric, b.Metric), strings.Compare(a.Unit, b.Unit))
		}))
		for _, s := range got {
			values := want[[2]string{s.Metric, s.Unit}]
			require.NotEmpty(t, values)
			require.EqualValues(t, len(values), s.Count)
			require.Equal(t, []float64{total(values), total(values) / float64(len(values)), slices.Min(values), slices.Max(values)}, []float64{s.Total, s.Average, s.Min, s.Max})
			if percentiles {
				for level, estimate := range map[float64]float64{0.5: s.P50, 0.9: s.P90, 0.95: s.P95, 0.99: s.P99} {
					requirePercentile(t, values, level, estimate)
				}
			}
			if !previous {
				require.Nil(t, s.Previous)
				continue
			}
			earlier := was[[2]string{s.Metric, s.Unit}]
			require.WithinDuration(t, before.From, s.Previous.From, time.Millisecond)
			require.WithinDuration(t, before.To, s.Previous.To, time.Millisecond)
			wantPrevious := models.PreviousMetric{From: s.Previous.From, To: s.Previous.To, Count: int64(len(earlier)), Value: total(earlier)}
			if wantPrevious.Value != 0 {
				ratio := s.Total / wantPrevious.Value
				wantPrevious.Ratio = &ratio
			}
			require.Equal(t, wantPrevious, *s.Previous)
		}
	}
}

// stepOf names the step that a moment is in by what the clock and the calendar on the wall show.
func stepOf(t time.Time, step models.TimeStep) string {
	switch step {
	case models.StepFifteenMinutes:
		return t.Format("2006-01-02 15 ") + fmt.Sprint(t.Minute()/15) + t.Format(" -07:00")
	case models.StepHour:
		return t.Format("2006-01-02 15 -07:00")
	case models.StepDay:
		return t.Format(time.DateOnly)
	case models.StepWeek:
		return fmt.Sprint(t.ISOWeek())
	default:
		return t.Format("2006-01")
	}
}

func checkSeries(t *testing.T, w *world, q asking) {
	step := pick(q.Rand, []models.TimeStep{models.StepFifteenMinutes, models.StepHour, models.StepDay, models.StepWeek, models.StepMonth})
	name := pick(q.Rand, []string{"Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns", "America/New_York", "Europe/Berlin", "Pacific/Chatham", "UTC"})
	zone, err := time.LoadLocation(name)
	require.NoError(t, err)
	within := w.span(q)
	_, minutes := within.From.In(zone).Zone()
	if q.kind != models.SubjectUser && q.kind != models.SubjectPlatform && (minutes%3600 != 0 || name == "Australia/Lord_Howe" || step == models.StepFifteenMinutes) {
		within = w.recently(q) // older hours of workloads cannot be divided
	}
	if longest := map[models.TimeStep]time.Duration{models.StepFifteenMinutes: 10 * day, models.StepHour: 40 * day}[step]; longest > 0 && within.To.Sub(within.From) > longest {
		within.To = within.From.Add(longest)
	}
	var unit *string
	if q.IntN(2) == 0 {
		unit = &[]string{"ms"}[0]
	}
	percentiles := q.IntN(2) == 0
	question, err := analytics.NewSeries("latency_ms", unit, within, step, &name, percentiles)
	require.NoError(t, err)
	answers, err := w.analytics.Series(q.ctx, q.subjects, question, w.beside(t, q)...)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		values := inMainUnit(w.measured(q, subject, within), "latency_ms", unit)
		points := answers[subject]
		require.NotNil(t, points)
		if len(values) == 0 {
			require.Empty(t, points)
			continue
		}
		for i, p := range points {
			if i == 0 {
				require.WithinDuration(t, within.From, p.From, time.Millisecond)
			} else {
				require.Equal(t, points[i-1].To, p.From)
				require.NotEqual(t, stepOf(p.From.Add(-time.Millisecond).In(zone), step), stepOf(p.From.In(zone), step), "%v", p.From)
			}
			require.Equal(t, stepOf(p.From.In(zone), step), stepOf(p.To.Add(-time.Millisecond).In(zone), step), "%v %v", p.From, p.To)
			require.Equal(t, values[0].Unit, p.Unit)
			var in []float64
			for _, v := range values {
				if !v.event.at.Before(p.From) && v.event.at.Before(p.To) {
					in = append(in, v.Value)
				}
			}
			require.EqualValues(t, len(in), p.Count, "%v to %v", p.From, p.To)
			require.Equal(t, total(in), p.Total)
			if len(in) == 0 {
				require.Nil(t, p.Average)
				require.Nil(t, p.Min)
				require.Nil(t, p.P50)
				continue
			}
			require.Equal(t, []float64{total(in) / float64(len(in)), slices.Min(in), slices.Max(in)}, []float64{*p.Average, *p.Min, *p.Max})
			if percentiles {
				requirePercentile(t, in, 0.5, *p.P50)
				requirePercentile(t, in, 0.99, *p.P99)
			} else {
				require.Nil(t, p.P50)
			}
		}
		require.WithinDuration(t, within.To, points[len(points)-1].To, time.Millisecond)
	}
}

func checkHistogram(t *testing.T, w *world, q asking) {
	within := w.span(q)
	if q.kind != models.SubjectUser && q.kind != models.SubjectPlatform {
		within = w.recently(q) // read from events
	}
	buckets := 1 + q.IntN(40)
	question, err := analytics.NewHistogram("latency_ms", nil, within, &buckets)
	require.NoError(t, err)
	other, err := analytics.NewHistogram(`o'dd\`, nil, within, nil)
	require.NoError(t, err)
	answers, err := w.analytics.Histogram(q.ctx, q.subjects, question, other)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		values := inMainUnit(w.measured(q, subject, within), "latency_ms", nil)
		got := answers[subject]
		require.NotNil(t, got)
		require.LessOrEqual(t, len(got), buckets)
		counted := 0
		for i, b := range got {
			require.Equal(t, values[0].Unit, b.Unit)
			if i > 0 {
				require.Equal(t, got[i-1].To, b.From)
			}
			in := 0
			for _, v := range values {
				if v.Value >= b.From && (v.Value < b.To || v.Value == b.From && b.From == b.To) {
					in++
				}
			}
			require.EqualValues(t, in, b.Count, "%+v", *b)
			counted += in
		}
		require.Len(t, values, counted)
	}
}

func checkUsage(t *testing.T, w *world, q asking) {
	within := w.span(q)
	question, err := analytics.NewUsage(within)
	require.NoError(t, err)
	answers, err := w.analytics.Usage(q.ctx, q.subjects, question, w.beside(t, q)...)
	require.NoError(t, err)
	for _, subject := range q.subjects {
		totals := map[string]float64{}
		want := new(models.Usage)
		for _, v := range w.measured(q, subject, within) {
			totals[v.Name] += v.Value
			if v.Name == "latency_ms" {
				want.Requests++
			}
		}
		want.Errors, want.CostUsd = int64(math.Round(totals["errors"])), totals["cost_usd"]
		want.TokensInput, want.TokensOutput = int64(math.Round(totals["tokens_input"])), int64(math.Round(totals["tokens_output"]))
		if want.Requests > 0 {
			rate := totals["errors"] / float64(want.Requests)
			want.ErrorRate = &rate
		}
		if totals["latency_ms"] > 0 {
			speed := totals["tokens_output"] / (totals["latency_ms"] / 1000)
			want.TokensPerSecond = &speed
		}
		require.Equal(t, want, answers[subject])
	}
}
