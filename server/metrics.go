package server

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/models"
)

// metrics have labels of few values only: nothing that a client writes becomes one.
type metrics struct {
	requests   *prometheus.HistogramVec
	operations *prometheus.HistogramVec
	ended      map[ending]prometheus.Observer // operations, of which there are few kinds
	inFlight   atomic.Int64
}

// ending is how an operation ended.
type ending struct {
	kind    ast.Operation
	outcome string
}

func newMetrics(registry *prometheus.Registry, streams func() int) (*metrics, error) {
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "netra_http_request_duration_seconds", Help: "How long HTTP requests took.", Buckets: buckets,
		}, []string{"route", "method", "status"}),
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "netra_operation_duration_seconds", Help: "How long GraphQL operations took, subscriptions until their end.", Buckets: buckets,
		}, []string{"type", "outcome"}),
		ended: map[ending]prometheus.Observer{},
	}
	for _, kind := range []ast.Operation{ast.Query, ast.Mutation, ast.Subscription, noOperation} {
		for _, outcome := range []string{outcomeOK, outcomeErrors, outcomeRefused} {
			m.ended[ending{kind, outcome}] = m.operations.WithLabelValues(string(kind), outcome)
		}
	}
	var failures []error
	for _, collector := range []prometheus.Collector{
		m.requests, m.operations,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "netra_http_requests_in_flight", Help: "HTTP requests being answered."},
			func() float64 { return float64(m.inFlight.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "netra_streams", Help: "Open websockets and event streams."},
			func() float64 { return float64(streams()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		failures = append(failures, registry.Register(collector))
	}
	return m, errors.Join(failures...)
}

func (m *metrics) requested(route, method string, status int, elapsed time.Duration) {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodOptions, http.MethodHead:
	default:
		method = "other"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Observe(elapsed.Seconds())
}

// The outcomes of an operation.
const (
	outcomeOK      = "ok"
	outcomeErrors  = "errors"  // an answer with errors
	outcomeRefused = "refused" // no answer at all
)

// noOperation is the kind of what never became one.
const noOperation ast.Operation = "unknown"

func (m *metrics) operated(kind ast.Operation, outcome string, elapsed time.Duration) {
	m.ended[ending{cmp.Or(kind, noOperation), outcome}].Observe(elapsed.Seconds())
}

// serveMetrics answers processes on this machine, unless a proxy there speaks for somebody else, and superusers.
func (s *Server) serveMetrics() http.Handler {
	handler := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocal(r) {
			ctx, err := s.authenticateHeader(r)
			viewer, missing := models.ViewerFrom(ctx)
			switch {
			case err != nil:
				s.refuse(w, r, plainJSON, &refusal{err: err})
				return
			case missing != nil:
				s.refuse(w, r, plainJSON, &refusal{err: missing})
				return
			case !viewer.Superuser:
				s.refuse(w, r, plainJSON, &refusal{err: models.Errorf(models.Forbidden, "metrics are for superusers")})
				return
			}
		}
		handler.ServeHTTP(w, r)
	})
}

func isLocal(r *http.Request) bool {
	for _, forwarded := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(forwarded) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && net.ParseIP(host).IsLoopback()
}
