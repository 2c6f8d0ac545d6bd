package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

// began is when a read's transaction began, which is the same for all who shared a trip.
func began(ctx context.Context, s *Store, where string, args ...any) (time.Time, error) {
	q := fixed("SELECT now() AS began "+where, args...)
	q.rows = 1
	rows, err := query[struct{ Began time.Time }](ctx, s, q)
	if err != nil {
		return time.Time{}, err
	}
	return rows[0].Began, nil
}

const waitsFor = "FROM (SELECT pg_advisory_xact_lock_shared($1)) AS lock"

// oneLine is a store with one line, which is busy until free is called, and with patience.
func oneLine(t *testing.T, cfg Config) (s *Store, free func()) {
	t.Helper()
	s, err := Open(cfg)
	require.NoError(t, err)
	s.few.all, s.few.free, s.few.hold, s.few.patience = 1, 1, time.Hour, time.Hour
	require.Len(t, s.few.take(&party{ctx: t.Context()}), 1)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, func() { s.background.Go(func() { s.drive(&s.few, s.few.next()) }) }
}

// shared has n operations wait for the one line, and share the trip that it makes then.
func shared(t *testing.T, s *Store, free func(), n int, operation func(i int)) {
	t.Helper()
	var asking sync.WaitGroup
	for i := range n {
		asking.Go(func() { operation(i) })
	}
	eventually(t, func() bool { return s.Waiting() == n })
	free()
	asking.Wait()
}

