// Package analytics_test measures the questions of a dashboard over many events: against the same SQL typed straight into ClickHouse, and twelve at once
// against the slowest of them.
package analytics_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/migrations"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/store"
)

// An insert of many more events, of a thousand tenants, would neither fit into what the embedded engine may use nor end in time on a slow machine.
const eventsOfInsert = 200_000

// The events of 60 days, of a thousand tenants, some with many more than others, in bursts of 50 for each thread and ten for each run.
const generate = `INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, event_category, metrics.name, metrics.value, metrics.unit, dimensions)
SELECT
	toStartOfDay(now('UTC')) - INTERVAL 60 DAY + toIntervalMillisecond(toUInt64(number * (60 * 86400000 / %d))),
	1 + toUInt32(1000 * pow(cityHash64(intDiv(number, 50), 'user') %% 1000000 / 1000000, 2)),
	lower(hex(MD5(toString(intDiv(number, 10))))),
	'metric', 'inference',
	['latency_ms', 'tokens_input', 'tokens_output', 'cost_usd'],
	[round(exp(6 + (cityHash64(number, 'l') %% 10000) / 5000), 1), cityHash64(number, 'i') %% 4000, cityHash64(number, 'o') %% 1000, (cityHash64(number, 'c') %% 10000) / 1000000],
	['ms', '', '', 'usd'],
	map('model', ['a', 'b', 'c', 'd'][1 + cityHash64(number, 'm') %% 4], 'tool', ['search', 'code', 'sql', 'none'][1 + cityHash64(number, 't') %% 4],
		'agent_type', ['planner', 'coder'][1 + cityHash64(number, 'a') %% 2], 'status', if(cityHash64(number, 's') %% 50 = 0, 'error', 'ok'), 'environment', 'production',
		'thread_id', lower(hex(MD5(toString(intDiv(number, 50))))))
FROM numbers(%d, %d)
SETTINGS max_block_size = 100000, min_insert_block_size_rows = 100000, min_insert_block_size_bytes = 0, max_insert_threads = 1, max_threads = 1, parallel_view_processing = 1`

// kept is a database that outlives the bench: NETRA_BENCH_DATABASE names one that is filled once, which takes an hour for 100 million events, and
// goes on where it was stopped.
func kept(b *testing.B, db *testdb.DB) {
	name := os.Getenv("NETRA_BENCH_DATABASE")
	if name == "" {
		return
	}
	_, err := db.ClickHouse(b).ExecContext(b.Context(), "CREATE DATABASE IF NOT EXISTS "+name)
	require.NoError(b, err)
	target, err := url.Parse(db.ClickHouseURL)
	require.NoError(b, err)
	target.Path = "/" + name
	db.ClickHouseURL = target.String()
	require.NoError(b, migrations.Up(b.Context(), db.Owner(b), db.ClickHouse(b), slog.New(slog.DiscardHandler)))
}

func populate(b *testing.B, db *sql.DB) {
	events := 10_000_000
	if given := os.Getenv("NETRA_BENCH_EVENTS"); given != "" {
		var err error
		events, err = strconv.Atoi(given)
		require.NoError(b, err)
	}
	var from int
	require.NoError(b, db.QueryRowContext(b.Context(), "SELECT toInt64(count()) FROM workload_events").Scan(&from))
	began := time.Now()
	for ; from < events; from += eventsOfInsert {
		_, err := db.ExecContext(b.Context(), fmt.Sprintf(generate, events, from, min(eventsOfInsert, events-from)))
		require.NoError(b, err)
	}
	b.Logf("%d events in %s", events, time.Since(began).Round(time.Second))
	for _, table := range []string{"workload_events", "aggregated_metrics", "metric_sums", "metric_bins", "metric_dimensions"} {
		_, err := db.ExecContext(b.Context(), "OPTIMIZE TABLE "+table+" FINAL SETTINGS optimize_skip_merged_partitions = 1")
		require.NoError(b, err)
	}
	rows, err := db.QueryContext(b.Context(), "SELECT table, sum(rows), formatReadableSize(sum(bytes_on_disk)) FROM system.parts WHERE database = currentDatabase() AND active GROUP BY table ORDER BY table")
	require.NoError(b, err)
	defer rows.Close()
	for rows.Next() {
		var table, size string
		var count uint64
		require.NoError(b, rows.Scan(&table, &count, &size))
		b.Logf("%-20s %12d rows %12s", table, count, size)
	}
	require.NoError(b, rows.Err())
}

type ask func(context.Context, *analytics.Analytics) error

func user(id int) models.Subject { return models.Subject{Kind: models.SubjectUser, UserID: id} }

