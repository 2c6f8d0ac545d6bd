package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/netra-ai/netra/bench/proc"
)

// sample is one round of one contender on one workload.
type sample struct {
	perSecond float64
	p50, p99  time.Duration // at saturation
	server    time.Duration // processor time a request, of the server's processes
	postgres  time.Duration // and of PostgreSQL's
	allocated allocations   // a request
}

// series is all that was measured of one contender on one workload.
type series struct {
	samples    []sample
	half       load // at half of its own throughput
	same       load // at half of the slowest one's throughput
	statements float64
	trips      float64
	answer     int // bytes
}

// median and spread (the farthest sample from the median, relative to it) of a quantity over the rounds.
func (s *series) median(of func(sample) float64) float64 {
	values := make([]float64, len(s.samples))
	for i, sample := range s.samples {
		values[i] = of(sample)
	}
	return median(values)
}

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}

// ratio is the median, over the rounds, of a quantity of s by that of another series in the same round: the machine's own speed changes from one
// round to the next.
func (s *series) ratio(to *series, of func(sample) float64) float64 {
	ratios := make([]float64, min(len(s.samples), len(to.samples)))
	for i := range ratios {
		ratios[i] = of(s.samples[i]) / of(to.samples[i])
	}
	return median(ratios)
}

func (s *series) spread(of func(sample) float64) float64 {
	middle, farthest := s.median(of), 0.0
	for _, sample := range s.samples {
		farthest = max(farthest, of(sample)/middle-1, 1-of(sample)/middle)
	}
	return farthest
}

func throughput(s sample) float64 { return s.perSecond }

func serverCPU(s sample) float64 { return float64(s.server) }

func postgresCPU(s sample) float64 { return float64(s.postgres) }

func totalCPU(s sample) float64 { return float64(s.server + s.postgres) }

// postgres is the server that everybody asks, seen from the side.
type postgres struct {
	owner      *sql.DB
	postmaster int
	version    string
}

func openPostgres(ctx context.Context, ownerURL string) (*postgres, error) {
	owner, err := sql.Open("pgx", ownerURL)
	if err != nil {
		return nil, err
	}
	p := &postgres{owner: owner}
	var backend int
	if err := owner.QueryRowContext(ctx, "SELECT pg_backend_pid(), current_setting('server_version')").Scan(&backend, &p.version); err != nil {
		return nil, err
	}
	if p.postmaster, err = proc.Parent(backend); err != nil {
		return nil, fmt.Errorf("PostgreSQL must run on this machine: %w", err)
	}
	return p, nil
}

// statements is how many statements the application's and the owner's sessions in the dataset have run.
func (p *postgres) statements(ctx context.Context, data *dataset) (n float64, err error) {
	err = p.owner.QueryRowContext(ctx, `SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1`, data.name).Scan(&n)
	return n, err
}

// round measures one contender once.
func (p *postgres) round(ctx context.Context, pid int, allocated func() (allocations, error), work func() (load, error)) (sample, error) {
	var before, after struct {
		server, postgres time.Duration
		allocated        allocations
	}
	var err error
	if before.allocated, err = allocated(); err != nil {
		return sample{}, err
	}
	if pid != 0 {
		if before.server, err = proc.CPU(pid); err != nil {
			return sample{}, err
		}
	}
	if before.postgres, err = proc.CPU(p.postmaster); err != nil {
		return sample{}, err
	}
	l, err := work()
	if err != nil {
		return sample{}, err
	}
	if after.postgres, err = proc.CPU(p.postmaster); err != nil {
		return sample{}, err
	}
	if pid != 0 {
		if after.server, err = proc.CPU(pid); err != nil {
			return sample{}, err
		}
	}
	if after.allocated, err = allocated(); err != nil {
		return sample{}, err
	}
	n := max(1, l.requests)
	return sample{
		perSecond: l.perSecond(), p50: l.percentile(.5), p99: l.percentile(.99),
		server:   (after.server - before.server) / time.Duration(n),
		postgres: (after.postgres - before.postgres) / time.Duration(n),
		allocated: allocations{
			objects: (after.allocated.objects - before.allocated.objects) / float64(n),
			bytes:   (after.allocated.bytes - before.allocated.bytes) / float64(n),
		},
	}, nil
}

// sides counts statements and round trips of requests that are asked one after the other. A trip is a time that a backend of PostgreSQL went to
// sleep: with one request under way it does so when it has answered and waits for what comes next.
func (p *postgres) sides(ctx context.Context, c *contender, requests [][]byte) (statements, trips float64, err error) {
	const n = 100
	var counted [2]struct {
		statements float64
		sleeps     map[int]int
	}
	for i := range counted {
		if counted[i].statements, err = p.statements(ctx, c.data); err != nil {
			return 0, 0, err
		}
		if counted[i].sleeps, err = p.sleeps(ctx, c.data); err != nil {
			return 0, 0, err
		}
		if i == 0 {
			if err := askInTurn(c.address, requests, n); err != nil {
				return 0, 0, err
			}
		}
	}
	slept := 0
	for pid, times := range counted[1].sleeps { // pools close connections meanwhile, and open others
		slept += times - counted[0].sleeps[pid]
	}
	return (counted[1].statements - counted[0].statements) / n, float64(slept) / n, nil
}

// askInTurn sends n requests over one connection. Servers hang up on those that connect and say nothing, so it connects last.
func askInTurn(address string, requests [][]byte, n int) error {
	client, err := dial(address, atMost*time.Duration(n))
	if err != nil {
		return err
	}
	defer client.conn.Close()
	for i := range n {
		if _, err := client.ask(requests[i%len(requests)]); err != nil {
			return err
		}
	}
	return nil
}

// sleeps is how often each session in the dataset has waited, by its process.
func (p *postgres) sleeps(ctx context.Context, data *dataset) (map[int]int, error) {
	rows, err := p.owner.QueryContext(ctx, "SELECT pid::text FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'", data.name)
	if err != nil {
		return nil, err
	}
	backends, err := texts(rows)
	if err != nil {
		return nil, err
	}
	times := map[int]int{}
	for _, backend := range backends {
		pid, err := strconv.Atoi(backend)
		if err != nil {
			return nil, err
		}
		n, err := proc.Status(pid, "voluntary_ctxt_switches")
		switch {
		case errors.Is(err, os.ErrProcessDone): // its connection was closed
		case err != nil:
			return nil, err
		default:
			times[pid] = n
		}
	}
	return times, nil
}

// compare fails unless all answers have the same content.
func compare(w workload, answers map[string][]byte) error {
	var firstName string
	var first any
	for name, answer := range answers {
		content, err := canonical(answer)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", w.name, name, err)
		}
		if first == nil {
			firstName, first = name, content
			continue
		}
		if !reflect.DeepEqual(first, content) {
			return fmt.Errorf("%s: %s and %s do not answer the same:\n%.600v\n%.600v", w.name, firstName, name, first, content)
		}
	}
	return nil
}
