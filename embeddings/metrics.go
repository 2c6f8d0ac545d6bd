package embeddings

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	hits    prometheus.Counter
	settled *prometheus.CounterVec
	backlog prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "netra_embeddings_calls_total", Help: "Calls to the endpoint that embeds texts, by what came of them.",
		}, []string{"purpose", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "netra_embeddings_call_seconds", Help: "How long calls to the endpoint that embeds texts took.", Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"purpose"}),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "netra_embeddings_query_hits_total", Help: "Texts of searches whose embedding was known.",
		}),
		settled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "netra_embeddings_references_total", Help: "References that were done with: embedded, failed for good, or superseded by a change meanwhile.",
		}, []string{"outcome"}),
		backlog: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "netra_embeddings_backlog", Help: "References that wait to be embedded, counted up to 10,000.",
		}),
	}
}

func (m *metrics) observe(ctx context.Context, purpose string, took time.Duration, err error) {
	outcome := "answered"
	var failed *failure
	switch {
	case err == nil:
	case errors.As(err, &failed):
		outcome = string(failed.reason)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		outcome = "timeout"
	default:
		outcome = "left"
	}
	m.calls.WithLabelValues(purpose, outcome).Inc()
	m.seconds.WithLabelValues(purpose).Observe(took.Seconds())
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.calls, m.seconds, m.hits, m.settled, m.backlog}
}

// Describe makes an Endpoint a prometheus.Collector.
func (e *Endpoint) Describe(descriptions chan<- *prometheus.Desc) {
	for _, collector := range e.metrics.all() {
		collector.Describe(descriptions)
	}
}

// Collect tells how the calls went.
func (e *Endpoint) Collect(values chan<- prometheus.Metric) {
	for _, collector := range e.metrics.all() {
		collector.Collect(values)
	}
}
