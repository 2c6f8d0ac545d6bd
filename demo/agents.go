package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/netra-ai/netra/internal/wait"
)

// AgentsConfig says which databases the agents write to, and how busily.
type AgentsConfig struct {
	OwnerURL      string
	ClickHouseURL string
	Rate          float64 // runs that are asked for each second
	Concurrency   int     // agents that work at once
	Keep          int     // how many of their own runs the agents leave for each demo user, the newest; 0: 300
	Log           *slog.Logger
}

const (
	// ours marks the runs, messages and threads that the agents have made: only these do they ever delete.
	ours = `{"demo": true}`
	// worker is in the metadata of every run that one of the agents has taken.
	worker = "netra agents"

	// agentThreads is how many of a demo user's threads the agents write in: the first ones on the user's page.
	agentThreads = 8
	// keepMessages is how many of their own messages they leave in a thread.
	keepMessages = 200
	// backlog is how many of the runs that they have asked for may wait: agents that are slower than the rate are not asked for more.
	backlog = 50
	// orphaned is after how long a run whose agent has gone is taken by another. No agent takes nearly as long.
	orphaned = 2 * time.Minute

	defaultKeep   = 300
	maxRate       = 1000
	maxAgents     = 200
	poll          = 250 * time.Millisecond
	tidyEvery     = 10 * time.Second
	reportEvery   = time.Second
	unreported    = 10_000          // events that are kept while ClickHouse is away
	partingTime   = 5 * time.Second // for what has to be written when the agents are told to end
	writeTimeout  = 10 * time.Second
	maxRetryPause = 10 * time.Second
	calmBefore    = 2 * time.Second // a database counts as back
)

// RunAgents asks for runs on behalf of the demo users, mostly of alice, and takes every pending run to an end, whoever asked for it,
// until ctx ends. Agents are other programs: they write with SQL of their own, and the server learns of it only from the database.
//
// A database that is away is tried again and again; PostgreSQL's absence stops the agents' work, ClickHouse's only their measurements.
// Runs that they are working on when ctx ends are cancelled.
func RunAgents(ctx context.Context, cfg AgentsConfig) (err error) {
	switch {
	case !(cfg.Rate > 0 && cfg.Rate <= maxRate):
		return fmt.Errorf("a rate of %g runs a second: more than 0, at most %d", cfg.Rate, maxRate)
	case cfg.Concurrency < 1 || cfg.Concurrency > maxAgents:
		return fmt.Errorf("%d agents at once: from 1 to %d", cfg.Concurrency, maxAgents)
	case cfg.Keep < 0:
		return fmt.Errorf("%d runs to keep: not less than none", cfg.Keep)
	case cfg.Keep == 0:
		cfg.Keep = defaultKeep
	}
	poolConfig, err := pgxpool.ParseConfig(cfg.OwnerURL)
	if err != nil {
		return errMalformedOwnerURL
	}
	poolConfig.ConnConfig.RuntimeParams[superuser] = "on"
	poolConfig.ConnConfig.RuntimeParams["application_name"] = worker
	if poolConfig.ConnConfig.ConnectTimeout == 0 {
		poolConfig.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	poolConfig.MinConns = 0
	poolConfig.MaxConns = int32(min(cfg.Concurrency+3, 20)) // they mostly wait for something else
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return fmt.Errorf("make a pool of connections: %w", err)
	}
	defer pool.Close()
	clickhouse, err := openClickHouse(cfg.ClickHouseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clickhouse.Close()) }()

	a := &agents{
		cfg: cfg, pool: pool, clickhouse: clickhouse,
		events: make(chan event, unreported), free: make(chan struct{}, cfg.Concurrency), touched: make(map[uuid.UUID]int),
		postgresAway:   outage{name: "PostgreSQL", log: cfg.Log},
		clickhouseAway: outage{name: "ClickHouse", log: cfg.Log},
	}
	cfg.Log.InfoContext(ctx, "simulated agents at work", "runs_per_second", cfg.Rate, "concurrency", cfg.Concurrency)
	var working, reporting sync.WaitGroup
	reporting.Go(func() { a.report(ctx) })
	working.Go(func() { a.again(ctx, a.pause, a.ask) })
	working.Go(func() { a.again(ctx, always(tidyEvery), a.tidy) })
	a.again(ctx, always(poll), func(ctx context.Context, f *fiction) error { return a.take(ctx, f, &working) })
	working.Wait()
	close(a.events)
	reporting.Wait()
	return nil
}

