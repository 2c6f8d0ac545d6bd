package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
)

const insertEvents = `INSERT INTO workload_events (event_id, timestamp, user_id, workload_id, event_type, event_category, metrics.name, metrics.value, metrics.unit, dimensions, metadata)`

// event is a row of workload_events.
type event struct {
	id         uuid.UUID
	at         time.Time
	of         workload
	names      []string
	values     []float64
	units      []string
	dimensions map[string]string
}

var (
	metricNames = []string{"latency_ms", "tokens_input", "tokens_output", "cost_usd"}
	metricUnits = []string{"ms", "tokens", "tokens", "usd"}
)

// measured is one call of a language model within a workload.
func (f *fiction) measured(w workload, at time.Time) event {
	in, out := 50+f.ExpFloat64()*900, 20+f.ExpFloat64()*350
	model := one(f, modelNames)
	price := map[string]float64{"gpt-4o": 5, "gpt-4o-mini": 0.3, "claude-sonnet": 6, "claude-haiku": 0.8, "llama-3-70b": 0.6}[model]
	return event{
		id: f.id(), at: at, of: w, names: metricNames, units: metricUnits,
		values: []float64{180 + out*9 + f.ExpFloat64()*250, float64(int(in)), float64(int(out)), (in + 3*out) * price / 1e6},
		dimensions: map[string]string{"model": model, "tool": one(f, tools), "agent_type": w.agent, "status": w.status,
			"environment": one(f, environments), "thread_id": w.thread.String()},
	}
}

func openClickHouse(url string) (driver.Conn, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, errors.New("parse the URL of ClickHouse: it is malformed") // the cause repeats the password
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return conn, nil
}

func writeEvents(ctx context.Context, conn driver.Conn, n int, next func() event) (err error) {
	batch, err := conn.PrepareBatch(ctx, insertEvents)
	if err != nil {
		return fmt.Errorf("begin a block of events: %w", err)
	}
	for range n {
		e := next()
		if err := batch.Append(e.id, e.at, uint32(e.of.user), e.of.id.String(), "metric", "compute", e.names, e.values, e.units, e.dimensions, "{}"); err != nil {
			return errors.Join(fmt.Errorf("append an event: %w", err), batch.Abort())
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("send a block of events: %w", err)
	}
	return nil
}

// block is how many events go into one insert: enough for few parts, little enough for memory.
const block = 50_000

func (s *seeder) events(ctx context.Context) (err error) {
	if s.cfg.Size.Events == 0 || len(s.runs) == 0 {
		return nil
	}
	conn, err := openClickHouse(s.cfg.ClickHouseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	began := time.Now()
	for written := 0; written < s.cfg.Size.Events; {
		n := min(block, s.cfg.Size.Events-written)
		if err := writeEvents(ctx, conn, n, func() event {
			w := one(s.fiction, s.runs)
			return s.measured(w, w.at.Add(time.Duration(s.IntN(60_000))*time.Millisecond))
		}); err != nil {
			return err
		}
		written += n
		s.say("seeded events: %d of %d (%.0f/s)", written, s.cfg.Size.Events, float64(written)/time.Since(began).Seconds())
	}
	return nil
}
