// Package analytics_test measures the questions of a dashboard over many events: against the same SQL typed straight into ClickHouse, and twelve at once
// against the slowest of them.
package analytics_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
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

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
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
SETTINGS max_block_size = 100000, min_insert_block_size_rows = 100000, min_insert_block_size_bytes = 0, max_insert_threads = 1, max_threads = 1`

func populate(b *testing.B, db *sql.DB) {
	events := 10_000_000
	if given := os.Getenv("NETRA_BENCH_EVENTS"); given != "" {
		var err error
		events, err = strconv.Atoi(given)
		require.NoError(b, err)
	}
	began := time.Now()
	for from := 0; from < events; from += eventsOfInsert {
		_, err := db.ExecContext(b.Context(), fmt.Sprintf(generate, events, from, min(eventsOfInsert, events-from)))
		require.NoError(b, err)
	}
	b.Logf("%d events in %s", events, time.Since(began).Round(time.Second))
	for _, table := range []string{"workload_events", "aggregated_metrics", "metrics_15m", "metrics_1d", "metric_bins", "metric_dimensions"} {
		_, err := db.ExecContext(b.Context(), "OPTIMIZE TABLE "+table+" FINAL")
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
		found, err := a.Metrics(ctx, subjects, question)
		require.Len(b, found[subjects[0]], 4)
		return err
	}
}

func series(b *testing.B, metric, zone string, span models.TimeRange, subject models.Subject) ask {
	question, err := analytics.NewSeries(metric, nil, span, models.StepDay, &zone, true)
	require.NoError(b, err)
	return func(ctx context.Context, a *analytics.Analytics) error {
		found, err := a.Series(ctx, []models.Subject{subject}, question)
		require.NotEmpty(b, found[subject])
		return err
	}
}

// dashboard is twelve questions about one user.
func dashboard(b *testing.B, span models.TimeRange, subject models.Subject) []ask {
	subjects := []models.Subject{subject}
	fields := []ask{metrics(b, span, subject)}
	for _, metric := range []string{"latency_ms", "tokens_input", "tokens_output", "cost_usd"} {
		fields = append(fields, series(b, metric, "Europe/Berlin", span, subject))
	}
	for _, by := range []string{"model", "tool", "status"} {
		question, err := analytics.NewBreakdown("cost_usd", nil, by, span, nil)
		require.NoError(b, err)
		fields = append(fields, func(ctx context.Context, a *analytics.Analytics) error {
			_, err := a.Breakdown(ctx, subjects, question)
			return err
		})
	}
	for _, metric := range []string{"latency_ms", "tokens_output"} {
		question, err := analytics.NewHistogram(metric, nil, span, nil)
		require.NoError(b, err)
		fields = append(fields, func(ctx context.Context, a *analytics.Analytics) error {
			_, err := a.Histogram(ctx, subjects, question)
			return err
		})
	}
	usage, err := analytics.NewUsage(span)
	require.NoError(b, err)
	top, err := analytics.NewTopWorkloads("cost_usd", nil, span, nil)
	require.NoError(b, err)
	return append(fields,
		func(ctx context.Context, a *analytics.Analytics) error {
			_, err := a.Usage(ctx, subjects, usage)
			return err
		},
		func(ctx context.Context, a *analytics.Analytics) error {
			_, err := a.TopWorkloads(ctx, subjects, top)
			return err
		})
}

func BenchmarkQuestions(b *testing.B) {
	db := testdb.New(b)
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
	b.Run("dashboard", func(b *testing.B) {
		fields := dashboard(b, span, user(1))
		require.Len(b, fields, 12)
		var slowest time.Duration
		for _, field := range fields {
			var alone []time.Duration
			for range 10 {
				alone = append(alone, timed(b, func() error { return field(ctx, a) }))
			}
			slowest = max(slowest, quantile(alone, 0.5))
		}
		var together []time.Duration
		for b.Loop() {
			together = append(together, timed(b, func() error {
				group, ctx := errgroup.WithContext(ctx)
				for _, field := range fields {
					group.Go(func() error { return field(ctx, a) })
				}
				return group.Wait()
			}))
		}
		b.ReportMetric(milliseconds(slowest), "slowest-ms")
		b.ReportMetric(milliseconds(quantile(together, 0.5)), "p50-ms")
		b.ReportMetric(float64(quantile(together, 0.5))/float64(slowest), "dashboard/slowest")
	})
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