func metrics(b *testing.B, span models.TimeRange, subjects ...models.Subject) ask {
	question, err := analytics.NewMetrics(span, nil, true, false)
	require.NoError(b, err)
	return func(ctx context.Context, a *analytics.Analytics) error {
		found, err := a.Sums(ctx, subjects, []analytics.Summed{question})
		require.Len(b, question.Of(found[subjects[0]][0]), 4)
		return err
	}
}

func series(b *testing.B, metric, zone string, span models.TimeRange, subject models.Subject) ask {
	question, err := analytics.NewSeries(metric, nil, span, models.StepDay, &zone, true)
	require.NoError(b, err)
	return func(ctx context.Context, a *analytics.Analytics) error {
		found, err := a.Sums(ctx, []models.Subject{subject}, []analytics.Summed{question})
		require.NotEmpty(b, question.Of(found[subject][0]))
		return err
	}
}

const summary = "{ metric unit count total average min max p50 p90 p95 p99 }"

// dashboards have twelve fields of one user each. The second asks only what the budget names: summaries and series, over four ranges.
func dashboards() map[string][]string {
	step := func(metric, step string) string {
		return `metricSeries(name: "` + metric + `", range: $month, step: ` + step + `, timeZone: "Europe/Berlin") { from count total average p50 p95 p99 }`
	}
	ofRange := func(name string) string { return "metrics(range: $" + name + ") " + summary }
	return map[string][]string{
		"dashboard": {
			ofRange("month"),
			step("latency_ms", "DAY"), step("tokens_input", "DAY"), step("tokens_output", "DAY"), step("cost_usd", "DAY"),
			`breakdown(metric: "cost_usd", by: "model", range: $month) { label total share }`,
			`breakdown(metric: "cost_usd", by: "tool", range: $month) { label total share }`,
			`breakdown(metric: "cost_usd", by: "status", range: $month) { label total share }`,
			`histogram(metric: "latency_ms", range: $month) { from to count }`,
			`histogram(metric: "tokens_output", range: $month) { from to count }`,
			`usage(range: $month) { requests errors costUsd }`,
			`topWorkloads(metric: "cost_usd", range: $month) { workloadId }`,
		},
		"summariesAndSeries": {
			ofRange("month"), ofRange("half"), ofRange("week"), ofRange("day"),
			step("latency_ms", "DAY"), step("tokens_input", "DAY"), step("tokens_output", "DAY"), step("cost_usd", "DAY"),
			step("latency_ms", "WEEK"), step("tokens_input", "WEEK"), step("tokens_output", "WEEK"), step("cost_usd", "WEEK"),
		},
	}
}

// viewerOf answers fields of user 1, in one operation, as the server does. Names of ranges stand for ranges that end where span does.
func viewerOf(b *testing.B, db *testdb.DB, a *analytics.Analytics, span models.TimeRange) func(fields ...string) error {
	_, err := db.Owner(b).ExecContext(b.Context(), "INSERT INTO users (id, email) OVERRIDING SYSTEM VALUE VALUES (1, 'one@example.com')")
	require.NoError(b, err)
	s, err := store.Open(store.Config{URL: db.AppURL, Log: slog.New(slog.DiscardHandler)})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	exec := executor.New(graph.NewExecutableSchema(graph.Config{Resolvers: &resolvers.Resolver{Store: s, Analytics: a, Loaders: new(loaders.Loaders)}}))
	since := func(from time.Time) string {
		return fmt.Sprintf(`{from: %q, to: %q}`, from.Format(time.RFC3339), span.To.Format(time.RFC3339))
	}
	ranges := strings.NewReplacer("$month", since(span.From), "$half", since(span.To.Add(-15*24*time.Hour)),
		"$week", since(span.To.Add(-7*24*time.Hour)), "$day", since(span.To.Add(-24*time.Hour)))
	return func(fields ...string) error {
		query := "{ viewer {"
		for i, field := range fields {
			query += fmt.Sprintf(" f%d: %s", i, ranges.Replace(field))
		}
		ctx := graphql.StartOperationTrace(models.WithViewer(b.Context(), models.Viewer{UserID: 1}))
		operation, errs := exec.CreateOperationContext(ctx, &graphql.RawParams{Query: query + " } }"})
		if errs != nil {
			return errs
		}
		answer, ctx := exec.DispatchOperation(ctx, operation)
		response := answer(ctx)
		if len(response.Errors) > 0 {
			return response.Errors
		}
		require.NotContains(b, string(response.Data), "null", "nothing is missing")
		return nil
	}
}

