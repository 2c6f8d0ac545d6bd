package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// AgentsConfig says which databases the agents write to, and how busily.
type AgentsConfig struct {
	OwnerURL      string
	ClickHouseURL string
	Rate          float64 // runs that are asked for each second
	Concurrency   int     // agents that work at once
	Log           *slog.Logger
}

// kept is how many of their own runs and messages the agents leave for each demo user, so that a long session does not grow without end.
const kept = 300

// RunAgents asks for runs on behalf of the demo users and works on pending ones, until ctx ends. Agents are other programs: they write with SQL
// of their own and the server learns of it only from the database. A database that is away is tried again.
func RunAgents(ctx context.Context, cfg AgentsConfig) error {
	if cfg.Rate <= 0 || cfg.Concurrency < 1 {
		return errors.New("agents need a rate above 0 and a concurrency of at least 1")
	}
	poolConfig, err := pgxpool.ParseConfig(cfg.OwnerURL)
	if err != nil {
		return errors.New("parse the owner's URL of PostgreSQL: it is malformed") // the cause repeats the password
	}
	poolConfig.ConnConfig.RuntimeParams["netra.superuser"] = "on"
	poolConfig.ConnConfig.RuntimeParams["application_name"] = "netra agents"
	poolConfig.MaxConns = int32(cfg.Concurrency) + 1
	pool, err := pgxpool.NewWithConfig(ctx, poolConfig)
	if err != nil {
		return fmt.Errorf("make a pool of connections: %w", err)
	}
	defer pool.Close()
	a := &agents{cfg: cfg, pool: pool, events: make(chan event, 1000)}
	var working sync.WaitGroup
	working.Go(func() { a.report(ctx) })
	working.Go(func() {
		a.every(ctx, time.Duration(float64(time.Second)/cfg.Rate), a.fiction(), a.ask)
	})
	for range cfg.Concurrency {
		working.Go(func() { a.every(ctx, 200*time.Millisecond, a.fiction(), a.work) })
	}
	working.Wait()
	return nil
}

type agents struct {
	cfg    AgentsConfig
	pool   *pgxpool.Pool
	events chan event
	seeds  sync.Mutex
	seed   uint64
}

// fiction is a worker's own: its source of chance is not shared.
func (a *agents) fiction() *fiction {
	a.seeds.Lock()
	defer a.seeds.Unlock()
	a.seed++
	return newFiction(uint64(time.Now().UnixNano()) + a.seed)
}

// every does something again and again, with longer pauses while it fails.
func (a *agents) every(ctx context.Context, pause time.Duration, f *fiction, do func(context.Context, *fiction) error) {
	failures := 0
	for {
		wait := pause
		if err := do(ctx, f); err != nil && ctx.Err() == nil {
			if failures == 0 {
				a.cfg.Log.Warn("an agent cannot reach its database; it goes on trying", "error", err)
			}
			failures++
			wait = min(time.Duration(failures)*time.Second, 10*time.Second)
		} else {
			failures = 0
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ask is a demo user who says something and wants an agent to work on it.
func (a *agents) ask(ctx context.Context, f *fiction) error {
	email := one(f, []string{Alice, Alice, Alice, Bob, Admin})
	return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		var user int
		var thread uuid.UUID
		err := tx.QueryRow(ctx, `SELECT t.user_id, t.id FROM threads t JOIN users u ON u.id = t.user_id
			WHERE u.email = $1 AND t.status = 'active' ORDER BY t.created_at DESC OFFSET $2 LIMIT 1`, email, f.IntN(8)).Scan(&user, &thread)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // nobody there to ask, or not so many threads
		}
		if err != nil {
			return fmt.Errorf("choose a thread: %w", err)
		}
		question := f.question()
		batch := new(pgx.Batch)
		batch.Queue(`INSERT INTO messages (thread_id, role, content, metadata) VALUES ($1, 'user', $2, '{"demo": true}')`, thread, question)
		batch.Queue(`INSERT INTO runs (thread_id, user_id, status, agent_type, input_data, metadata) VALUES ($1, $2, 'pending', $3, $4, '{"demo": true}')`,
			thread, user, one(f, agentTypes), map[string]any{"question": question})
		batch.Queue(`DELETE FROM runs WHERE user_id = $1 AND metadata @> '{"demo": true}' AND created_at <=
			(SELECT created_at FROM runs WHERE user_id = $1 AND metadata @> '{"demo": true}' ORDER BY created_at DESC OFFSET $2 LIMIT 1)`, user, kept)
		batch.Queue(`DELETE FROM messages WHERE thread_id = $1 AND metadata @> '{"demo": true}' AND created_at <=
			(SELECT created_at FROM messages WHERE thread_id = $1 AND metadata @> '{"demo": true}' ORDER BY created_at DESC OFFSET $2 LIMIT 1)`, thread, kept)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("ask for a run: %w", err)
		}
		return nil
	})
}

