package analytics_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

// asked puts a question about subjects and says for which of them there was an answer.
type asked func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error)

// every question of the package, by the name of the type that has its SQL: about what kind of subject it is asked here, how, and, unless it is
// bounded by itself, how it is made from a range.
var every = map[string]struct {
	kind   models.SubjectKind
	ask    asked
	ranged func(models.TimeRange) error
}{
	"Metrics": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewMetrics(everything(), nil, true, true)
		return withLists(a.Metrics(ctx, subjects, q))
	}, func(span models.TimeRange) error { _, err := analytics.NewMetrics(span, nil, false, false); return err }},
	"Series": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewSeries("latency_ms", nil, everything(), models.StepDay, nil, true)
		return withLists(a.Series(ctx, subjects, q))
	}, func(span models.TimeRange) error {
		_, err := analytics.NewSeries("latency_ms", nil, span, models.StepMonth, nil, false)
		return err
	}},
	"Histogram": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewHistogram("latency_ms", nil, everything(), nil)
		return withLists(a.Histogram(ctx, subjects, q))
	}, func(span models.TimeRange) error {
		_, err := analytics.NewHistogram("latency_ms", nil, span, nil)
		return err
	}},
	"Usage": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewUsage(everything())
		found, err := a.Usage(ctx, subjects, q)
		var with []models.Subject
		for subject, usage := range found {
			if usage.Requests > 0 {
				with = append(with, subject)
			}
		}
		return with, err
	}, func(span models.TimeRange) error { _, err := analytics.NewUsage(span); return err }},
	"Breakdown": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewBreakdown("latency_ms", nil, "model", everything(), nil)
		return withLists(a.Breakdown(ctx, subjects, q))
	}, func(span models.TimeRange) error {
		_, err := analytics.NewBreakdown("latency_ms", nil, "model", span, nil)
		return err
	}},
	"TopWorkloads": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewTopWorkloads("latency_ms", nil, everything(), nil)
		return withLists(a.TopWorkloads(ctx, subjects, q))
	}, func(span models.TimeRange) error {
		_, err := analytics.NewTopWorkloads("latency_ms", nil, span, nil)
		return err
	}},
	"Activity": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewActivity(everything())
		return withLists(a.Activity(ctx, subjects, q))
	}, func(span models.TimeRange) error { _, err := analytics.NewActivity(span); return err }},
	"ActiveUsers": {models.SubjectPlatform, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		q, _ := analytics.NewActiveUsers(everything(), models.StepDay)
		found, err := a.ActiveUsers(ctx, q)
		if len(found) == 0 {
			return nil, err
		}
		return subjects, err
	}, func(span models.TimeRange) error {
		_, err := analytics.NewActiveUsers(span, models.StepDay)
		return err
	}},
	"Events": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		page, _ := models.NewPage(models.PageArguments{}, models.LatestEvents)
		q, _ := analytics.NewEvents(page, nil)
		events, err := a.Events(ctx, subjects, q)
		var with []models.Subject
		for _, event := range events {
			with = append(with, event.Of)
		}
		return with, err
	}, nil},
	"eventCount": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		page, _ := models.NewPage(models.PageArguments{}, models.LatestEvents)
		q, _ := analytics.NewEvents(page, nil)
		return withCounts(a.CountEvents(ctx, subjects, q))
	}, nil},
	"recentPage": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		page, _ := models.NewPage(models.PageArguments{}, models.RecentWorkloads)
		return withWorkloads(a.RecentWorkloads(ctx, subjects, page))
	}, nil},
	"recentCount": {models.SubjectUser, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		return withCounts(a.CountRecentWorkloads(ctx, subjects))
	}, nil},
	"recency": {models.SubjectWorkload, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		found, err := a.Recency(ctx, subjects)
		var with []models.Subject
		for subject := range found {
			with = append(with, subject)
		}
		return with, err
	}, nil},
	"existing": {models.SubjectWorkload, func(ctx context.Context, a *analytics.Analytics, subjects []models.Subject) ([]models.Subject, error) {
		return withWorkloads(a.Workloads(ctx, subjects))
	}, nil},
}

// everything is a range that holds all events of these tests.
func everything() models.TimeRange { return span(lately.Add(-30*day), lately.Add(20*day)) }

func withLists[V any](found map[models.Subject][]V, err error) (with []models.Subject, _ error) {
	for subject, list := range found {
		if len(list) > 0 {
			with = append(with, subject)
		}
	}
	return with, err
}

func withCounts(found map[models.Subject]int, err error) (with []models.Subject, _ error) {
	for subject, n := range found {
		if n > 0 {
			with = append(with, subject)
		}
	}
	return with, err
}

func withWorkloads(found []*models.Workload, err error) (with []models.Subject, _ error) {
	for _, workload := range found {
		with = append(with, workload.Of)
	}
	return with, err
}

