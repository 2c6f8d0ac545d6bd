package analytics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netra-ai/netra/models"
)

// measures are what operators see of the questions.
type measures struct {
	asked   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	breaker prometheus.GaugeFunc
}

func newMeasures(g *gate) *measures {
	return &measures{
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "netra_analytics_questions_total", Help: "Questions to ClickHouse by how they ended.",
		}, []string{"question", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "netra_analytics_question_seconds", Help: "Time of questions to ClickHouse, waiting for a place included.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"question"}),
		breaker: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "netra_analytics_breaker", Help: "0 while questions go to ClickHouse, 1 while one may probe it, 2 while it is left alone.",
		}, func() float64 { return float64(g.breaker.State()) }),
	}
}

func (m *measures) observe(question string, err error, took time.Duration) {
	m.asked.WithLabelValues(question, outcome(err)).Inc()
	m.seconds.WithLabelValues(question).Observe(took.Seconds())
}

func outcome(err error) string {
	if err == nil {
		return "answered"
	}
	if errors.Is(err, context.Canceled) {
		return "left"
	}
	switch models.CodeOf(err) {
	case models.AnalyticsUnavailable:
		return "unavailable"
	case models.Timeout:
		return "timeout"
	case models.TooComplex:
		return "too_complex"
	default:
		return "failed"
	}
}

// Describe is part of prometheus.Collector.
func (a *Analytics) Describe(into chan<- *prometheus.Desc) {
	a.measures.asked.Describe(into)
	a.measures.seconds.Describe(into)
	a.measures.breaker.Describe(into)
}

// Collect is part of prometheus.Collector.
func (a *Analytics) Collect(into chan<- prometheus.Metric) {
	a.measures.asked.Collect(into)
	a.measures.seconds.Collect(into)
	a.measures.breaker.Collect(into)
}