// work takes the oldest pending run through to an end. Another agent never takes the same one.
func (a *agents) work(ctx context.Context, f *fiction) error {
	w := workload{status: "processing"}
	var agent *string
	var thread *uuid.UUID
	err := a.pool.QueryRow(ctx, `UPDATE runs SET status = 'processing', started_at = clock_timestamp() WHERE id =
		(SELECT id FROM runs WHERE status = 'pending' ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, user_id, thread_id, agent_type`).
		Scan(&w.id, &w.user, &thread, &agent)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take a run: %w", err)
	}
	if agent != nil {
		w.agent = *agent
	}
	if thread != nil {
		w.thread = *thread
	}
	if !sleep(ctx, time.Duration(300+f.IntN(2500))*time.Millisecond) {
		return nil
	}
	w.status = one(f, []string{"completed", "completed", "completed", "completed", "completed", "completed", "failed", "cancelled"})
	if err := a.finish(ctx, f, w, thread); err != nil {
		return fmt.Errorf("end a run: %w", err)
	}
	select {
	case a.events <- f.measured(w, time.Now().UTC()):
	default: // ClickHouse has been away for long; a demo may lose a measurement
	}
	return nil
}

func (a *agents) finish(ctx context.Context, f *fiction, w workload, thread *uuid.UUID) error {
	answer := f.answer()
	var output, failure any
	switch w.status {
	case "completed":
		output = map[string]any{"summary": answer}
	case "failed":
		failure = one(f, failures)
	}
	return pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		batch := new(pgx.Batch)
		batch.Queue(`UPDATE runs SET status = $2, output_data = $3, error_message = $4, completed_at = clock_timestamp() WHERE id = $1`, w.id, w.status, output, failure)
		if thread != nil && w.status == "completed" {
			batch.Queue(`INSERT INTO messages (thread_id, role, content, tokens_used, model, metadata) VALUES ($1, 'assistant', $2, $3, $4, '{"demo": true}')`,
				*thread, answer, 80+f.IntN(900), one(f, modelNames))
			batch.Queue(`UPDATE threads SET updated_at = clock_timestamp() WHERE id = $1`, *thread)
		}
		return tx.SendBatch(ctx, batch).Close()
	})
}

// report writes what the agents measured, about once a second in one block.
func (a *agents) report(ctx context.Context) {
	var waiting []event
	a.every(ctx, time.Second, nil, func(ctx context.Context, _ *fiction) error {
		for len(waiting) < cap(a.events) && len(a.events) > 0 {
			waiting = append(waiting, <-a.events)
		}
		if len(waiting) == 0 {
			return nil
		}
		conn, err := openClickHouse(a.cfg.ClickHouseURL)
		if err != nil {
			return err
		}
		next := 0
		err = writeEvents(ctx, conn, len(waiting), func() event { next++; return waiting[next-1] })
		if err == nil {
			waiting = waiting[:0]
		}
		return errors.Join(err, conn.Close())
	})
}
