package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
)

// workload is a run as ClickHouse knows it.
type workload struct {
	run, thread uuid.UUID // the thread is zero for a run without one
	user        int
	agent       string
	status      string
	environment string
}

// event is a row of workload_events.
type event struct {
	id         uuid.UUID
	at         time.Time
	of         workload
	typ        string
	category   string
	metrics    metrics
	dimensions dimensions
}

// metrics are the three columns of the nested one.
type metrics struct {
	names, units []string
	values       []float64
}

// dimensions keep their order, which Go's own map does not: the same seed gives the same bytes.
type dimensions [][2]string

var _ column.IterableOrderedMap = (*dimensions)(nil)

func (d *dimensions) Put(key, value any) {
	*d = append(*d, [2]string{fmt.Sprint(key), fmt.Sprint(value)})
}

func (d *dimensions) Iterator() column.MapIterator { return &dimensionIterator{*d, -1} }

type dimensionIterator struct {
	dimensions
	at int
}

func (i *dimensionIterator) Next() bool { i.at++; return i.at < len(i.dimensions) }
func (i *dimensionIterator) Key() any   { return i.dimensions[i.at][0] }
func (i *dimensionIterator) Value() any { return i.dimensions[i.at][1] }

func (w workload) dimensions(more ...[2]string) dimensions {
	d := append(make(dimensions, 0, 6), more...)
	d = append(d, [2]string{"agent_type", w.agent}, [2]string{"status", w.status}, [2]string{"environment", w.environment})
	if w.thread != uuid.Nil {
		d = append(d, [2]string{"thread_id", w.thread.String()})
	}
	return d
}

var (
	callNames   = []string{"latency_ms", "tokens_input", "tokens_output", "cost_usd"}
	callUnits   = []string{"ms", "tokens", "tokens", "usd"}
	failedNames = append(callNames[:len(callNames):len(callNames)], "errors")
	failedUnits = append(callUnits[:len(callUnits):len(callUnits)], "")
	toolNames   = []string{"latency_ms", "rows_read"}
	toolUnits   = []string{"ms", "rows"}
	timeNames   = []string{"duration_ms"}
	timeUnits   = []string{"ms"}
)

// call is one call of a language model.
func (f *fiction) call(w workload, m model, at time.Time) event {
	input, output := float64(int(f.about(700, 0.9))+20), float64(int(f.about(230, 0.7))+5)
	e := event{
		id: f.id(), at: at, of: w, typ: "metric", category: "compute",
		metrics: metrics{callNames, callUnits, []float64{
			float64(int(f.about(m.latency, 0.35) + output*2)), input, output, (input*m.input + output*m.output) / 1e6,
		}},
		dimensions: w.dimensions([2]string{"model", m.name}),
	}
	if f.IntN(40) == 0 || w.status == "failed" && f.IntN(4) == 0 {
		e.metrics.names, e.metrics.units, e.metrics.values = failedNames, failedUnits, append(e.metrics.values, 1)
	}
	return e
}

// toolCall is one call of a tool.
func (f *fiction) toolCall(w workload, at time.Time) event {
	return event{
		id: f.id(), at: at, of: w, typ: "metric", category: one(f, []string{"network", "storage"}),
		metrics:    metrics{toolNames, toolUnits, []float64{float64(int(f.about(180, 0.8)) + 3), float64(int(f.about(400, 1.2)))}},
		dimensions: w.dimensions([2]string{"tool", one(f, tools)}),
	}
}

// step is the beginning or the end of a workload.
func (f *fiction) step(w workload, typ string, at time.Time, duration time.Duration) event {
	e := event{id: f.id(), at: at, of: w, typ: typ, category: "compute", dimensions: w.dimensions()}
	if duration > 0 {
		e.metrics = metrics{timeNames, timeUnits, []float64{float64(duration.Milliseconds())}}
	}
	return e
}

// measured is a model's call three times in four, a tool's otherwise.
func (f *fiction) measured(w workload, m model, at time.Time) event {
	if f.IntN(4) == 0 {
		return f.toolCall(w, at)
	}
	return f.call(w, m, at)
}

// event is the n-th of so many that are reported for a run: its beginning, what was measured, its end.
func (h *history) event(r run, n, of int) event {
	h.turn(kindEvent, r.thread.user, r.thread.n, r.n, n)
	w := workload{run: r.id, thread: r.thread.id, user: r.thread.user, agent: r.agent, status: r.status, environment: r.environment}
	end := r.ended
	if end.IsZero() {
		end = h.now
	}
	switch {
	case of > 2 && n == 0:
		return h.step(w, "start", r.started, 0)
	case of > 2 && n == of-1 && r.status == "failed":
		return h.step(w, "error", end, end.Sub(r.started))
	case of > 2 && n == of-1 && r.status != "processing":
		return h.step(w, "stop", end, end.Sub(r.started))
	}
	m := r.thread.model
	if h.IntN(5) == 0 {
		m = one(h.fiction, languageModels)
	}
	at := r.started.Add(time.Duration((float64(n) + h.Float64()) / float64(of) * float64(end.Sub(r.started))))
	return h.measured(w, m, at)
}

// events are the given number, spread evenly over all runs. Runs follow one another by user, so that a block of events has few users and
// ClickHouse little to sort.
func (h *history) events() iter.Seq[event] {
	perUser := h.size.ThreadsPerUser * h.size.RunsPerThread
	runs := int64(h.size.Users) * int64(perUser)
	total := int64(h.size.Events)
	return func(yield func(event) bool) {
		for n := range runs {
			count := int((n+1)*total/runs - n*total/runs)
			if count == 0 {
				continue
			}
			user, of := h.first+int(n)/perUser, int(n)%perUser
			t := h.thread(user, of/h.size.RunsPerThread)
			place := of % h.size.RunsPerThread
			r := h.run(t, place)
			extra := 0
			if r.status == "pending" {
				// Nothing is known of it yet: its share goes to the run before, after that one's own, which are one more at most.
				r, extra = h.run(t, place-1), count+1
			}
			for i := range count {
				if !yield(h.event(r, extra+i, extra+count)) {
					return
				}
			}
		}
	}
}

const insertEvents = "INSERT INTO workload_events (event_id, timestamp, user_id, workload_id, event_type, event_category," +
	" metrics.name, metrics.value, metrics.unit, dimensions, metadata)"

// writeEvents sends one block.
func writeEvents(ctx context.Context, conn driver.Conn, events iter.Seq[event], metadata string) error {
	batch, err := conn.PrepareBatch(ctx, insertEvents)
	if err != nil {
		return fmt.Errorf("begin a block of events: %w", err)
	}
	for e := range events {
		if err := batch.Append(e.id, e.at, uint32(e.of.user), e.of.run.String(), e.typ, e.category,
			e.metrics.names, e.metrics.values, e.metrics.units, &e.dimensions, metadata); err != nil {
			return errors.Join(fmt.Errorf("append an event: %w", err), batch.Abort())
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("send a block of events: %w", err)
	}
	return nil
}

func openClickHouse(rawURL string) (driver.Conn, error) {
	options, err := clickhouse.ParseDSN(rawURL)
	if err != nil {
		return nil, errMalformedClickHouseURL
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return conn, nil
}