type agents struct {
	cfg                          AgentsConfig
	pool                         *pgxpool.Pool
	clickhouse                   driver.Conn
	events                       chan event
	free                         chan struct{} // a place for each agent that is at work
	postgresAway, clickhouseAway outage
	missing                      sync.Once

	mu      sync.Mutex
	touched map[uuid.UUID]int // messages of ours since the thread was last tidied
	known   bool              // the threads that earlier agents have written in have been tidied
}

// outage logs once when a database goes away and once when it is back for good: of many connections some are found dead later than others.
type outage struct {
	name  string
	log   *slog.Logger
	mu    sync.Mutex
	since time.Time // zero while all is well
	calm  time.Time // since when there has been no failure, within an outage
}

func (o *outage) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // we are the ones who go away
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	switch {
	case err != nil && o.since.IsZero():
		o.since = now
		o.log.WarnContext(ctx, "simulated agents cannot write to "+o.name+" and keep trying", "error", explain(err))
	case err != nil:
		o.calm = time.Time{}
	case o.since.IsZero():
	case o.calm.IsZero():
		o.calm = now
	case now.Sub(o.calm) >= calmBefore:
		o.log.InfoContext(ctx, "simulated agents write to "+o.name+" again", "after", o.calm.Sub(o.since).Round(time.Millisecond))
		o.since, o.calm = time.Time{}, time.Time{}
	}
}

// again does something in PostgreSQL again and again, with a pause in between, and longer ones while it fails.
func (a *agents) again(ctx context.Context, pause func(*fiction) time.Duration, do func(context.Context, *fiction) error) {
	f := newFiction(rand.Uint64())
	for failures := 0; ; {
		err := do(ctx, f)
		a.postgresAway.note(ctx, err)
		failures = counted(failures, err)
		if !wait.For(ctx, pause(f)+retryPause(failures)) {
			return
		}
	}
}

// outliving is a context that ends a little later than ctx.
func outliving(ctx context.Context) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(partingTime, cancel) })
	return later, func() {
		stop()
		cancel()
	}
}

func always(d time.Duration) func(*fiction) time.Duration {
	return func(*fiction) time.Duration { return d }
}

func counted(failures int, err error) int {
	if err == nil {
		return 0
	}
	return failures + 1
}

// retryPause grows with the failures in a row.
func retryPause(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	longest := min(200*time.Millisecond<<min(failures, 10), maxRetryPause)
	return longest/2 + rand.N(longest/2)
}

// pause is between two questions: people do not ask at regular intervals.
func (a *agents) pause(f *fiction) time.Duration {
	return time.Duration(min(f.ExpFloat64(), 3) / a.cfg.Rate * float64(time.Second))
}

