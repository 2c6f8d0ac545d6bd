// Package embedded runs the development engines: the real PostgreSQL and the real ClickHouse, as processes that belong to
// one data directory. Production names its servers by URL and does not use it.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
)

// Config says where both engines live and how they run.
type Config struct {
	Dir               string // holds a directory for each engine
	PostgresPort      int    // as in PostgresConfig
	PostgresBinaries  string
	ClickHousePort    int // as in ClickHouseConfig
	ClickHouseLibrary string
	PostgresBuffers   string       // as in PostgresConfig
	Fast              bool         // likewise
	Progress          func(string) // called from several goroutines
	Log               *slog.Logger
}

// Engines are both engines, running.
type Engines struct {
	Postgres   *Postgres
	ClickHouse *ClickHouse

	done chan struct{}
	err  error // written before done is closed
}

// Start starts both engines at once and returns when both answer. When one fails the other is stopped. Like each of
// them, they outlive ctx.
func Start(ctx context.Context, cfg Config) (*Engines, error) {
	// Before the engines do, one of which would close it to the user that the other runs as.
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("start engines: %w", unwritable(filepath.Dir(cfg.Dir), err))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		e           = &Engines{done: make(chan struct{})}
		starts      sync.WaitGroup
		first       sync.Once
		failure     error
		failedFirst = func(err error) {
			if err != nil {
				first.Do(func() { failure = err; cancel() })
			}
		}
	)
	starts.Go(func() {
		var err error
		e.Postgres, err = StartPostgres(ctx, PostgresConfig{
			Dir: filepath.Join(cfg.Dir, "postgres"), Port: cfg.PostgresPort, Binaries: cfg.PostgresBinaries,
			Buffers: cfg.PostgresBuffers, Fast: cfg.Fast, Progress: cfg.Progress, Log: cfg.Log,
		})
		failedFirst(err)
	})
	starts.Go(func() {
		var err error
		e.ClickHouse, err = StartClickHouse(ctx, ClickHouseConfig{
			Dir: filepath.Join(cfg.Dir, "clickhouse"), Port: cfg.ClickHousePort, Library: cfg.ClickHouseLibrary,
			Progress: cfg.Progress, Log: cfg.Log,
		})
		failedFirst(err)
	})
	starts.Wait()
	if failure != nil {
		// That the other engine cannot be stopped adds nothing to why there is nothing to run.
		_ = e.Stop(context.WithoutCancel(ctx))
		return nil, failure
	}
	go e.watch()
	return e, nil
}

// Environment is how to reach the engines, as NAME=value for the variables that netra reads.
func (e *Engines) Environment() []string {
	return []string{
		"NETRA_DATABASE_URL=" + e.Postgres.AppURL(),
		"NETRA_OWNER_DATABASE_URL=" + e.Postgres.OwnerURL(),
		"NETRA_CLICKHOUSE_URL=" + e.ClickHouse.URL(),
	}
}

// Stop stops both engines at once and returns when their processes are gone; see their own Stop on ctx.
func (e *Engines) Stop(ctx context.Context) error {
	var (
		stops                sync.WaitGroup
		postgres, clickHouse error
	)
	if e.Postgres != nil {
		stops.Go(func() { postgres = e.Postgres.Stop(ctx) })
	}
	if e.ClickHouse != nil {
		stops.Go(func() { clickHouse = e.ClickHouse.Stop(ctx) })
	}
	stops.Wait()
	return errors.Join(postgres, clickHouse)
}

// Done is closed when one of the engines has ended for good.
func (e *Engines) Done() <-chan struct{} { return e.done }

// Err says which engine ended and why. It is nil before Done is closed, and after Stop.
func (e *Engines) Err() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

func (e *Engines) watch() {
	defer close(e.done)
	select {
	case <-e.Postgres.Done():
		e.err = e.Postgres.Err()
	case <-e.ClickHouse.Done():
	}
}