// active counts the backends that run a statement with this mark in it.
func active(t *testing.T, db *testdb.DB, mark string) func() int {
	t.Helper()
	owner := db.Owner(t)
	return func() (n int) {
		require.NoError(t, owner.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND state = 'active' AND query LIKE '%/* ' || $1 || ' */%' AND pid <> pg_backend_pid()`, mark).Scan(&n))
		return n
	}
}

// barrier holds an advisory lock until it is called.
func barrier(t *testing.T, db *testdb.DB, number int) (open func()) {
	t.Helper()
	tx, err := db.Owner(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "SELECT pg_advisory_xact_lock($1)", number)
	require.NoError(t, err)
	return sync.OnceFunc(func() { require.NoError(t, tx.Rollback()) })
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, time.Millisecond)
}

func TestLines(t *testing.T) {
	t.Parallel()
	_, db := setup(t)
	quiet := Config{URL: db.AppURL, Log: slog.New(slog.DiscardHandler)}
	viewer := func(t *testing.T, id int) (context.Context, *models.Tally) {
		tally := new(models.Tally)
		return models.WithTally(as(t, models.Viewer{UserID: id}), tally), tally
	}

	t.Run("operations that find no line free share the next trip, each as its own viewer", func(t *testing.T) {
		t.Parallel()
		s, free := oneLine(t, quiet)
		var asking sync.WaitGroup
		times := make([]time.Time, 4)
		for i := range times {
			asking.Go(func() {
				id := 1 + i%2
				ctx, tally := viewer(t, id)
				beside(ctx, func(ctx context.Context) {
					var err error
					times[i], err = began(ctx, s, "")
					require.NoError(t, err)
				}, func(ctx context.Context) {
					rows, err := s.Users(ctx, []int{1, 2, 3}, nil)
					require.NoError(t, err)
					require.Len(t, rows, 1)
					require.Equal(t, id, rows[0].DatabaseID)
				})
				require.EqualValues(t, 1, tally.Trips.Load())
				require.EqualValues(t, 2, tally.Statements.Load())
			})
		}
		eventually(t, func() bool { return s.Waiting() == len(times) })
		free()
		asking.Wait()
		for _, at := range times {
			require.Equal(t, times[0], at)
		}
		require.Zero(t, s.Waiting())
		require.Equal(t, 1, s.Stats().OpenConnections)
	})
	t.Run("parties of many rows have lines of their own", func(t *testing.T) {
		t.Parallel()
		s := connect(t, db.AppURL)
		few, many := &party{questions: []*question{{rows: 1}}}, &party{questions: []*question{{rows: manyRows}}}
		require.Same(t, &s.few, s.linesFor(few))
		require.Same(t, &s.many, s.linesFor(many))
		for connections, want := range map[int][2]int{1: {1, 1}, 2: {min(2, runtime.GOMAXPROCS(0)), 1}, 1000: {runtime.GOMAXPROCS(0), 2 * runtime.GOMAXPROCS(0)}} {
			made, err := Open(Config{URL: db.AppURL, MaxConnections: connections})
			require.NoError(t, err)
			require.Equal(t, want, [2]int{made.few.free, made.many.free}, "%d connections", connections)
			require.NoError(t, made.Close())
		}
	})
	t.Run("beside a trip another begins when a crowd waits", func(t *testing.T) {
		t.Parallel()
		l := newLines(3, 3)
		take := func() int { return len(l.take(&party{ctx: t.Context()})) }
		require.Empty(t, l.more())
		require.Equal(t, 1, take(), "nobody waits while nothing is under way")
		for _, want := range []int{0, 0, 3, 0} {
			l.began = time.Now().Add(time.Hour)
			require.Equal(t, want, take())
		}
		require.Len(t, l.more(), 1, "or after a while")
		for range 3 {
			require.Zero(t, take(), "all lines are taken")
		}
		require.Empty(t, l.more())
		require.Len(t, l.next(), 3)
		for range 3 {
			require.Empty(t, l.next())
		}
		require.Equal(t, 3, l.free)
	})
	t.Run("who waits for a crowd waits no longer than a while", func(t *testing.T) {
		t.Parallel()
		open := barrier(t, db, 4)
		defer open()
		s, err := Open(quiet)
		require.NoError(t, err)
		s.few.all, s.few.free, s.few.hold = 2, 2, time.Hour
		running := active(t, db, "first of two")
		var first sync.WaitGroup
		first.Go(func() {
			ctx, _ := viewer(t, 1)
			_, err := began(ctx, s, waitsFor+" /* first of two */", 4)
			require.NoError(t, err)
		})
		eventually(t, func() bool { return running() == 1 })
		ctx, _ := viewer(t, 2)
		_, err = began(ctx, s, "")
		require.NoError(t, err)
		require.Equal(t, 1, running())
		open()
		first.Wait()
		require.NoError(t, s.Close())
	})
	t.Run("a trip holds no more than it can", func(t *testing.T) {
		t.Parallel()
		l := newLines(1, 0)
		require.Len(t, l.take(&party{ctx: t.Context()}), 1)
		for _, rows := range []int{1, fullTrip / 2, fullTrip / 2, 2 * fullTrip, 1, 1} {
			require.Empty(t, l.take(&party{ctx: t.Context(), questions: []*question{{rows: rows}}}))
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		require.Empty(t, l.take(&party{ctx: gone}))
		for _, want := range []int{2, 1, 1, 2, 0} {
			require.Len(t, l.next(), want)
		}
		require.Equal(t, 1, l.free)
	})
	t.Run("one that fails fails alone", func(t *testing.T) {
		t.Parallel()
		for wrong, connections := range map[string]int{"WHERE 1 / ($1::int - $1::int) = 1": 1, "FROM nowhere WHERE $1": 6} {
			s, free := oneLine(t, quiet)
			shared(t, s, free, 5, func(i int) {
				ctx, _ := viewer(t, 1+i%2)
				if i%2 == 0 {
					_, err := began(ctx, s, wrong, 1)
					require.Error(t, err)
				} else {
					require.Len(t, emails(t, s, ctx), 1)
				}
			})
			require.LessOrEqual(t, s.Stats().OpenConnections, connections, "what comes after one that fails is asked on the same connection")
		}
	})
	t.Run("one whose rows cannot be taken panics where it was asked, and nowhere else", func(t *testing.T) {
		t.Parallel()
		s, free := oneLine(t, quiet)
		shared(t, s, free, 3, func(i int) {
			ctx, _ := viewer(t, 1)
			q := fixed("SELECT 1 AS n")
			q.rows = 1
			if i == 1 {
				require.Panics(t, func() { _, _ = query[int](ctx, s, q) })
			} else {
				_, err := query[struct{ N int }](ctx, s, q)
				require.NoError(t, err)
			}
		})
	})
	t.Run("a trip that takes long holds up neither who comes later nor, in the end, who shares it, and goes on for nobody", func(t *testing.T) {
		t.Parallel()
		open := barrier(t, db, 1)
		defer open()
		s, free := oneLine(t, quiet)
		s.few.hold, s.few.patience = time.Millisecond, 100*time.Millisecond
		running := active(t, db, "takes long")
		var slow, quick sync.WaitGroup
		slow.Go(func() {
			ctx, _ := viewer(t, 1)
			_, err := began(ctx, s, waitsFor+" /* takes long */", 1)
			require.NoError(t, err)
		})
		eventually(t, func() bool { return s.Waiting() == 1 })
		for range 3 {
			quick.Go(func() {
				ctx, _ := viewer(t, 2)
				_, err := began(ctx, s, "")
				require.NoError(t, err)
			})
		}
		eventually(t, func() bool { return s.Waiting() == 4 })
		free()
		quick.Wait()
		ctx, _ := viewer(t, 2)
		_, err := began(ctx, s, "")
		require.NoError(t, err)
		eventually(t, func() bool { return running() == 1 && s.Stats().InUse == 1 })
		open()
		slow.Wait()
	})
	forever := Config{URL: db.AppURL, Log: slog.New(slog.DiscardHandler), StatementTimeout: time.Hour}
	t.Run("who leaves does not wait, and a trip ends when all have left", func(t *testing.T) {
		t.Parallel()
		open := barrier(t, db, 2)
		defer open()
		s, free := oneLine(t, forever)
		s.few.hold = time.Millisecond
		running := active(t, db, "all leave")
		ctx, _ := viewer(t, 1)
		ctx, leave := context.WithCancel(ctx)
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				_, err := began(ctx, s, waitsFor+" /* all leave */", 2)
				require.ErrorIs(t, err, context.Canceled)
			})
		}
		eventually(t, func() bool { return s.Waiting() == 2 })
		free()
		eventually(t, func() bool { return running() > 0 })
		leave()
		asking.Wait()
		eventually(t, func() bool { return running() == 0 })
	})
	t.Run("who leaves a line that was free ends the trip", func(t *testing.T) {
		t.Parallel()
		open := barrier(t, db, 3)
		defer open()
		s, err := Open(forever)
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		running := active(t, db, "leaves")
		ctx, _ := viewer(t, 1)
		ctx, leave := context.WithCancel(ctx)
		ended := make(chan error)
		go func() {
			_, err := began(ctx, s, waitsFor+" /* leaves */", 3)
			ended <- err
		}()
		eventually(t, func() bool { return running() == 1 })
		leave()
		require.ErrorIs(t, <-ended, context.Canceled)
		eventually(t, func() bool { return running() == 0 && s.Stats().InUse == 0 })
	})
	t.Run("a connection that ends halfway costs only the read that ended it", func(t *testing.T) {
		t.Parallel()
		s, free := oneLine(t, quiet)
		var asking sync.WaitGroup
		read := func(id int, text string, want string) {
			before := s.Waiting()
			asking.Go(func() {
				ctx, _ := viewer(t, id)
				q := fixed(text)
				q.rows = 1
				rows, err := query[struct{ Text string }](ctx, s, q)
				if want == "" {
					require.Equal(t, models.DatabaseUnavailable, models.CodeOf(err), "%v", err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, []struct{ Text string }{{want}}, rows)
			})
			eventually(t, func() bool { return s.Waiting() == before+1 })
		}
		long := strings.Repeat("x", 100_000)            // PostgreSQL sends it before it goes on
		const whose = "SELECT email AS text FROM users" // as a policy lets see
		read(1, "SELECT repeat('x', 100000) || email AS text FROM users", long+"a@example.com")
		read(2, "SELECT '' AS text FROM (SELECT pg_sleep(0) OFFSET 0) AS slept, LATERAL (SELECT pg_terminate_backend(pg_backend_pid()) WHERE slept IS NOT NULL) AS over", "")
		read(3, whose, "c@example.com")
		read(1, whose, "a@example.com")
		free()
		asking.Wait()
		eventually(t, func() bool { return s.Stats().InUse == 0 })
	})
	t.Run("who leaves while it waits costs nothing", func(t *testing.T) {
		t.Parallel()
		s, free := oneLine(t, quiet)
		ctx, tally := viewer(t, 1)
		ctx, leave := context.WithCancel(ctx)
		left := make(chan error)
		go func() {
			_, err := began(ctx, s, "")
			left <- err
		}()
		eventually(t, func() bool { return s.Waiting() == 1 })
		leave()
		require.ErrorIs(t, <-left, context.Canceled)
		free()
		eventually(t, func() bool { return s.Waiting() == 0 })
		require.Zero(t, tally.Trips.Load())
	})
	t.Run("a cancellation that comes late ends nobody else's read", func(t *testing.T) {
		t.Parallel()
		for _, waits := range []int{1, 3} { // alone, and on a trip
			open := barrier(t, db, 10+waits)
			s, free := oneLine(t, forever)
			s.db.SetMaxOpenConns(1)
			running := active(t, db, fmt.Sprint("late ", waits))
			require.NoError(t, s.on(t.Context(), func(c *conn) error { c.stray = time.Now().Add(time.Hour); return nil }))
			var asking sync.WaitGroup
			for range waits {
				asking.Go(func() {
					ctx, _ := viewer(t, 1)
					q := fixed(fmt.Sprintf("SELECT 1 AS n FROM (SELECT pg_advisory_xact_lock_shared($1)) AS lock /* late %d */", waits), 10+waits)
					if waits > 1 {
						q.rows = 1
					}
					_, err := query[struct{ N int }](ctx, s, q)
					require.NoError(t, err)
				})
			}
			eventually(t, func() bool { return waits == 1 || s.Waiting() == waits })
			free()
			eventually(t, func() bool { return running() == 1 })
			_, err := db.Owner(t).ExecContext(t.Context(), "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%/* late ' || $1 || ' */%' AND pid <> pg_backend_pid()", fmt.Sprint(waits))
			require.NoError(t, err)
			open()
			asking.Wait()
		}
	})
	t.Run("connections that the database closed cost no query", func(t *testing.T) {
		t.Parallel()
		s, free := oneLine(t, quiet)
		s.db.SetMaxOpenConns(1)
		var pid int
		require.NoError(t, s.db.DB.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		var ended bool
		require.NoError(t, connect(t, db.AppURL).db.DB.QueryRowContext(t.Context(), "SELECT pg_terminate_backend($1, 60000)", pid).Scan(&ended))
		require.True(t, ended)
		var asking sync.WaitGroup
		for _, id := range []int{1, 3, 1} {
			asking.Go(func() {
				ctx, _ := viewer(t, id)
				require.Equal(t, []string{string(rune('a'+id-1)) + "@example.com"}, emails(t, s, ctx))
			})
		}
		eventually(t, func() bool { return s.Waiting() == 3 })
		free()
		asking.Wait()
	})
	t.Run("a database that is away is unavailable to all", func(t *testing.T) {
		t.Parallel()
		s, free := oneLine(t, Config{URL: "postgres://netra_app@127.0.0.1:1/none", Log: slog.New(slog.DiscardHandler)})
		shared(t, s, free, 3, func(_ int) {
			ctx, _ := viewer(t, 1)
			_, err := began(ctx, s, "")
			require.Equal(t, models.DatabaseUnavailable, models.CodeOf(err))
		})
	})
	t.Run("a slow trip is in the log once for each statement", func(t *testing.T) {
		t.Parallel()
		var log bytes.Buffer
		s, free := oneLine(t, Config{URL: db.AppURL, Slow: time.Nanosecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
		shared(t, s, free, 6, func(i int) {
			ctx, _ := viewer(t, 1)
			_, err := began(ctx, s, fmt.Sprintf("WHERE %d < 2", i%2))
			require.NoError(t, err)
		})
		eventually(t, func() bool { return s.Stats().InUse == 0 })
		require.Equal(t, 2, strings.Count(log.String(), "slow statement"), log.String())
	})
}

func TestLines_LetNobodySeeAnothersRows(t *testing.T) {
	t.Parallel()
	_, db := setup(t)
	s, err := Open(Config{URL: db.AppURL, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	s.few.all, s.few.free = 1, 1
	s.db.SetMaxOpenConns(3)
	ids := []int{1, 2, 3}
	seen := map[models.Viewer][]int{{}: nil, {UserID: 1}: {1}, {UserID: 2}: {2}, {UserID: 3}: {3}, {UserID: 4}: nil, {UserID: 1, Superuser: true}: ids, models.System: ids}
	var all []models.Viewer
	for viewer := range seen {
		all = append(all, viewer)
	}
	var asking sync.WaitGroup
	for seed := range uint64(16) {
		asking.Go(func() {
			r := rand.New(rand.NewPCG(seed, 2))
			for range 200 {
				viewer := all[r.IntN(len(all))]
				ctx, leave := context.WithCancel(as(t, viewer))
				if viewer == (models.Viewer{}) {
					ctx, leave = context.WithCancel(t.Context())
				}
				read := func(ctx context.Context) {
					rows, err := s.Users(ctx, ids, nil)
					if ctx.Err() != nil {
						return
					}
					require.NoError(t, err)
					var found []int
					for _, row := range rows {
						found = append(found, row.DatabaseID)
					}
					require.ElementsMatch(t, seen[viewer], found)
				}
				others := []func(context.Context){
					read, func(context.Context) {}, func(context.Context) { leave() },
					func(ctx context.Context) { _, _ = began(ctx, s, "WHERE 1 / ($1::int - $1::int) = 1", 1) },
				}
				beside(ctx, read, others[r.IntN(len(others))])
				leave()
			}
		})
	}
	asking.Wait()
	eventually(t, func() bool { s.few.mu.Lock(); defer s.few.mu.Unlock(); return s.few.free == 1 })
	require.Zero(t, s.Waiting())
	require.NoError(t, s.Close())
}