func BenchmarkQuestions(b *testing.B) {
	db := testdb.New(b)
	kept(b, db)
	populate(b, db.ClickHouse(b))
	a := open(b, db.ClickHouseURL)
	ctx := models.WithViewer(b.Context(), models.Viewer{UserID: 9999, Superuser: true})
	// Ends that lie within a quarter of an hour, so that every kind of table is read.
	to := time.Now().UTC().Truncate(24 * time.Hour).Add(-5*24*time.Hour + 9*time.Hour + 7*time.Minute + 3*time.Second)
	span := models.TimeRange{From: to.Add(-30*24*time.Hour - 5*time.Minute), To: to}

	hundred := make([]models.Subject, 100)
	for i := range hundred {
		hundred[i] = user(1 + i)
	}
	for name, question := range map[string]ask{
		"summary":             metrics(b, span, user(1)),
		"series":              series(b, "latency_ms", "UTC", span, user(1)),
		"seriesInIndia":       series(b, "latency_ms", "Asia/Kolkata", span, user(1)),
		"summariesOf100Users": metrics(b, span, hundred...),
	} {
		b.Run(name, func(b *testing.B) {
			direct := typed(b, db.ClickHouseURL, ctx, question)
			asked := func() time.Duration { return timed(b, func() error { return question(ctx, a) }) }
			for range 5 { // warm both
				asked()
				direct()
			}
			var ours, theirs []time.Duration
			for b.Loop() { // alternating, so that both meet the same weather
				ours = append(ours, asked())
				theirs = append(theirs, direct())
			}
			b.ReportMetric(milliseconds(quantile(ours, 0.5)), "p50-ms")
			b.ReportMetric(milliseconds(quantile(ours, 0.95)), "p95-ms")
			b.ReportMetric(float64(quantile(ours, 0.5))/float64(quantile(theirs, 0.5)), "api/sql")
		})
	}
	viewer := viewerOf(b, db, a, span)
	for name, fields := range dashboards() {
		b.Run(name, func(b *testing.B) {
			require.Len(b, fields, 12)
			alone := make([][]time.Duration, len(fields))
			var together []time.Duration
			for b.Loop() { // in turns, so that all meet the same weather
				for i, field := range fields {
					alone[i] = append(alone[i], timed(b, func() error { return viewer(field) }))
				}
				together = append(together, timed(b, func() error { return viewer(fields...) }))
			}
			var slowest time.Duration
			for _, times := range alone {
				slowest = max(slowest, quantile(times, 0.5))
			}
			b.ReportMetric(milliseconds(slowest), "slowest-ms")
			b.ReportMetric(milliseconds(quantile(together, 0.5)), "p50-ms")
			b.ReportMetric(milliseconds(quantile(together, 0.95)), "p95-ms")
			b.ReportMetric(float64(quantile(together, 0.5))/float64(slowest), "dashboard/slowest")
		})
	}
}

func open(b *testing.B, url string) *analytics.Analytics {
	a, err := analytics.Open(analytics.Config{URL: url, Deadline: time.Minute})
	require.NoError(b, err)
	b.Cleanup(func() { _ = a.Close() })
	return a
}

// typed is the question's SQL as somebody types it into ClickHouse over HTTP; the function returned sends it and reads the answer.
func typed(b *testing.B, clickhouseURL string, ctx context.Context, question ask) func() time.Duration {
	target, err := url.Parse(clickhouseURL)
	require.NoError(b, err)
	server := &url.URL{Scheme: target.Scheme, Host: target.Host, Path: "/"}
	var text []byte
	proxy := httputil.NewSingleHostReverseProxy(server)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query := r.URL.Query(); query.Has("param_users") {
			text, _ = io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(text))
			for name := range query {
				if !strings.HasPrefix(name, "param_") && name != "database" {
					query.Del(name)
				}
			}
			server.RawQuery = query.Encode()
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	through := *target
	through.Host = strings.TrimPrefix(front.URL, "http://")
	require.NoError(b, question(ctx, open(b, through.String())))
	require.NotEmpty(b, text)

	address := server.String()
	return func() time.Duration {
		return timed(b, func() error {
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(text))
			if err != nil {
				return err
			}
			password, _ := target.User.Password()
			request.SetBasicAuth(target.User.Username(), password)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				return err
			}
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			require.Equal(b, http.StatusOK, response.StatusCode, string(answer))
			return err
		})
	}
}

func timed(b *testing.B, work func() error) time.Duration {
	began := time.Now()
	require.NoError(b, work())
	return time.Since(began)
}

func quantile(times []time.Duration, level float64) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[int(level*float64(len(sorted)-1))]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
