package store

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"golang.org/x/sync/singleflight"
)

// Config says which database, and within which bounds.
type Config struct {
	URL              string        // of PostgreSQL, as the application role
	MaxConnections   int           // 60 unless set
	IdleConnections  int           // as many as MaxConnections unless set; given back after 5 minutes without use
	StatementTimeout time.Duration // after which PostgreSQL gives a statement up; 10 s unless set
	Slow             time.Duration // from which on a statement is logged; 500 ms unless set
	Log              *slog.Logger
}

// Store answers questions from PostgreSQL, each for the viewer of its context.
type Store struct {
	db      *bun.DB
	most    int // connections
	viewers viewers
	keys    keyCache
	few     lines // of parties of few rows
	many    lines

	viewing    singleflight.Group // questions about viewers
	background sync.WaitGroup     // who asks for the version of viewers, and who drives trips
	log        *slog.Logger
}

// Open makes a store. It does not connect: a database that is away is an error of the questions, not of Open.
func Open(cfg Config) (*Store, error) {
	parsed, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("parse the URL of PostgreSQL: %w", err)
	}
	parsed.RuntimeParams["application_name"] = "netra"
	parsed.RuntimeParams["statement_timeout"] = fmt.Sprint(or(cfg.StatementTimeout, 10*time.Second).Milliseconds())
	parsed.RuntimeParams["idle_in_transaction_session_timeout"] = "30000"
	if parsed.ConnectTimeout == 0 {
		parsed.ConnectTimeout = 5 * time.Second
	}
	// Cancelling asks the server to stop the statement and keeps the connection, if the server obeys within the delay.
	parsed.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Second}
	}
	parsed.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		return pgproto3.NewFrontend(bufio.NewReaderSize(r, readBuffer), w)
	}
	db := sql.OpenDB(&connector{
		Connector: stdlib.GetConnector(*parsed),
		slow:      or(cfg.Slow, 500*time.Millisecond),
		log:       cfg.Log,
	})
	most := or(cfg.MaxConnections, 60)
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(or(cfg.IdleConnections, most))
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour)
	few := min(runtime.GOMAXPROCS(0), most)
	return &Store{
		db:   bun.NewDB(db, pgdialect.New()),
		most: most,
		few:  newLines(few, crowdOfFew),
		many: newLines(max(1, min(2*few, most-few)), 0),
		log:  cfg.Log,
	}, nil
}

// readBuffer takes what PostgreSQL has sent while we were not looking, in one system call: it sends pieces of 8 KB, and pgx reads such.
const readBuffer = 64 << 10

func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

// Close gives the connections back.
func (s *Store) Close() error {
	err := s.db.Close()
	s.background.Wait()
	return err
}

// Ping asks whether the database answers. It fails with DatabaseUnavailable or Timeout.
func (s *Store) Ping(ctx context.Context) error { return translate(ctx, s.db.PingContext(ctx)) }

// Stats are the connection pool's.
func (s *Store) Stats() sql.DBStats { return s.db.Stats() }

// Waiting is how many operations have reads that wait to share a trip to PostgreSQL.
func (s *Store) Waiting() int { return s.few.count() + s.many.count() }

// query runs parameterised SQL and scans its rows. The statement is prepared once for each connection.
func query[T any](ctx context.Context, s *Store, q *statement) ([]T, error) {
	text, args := q.String(), arguments(slices.Clone(q.args))
	if q.rows > 0 && ctx.Err() == nil {
		into := &found[T]{db: s.db}
		ask := &question{store: s, ctx: ctx, step: step{text: text, args: args, into: into}, rows: q.rows, told: make(chan struct{})}
		if ridden, err := ask.ride(); ridden {
			return into.taken(translate(ctx, err))
		}
	}
	alone(ctx)
	into := &found[T]{db: s.db}
	err := s.on(ctx, func(c *conn) error { return c.collect(ctx, text, args, into) })
	return into.taken(translate(ctx, err))
}

// on has a connection of the pool do something, and another where it is found to be gone. There are no more of those than the pool holds.
func (s *Store) on(ctx context.Context, do func(*conn) error) error {
	for tries := s.most; ; tries-- {
		session, err := s.db.DB.Conn(ctx)
		if err != nil {
			return err
		}
		err = session.Raw(func(c any) error { return do(c.(*conn)) })
		if closing := session.Close(); err == nil {
			err = closing
		}
		if !isGone(err) || tries == 0 {
			return err
		}
	}
}