// ask is a demo user who says something and wants an agent to work on it.
func (a *agents) ask(ctx context.Context, f *fiction) error {
	email := one(f, []string{Alice, Alice, Alice, Alice, Bob, Admin})
	return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var waiting int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM runs WHERE status = 'pending' AND metadata @> $1 LIMIT $2) w`, ours, backlog).
			Scan(&waiting); err != nil {
			return fmt.Errorf("count waiting runs: %w", err)
		}
		if waiting == backlog {
			return nil
		}
		var user int
		var threads []uuid.UUID
		var places []string
		err := tx.QueryRow(ctx, `SELECT u.id, array_agg(t.id) FILTER (WHERE t.id IS NOT NULL), array_agg(coalesce(t.metadata ->> 'workload', '')) FROM users u
			LEFT JOIN LATERAL (SELECT * FROM threads WHERE user_id = u.id AND status = 'active' ORDER BY created_at DESC, id DESC LIMIT $2) t ON true
			WHERE u.email = $1 GROUP BY u.id`, email, agentThreads).Scan(&user, &threads, &places)
		if errors.Is(err, pgx.ErrNoRows) {
			a.missing.Do(func() {
				a.cfg.Log.WarnContext(ctx, "simulated agents find no demo users to ask for runs: `netra seed` makes them")
			})
			return nil
		}
		if err != nil {
			return fmt.Errorf("choose a thread: %w", err)
		}
		about := f.topic()
		if len(threads) == 0 {
			thread := uuid.UUID(f.id())
			if _, err := tx.Exec(ctx, `INSERT INTO threads (id, user_id, title, metadata) VALUES ($1, $2, $3, $4)`, thread, user, about.title(f), ours); err != nil {
				return fmt.Errorf("begin a thread: %w", err)
			}
			threads, places = []uuid.UUID{thread}, []string{""}
		}
		x := f.Float64()
		chosen := int(x * x * float64(len(threads))) // more often the first on the page
		if places[chosen] != "" {
			about.place = places[chosen]
		}
		agent := one(f, agentTypes)
		batch := new(pgx.Batch)
		batch.Queue(`INSERT INTO messages (thread_id, role, content, metadata) VALUES ($1, 'user', $2, $3)`,
			threads[chosen], about.question(f, f.IntN(2) == 0), ours)
		batch.Queue(`INSERT INTO runs (thread_id, user_id, agent_type, input_data, metadata) VALUES ($1, $2, $3, $4, $5)`,
			threads[chosen], user, agent, about.input(f, agent), fmt.Sprintf(`{"demo": true, "environment": %q}`, one(f, environments)))
		batch.Queue(`UPDATE threads SET updated_at = now() WHERE id = $1`, threads[chosen])
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("ask for a run: %w", err)
		}
		a.touch(threads[chosen])
		return nil
	})
}

func (a *agents) touch(thread uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.touched[thread]++
}

// job is a run that an agent has taken.
type job struct {
	workload
	topic topic
	model model
	began time.Time
}

// take gives pending runs to agents that have nothing to do, the oldest first. No two agents get the same one, not even of two programs.
func (a *agents) take(ctx context.Context, f *fiction, working *sync.WaitGroup) error {
	idle := cap(a.free) - len(a.free)
	if idle == 0 {
		return nil
	}
	// What is taken must be known to be: a statement cut off half-way may have taken runs that nobody then works on.
	taking, cancel := outliving(ctx)
	defer cancel()
	rows, err := a.pool.Query(taking, `WITH next AS MATERIALIZED (
			SELECT id FROM runs
			WHERE status = 'pending' AND created_at <= now() - interval '300 milliseconds'
				OR status = 'processing' AND metadata @> $2 AND started_at < now() - $3::interval
			ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED)
		UPDATE runs r SET status = 'processing', started_at = clock_timestamp(), metadata = coalesce(r.metadata, '{}') || $2
		FROM next WHERE r.id = next.id
		RETURNING r.id, r.user_id, coalesce(r.thread_id, '00000000-0000-0000-0000-000000000000'), coalesce(r.agent_type, ''),
			coalesce(r.metadata ->> 'environment', ''), coalesce(r.input_data ->> 'question', '')`,
		idle, fmt.Sprintf(`{"worker": %q}`, worker), orphaned)
	if err != nil {
		return fmt.Errorf("take pending runs: %w", err)
	}
	jobs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (job, error) {
		j := job{model: one(f, languageModels), began: time.Now()}
		var question string
		err := row.Scan(&j.run, &j.user, &j.thread, &j.agent, &j.environment, &question)
		j.topic = f.topicOf(question)
		return j, err
	})
	if err != nil {
		return fmt.Errorf("take pending runs: %w", err)
	}
	for _, j := range jobs {
		a.free <- struct{}{}
		working.Go(func() {
			defer func() { <-a.free }()
			a.work(ctx, newFiction(rand.Uint64()), j)
		})
	}
	return nil
}

// work takes a run to its end, which may be the end of the agents.
func (a *agents) work(ctx context.Context, f *fiction, j job) {
	var measured []event
	steps := 1 + f.IntN(3)
	for step := range steps {
		if !wait.For(ctx, time.Duration(f.about(600, 0.5))*time.Millisecond) {
			break
		}
		if step == steps-1 {
			measured = append(measured, f.call(j.workload, j.model, time.Now()))
			continue
		}
		tool := f.toolCall(j.workload, time.Now())
		measured = append(measured, tool)
		content := j.topic.toolResult(f, tool.dimensions[0][1])
		if a.insist(ctx, "write a message", func(ctx context.Context) error { return a.tell(ctx, j, content) }) != nil {
			break
		}
	}
	status := "completed"
	switch x := f.IntN(100); {
	case x < 10:
		status = "failed"
	case x < 15:
		status = "cancelled"
	}
	finish := func(ctx context.Context) error { return a.finish(ctx, f, &j, status) }
	err := a.insist(ctx, "end a run", finish)
	if ctx.Err() != nil && err != nil {
		parting, cancel := outliving(ctx)
		defer cancel()
		status = "cancelled"
		err = finish(parting) // otherwise another agent finds it orphaned
	}
	if err != nil || j.status == "" {
		return
	}
	now, end := time.Now(), "stop"
	if j.status == "failed" {
		end = "error"
	}
	a.measure(f.step(j.workload, "start", j.began, 0))
	for _, e := range measured {
		e.of.status = j.status
		e.dimensions = slices.Clone(e.dimensions)
		for i := range e.dimensions {
			if e.dimensions[i][0] == "status" {
				e.dimensions[i][1] = j.status
			}
		}
		a.measure(e)
	}
	a.measure(f.step(j.workload, end, now, now.Sub(j.began)))
}

// insist repeats what fails for want of a database. It returns an error when that cannot help, or ctx has ended.
func (a *agents) insist(ctx context.Context, what string, do func(context.Context) error) error {
	for failures := 1; ; failures++ {
		err := do(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && !transient(refused.Code) {
			a.cfg.Log.WarnContext(ctx, "a simulated agent gave up a run", "step", what, "error", err)
			return err
		}
		a.postgresAway.note(ctx, err)
		if err == nil {
			return nil
		}
		if !wait.For(ctx, retryPause(failures)) {
			return ctx.Err()
		}
	}
}

// transient says whether PostgreSQL may answer otherwise another time: lost connections, deadlocks, no resources, shutdown, system errors.
func transient(code string) bool {
	for _, class := range []string{"08", "40", "53", "55", "57", "58"} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}

// tell writes what a tool has found into the thread, if there is one still.
func (a *agents) tell(ctx context.Context, j job, content string) error {
	if j.thread == uuid.Nil {
		return nil
	}
	_, err := a.pool.Exec(ctx, `INSERT INTO messages (thread_id, role, content, metadata) SELECT id, 'tool', $2, $3 FROM threads WHERE id = $1 FOR KEY SHARE`,
		j.thread, content, ours)
	if err == nil {
		a.touch(j.thread)
	}
	return err
}

// finish ends the run and answers in the thread. It leaves the job's status empty when somebody else has ended or deleted the run.
func (a *agents) finish(ctx context.Context, f *fiction, j *job, status string) error {
	var output, failure any
	switch status {
	case "completed":
		output = j.topic.output(f, j.agent)
	case "failed":
		failure = one(f, failures)
	}
	ended := false
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var thread *uuid.UUID
		err := tx.QueryRow(ctx, `UPDATE runs SET status = $2, output_data = $3, error_message = $4, completed_at = clock_timestamp()
			WHERE id = $1 AND status = 'processing' RETURNING thread_id`, j.run, status, output, failure).Scan(&thread)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		ended = true
		if thread == nil {
			return nil
		}
		batch := new(pgx.Batch)
		if status == "completed" {
			answer := j.topic.answer(f)
			batch.Queue(`INSERT INTO messages (thread_id, role, content, tokens_used, model, metadata) VALUES ($1, 'assistant', $2, $3, $4, $5)`,
				*thread, answer, len(answer)/4+f.IntN(900), j.model.name, ours)
			a.touch(*thread)
		}
		batch.Queue(`UPDATE threads SET updated_at = now() WHERE id = $1`, *thread)
		return tx.SendBatch(ctx, batch).Close()
	})
	if err == nil && ended {
		j.status = status
	}
	return err
}

// tidy keeps a long session from growing without end. Besides rows that the agents have made it deletes nothing.
func (a *agents) tidy(ctx context.Context, _ *fiction) error {
	if _, err := a.pool.Exec(ctx, `DELETE FROM runs WHERE id IN (
			SELECT old.id FROM users u CROSS JOIN LATERAL (
				SELECT id FROM runs WHERE user_id = u.id AND metadata @> $2 AND status NOT IN ('pending', 'processing')
				ORDER BY created_at DESC, id DESC OFFSET $3) old
			WHERE u.email = ANY ($1))`, []string{Alice, Bob, Admin}, ours, a.cfg.Keep); err != nil {
		return fmt.Errorf("delete old runs: %w", err)
	}
	threads, err := a.grown(ctx)
	if err != nil {
		return fmt.Errorf("look for threads that have grown: %w", err)
	}
	for _, thread := range threads {
		if _, err := a.pool.Exec(ctx, `WITH made AS MATERIALIZED (SELECT id, created_at FROM messages WHERE thread_id = $1 AND metadata @> $2)
			DELETE FROM messages m USING (SELECT id FROM made ORDER BY created_at DESC, id DESC OFFSET $3) old WHERE m.id = old.id`,
			thread, ours, keepMessages); err != nil {
			return fmt.Errorf("delete old messages: %w", err)
		}
		a.mu.Lock()
		delete(a.touched, thread)
		a.mu.Unlock()
	}
	return nil
}

// grown are the threads with so many messages of ours since they were last looked through that it is worth doing again. What earlier
// agents have left is not known at first, so it begins with those that all agents write in.
func (a *agents) grown(ctx context.Context) ([]uuid.UUID, error) {
	a.mu.Lock()
	var threads []uuid.UUID
	for thread, messages := range a.touched {
		if messages >= keepMessages/4 {
			threads = append(threads, thread)
		}
	}
	known := a.known
	a.mu.Unlock()
	if known {
		return threads, nil
	}
	rows, err := a.pool.Query(ctx, `SELECT t.id FROM users u CROSS JOIN LATERAL (
			SELECT id FROM threads WHERE user_id = u.id AND status = 'active' ORDER BY created_at DESC, id DESC LIMIT $2) t
		WHERE u.email = ANY ($1)`, []string{Alice, Bob, Admin}, agentThreads)
	if err != nil {
		return nil, err
	}
	if threads, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known = true
	return threads, nil
}

// measure never waits: while ClickHouse is away for long, the newest measurements are lost.
func (a *agents) measure(e event) {
	select {
	case a.events <- e:
	default:
	}
}

// report writes what was measured, a block a second, until there is nothing more to come.
func (a *agents) report(ctx context.Context) {
	var waiting []event
	failures := 0
	for open := true; open; {
		// The agents' end is the channel's, not ctx's: they have something to say until then.
		timer := time.NewTimer(reportEvery + retryPause(failures))
		for due := false; open && !due; {
			var e event
			select {
			case e, open = <-a.events:
				if open && len(waiting) < unreported {
					waiting = append(waiting, e)
				}
			case <-timer.C:
				due = true
			}
		}
		timer.Stop()
		if len(waiting) == 0 {
			continue
		}
		limit := writeTimeout
		if !open {
			limit = partingTime
		}
		writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		err := writeEvents(writing, a.clickhouse, slices.Values(waiting), ours)
		cancel()
		a.clickhouseAway.note(ctx, err)
		failures = counted(failures, err)
		if err == nil {
			waiting = waiting[:0]
		}
	}
}