// A question that is missing above fails here, so that none is forgotten below.
func TestEveryQuestionIsKnown(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file.Name(), nil, 0)
		require.NoError(t, err)
		for _, declared := range parsed.Decls {
			method, ok := declared.(*ast.FuncDecl)
			if !ok || method.Recv == nil || method.Name.Name != "SQL" {
				continue
			}
			name, ok := method.Recv.List[0].Type.(*ast.Ident)
			require.True(t, ok, "a question is a value: its text is a key")
			found = append(found, name.Name)
		}
	}
	var known []string
	for name := range every {
		known = append(known, name)
	}
	require.ElementsMatch(t, known, found)
}

func TestEveryQuestionHasARange(t *testing.T) {
	t.Parallel()
	bounded := []string{"Events", "eventCount", "recentPage", "recentCount", "recency", "existing"} // by the retention of events, and by their subjects
	for name, question := range every {
		if question.ranged == nil {
			require.Contains(t, bounded, name)
			continue
		}
		for _, wrong := range []models.TimeRange{{}, span(noon, noon), span(noon, noon.Add(-time.Second)), span(noon, noon.Add(366*day+time.Millisecond))} {
			require.Equal(t, models.BadUserInput, models.CodeOf(question.ranged(wrong)), "%s over %+v", name, wrong)
		}
		require.NoError(t, question.ranged(span(noon, noon.Add(366*day))), name)
	}
}

// recorder stands before ClickHouse and keeps what is asked of it.
type recorder struct {
	mu    sync.Mutex
	asked []url.Values
}

func record(t *testing.T, target string) (*recorder, string) {
	t.Helper()
	behind, err := url.Parse(target)
	require.NoError(t, err)
	r := new(recorder)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: behind.Scheme, Host: behind.Host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if query := request.URL.Query(); query.Has("param_users") {
			r.mu.Lock()
			r.asked = append(r.asked, query)
			r.mu.Unlock()
		}
		proxy.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	front := *behind
	front.Host = strings.TrimPrefix(server.URL, "http://")
	return r, front.String()
}

func TestNoQuestionForgetsTenantsOrLimits(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	_, err := db.ClickHouse(t).Exec(`INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, metrics.name, metrics.value, metrics.unit, dimensions)
		SELECT now64(3, 'UTC') - INTERVAL number MINUTE, 1 + number % 2, 'w', 'metric', ['latency_ms'], [number], ['ms'], map('model', 'm') FROM numbers(100)`)
	require.NoError(t, err)
	_, err = db.ClickHouse(t).Exec(`INSERT INTO user_activity (date, user_id, action, count, total_duration_ms) SELECT today() - 1, 1 + number, 'login', 1, 20 FROM numbers(2)`)
	require.NoError(t, err)

	for name, question := range every {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recorder, front := record(t, db.ClickHouseURL)
			a := open(t, front)
			mine, theirs := alice, bob
			switch question.kind {
			case models.SubjectWorkload:
				mine, theirs = models.Subject{Kind: models.SubjectWorkload, UserID: 1, ID: "w"}, models.Subject{Kind: models.SubjectWorkload, UserID: 2, ID: "w"}
			case models.SubjectPlatform:
				mine, theirs = platform, platform
			}
			ask := func(viewer models.Viewer, subjects ...models.Subject) ([]models.Subject, int64, error) {
				tally := new(models.Tally)
				with, err := question.ask(models.WithTally(models.WithViewer(t.Context(), viewer), tally), a, subjects)
				slices.SortFunc(with, func(a, b models.Subject) int { return a.UserID - b.UserID })
				return slices.Compact(with), tally.Questions.Load(), err
			}

			with, sent, err := ask(models.Viewer{UserID: 1}, theirs)
			require.Empty(t, with)
			require.EqualValues(t, 0, sent)
			require.Empty(t, recorder.asked, "another tenant's subject is not even asked about")
			if question.kind == models.SubjectPlatform {
				require.Equal(t, models.Forbidden, models.CodeOf(err))
			} else {
				require.NoError(t, err)
				with, sent, err = ask(models.Viewer{UserID: 1}, mine, theirs)
				require.NoError(t, err)
				require.Equal(t, []models.Subject{mine}, with)
				require.EqualValues(t, 1, sent)
				require.Equal(t, "[1]", recorder.asked[0].Get("param_users"))
			}
			with, sent, err = ask(models.Viewer{UserID: 9, Superuser: true}, mine, theirs)
			require.NoError(t, err)
			require.Equal(t, slices.Compact([]models.Subject{mine, theirs}), with)
			require.EqualValues(t, 1, sent)

			_, err = question.ask(t.Context(), a, []models.Subject{mine})
			require.Equal(t, models.Unauthenticated, models.CodeOf(err))
			for _, settings := range recorder.asked {
				for _, limit := range []string{"max_memory_usage", "max_rows_to_read", "max_result_rows", "max_execution_time", "max_query_size"} {
					require.NotEmpty(t, settings.Get(limit), limit)
					require.NotEqual(t, "0", settings.Get(limit), limit)
				}
				require.Equal(t, "2", settings.Get("readonly"))
				require.Equal(t, "1", settings.Get("cancel_http_readonly_queries_on_client_close"))
			}
		})
	}
}
