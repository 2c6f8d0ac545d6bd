package server

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Check asks a dependency whether it answers.
type Check struct {
	Name     string
	Required bool // without it the server is not ready; without the others it is degraded
	Probe    func(context.Context) error
}

const (
	probeTimeout = 2 * time.Second
	probeAge     = time.Second // how long an answer is good for, however often it is asked for
)

// readiness says whether requests should be sent here.
type readiness struct {
	checks []Check

	mu      sync.Mutex
	report  readyReport
	until   time.Time
	leaving bool
}

type readyReport struct {
	Status string            `json:"status"` // ready, degraded, unavailable or stopping
	Checks map[string]string `json:"checks,omitempty"`
}

func (r *readiness) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = true
}

func (r *readiness) now(ctx context.Context) readyReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaving {
		return readyReport{Status: "stopping"}
	}
	if time.Now().Before(r.until) {
		return r.report
	}
	r.report, r.until = r.ask(context.WithoutCancel(ctx)), time.Now().Add(probeAge)
	return r.report
}

func (r *readiness) ask(ctx context.Context) readyReport {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	failures := make([]error, len(r.checks))
	var probes sync.WaitGroup
	for i, check := range r.checks {
		probes.Go(func() { failures[i] = check.Probe(ctx) })
	}
	probes.Wait()
	report := readyReport{Status: "ready", Checks: map[string]string{}}
	for i, check := range r.checks {
		if failures[i] == nil {
			report.Checks[check.Name] = "ok"
			continue
		}
		report.Checks[check.Name] = "unavailable"
		if check.Required {
			report.Status = "unavailable"
		} else if report.Status == "ready" {
			report.Status = "degraded"
		}
	}
	return report
}

func (r *readiness) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	report := r.now(request.Context())
	status := http.StatusOK
	if report.Status != "ready" && report.Status != "degraded" {
		status = http.StatusServiceUnavailable
	}
	respondJSON(w, status, report)
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	respondJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func respondJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has left needs no answer
}
