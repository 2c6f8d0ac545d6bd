package store

import (
	"cmp"
	"context"
	"database/sql"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

func setup(t *testing.T) (*Store, *testdb.DB) {
	t.Helper()
	db := testdb.NewPostgres(t)
	_, err := db.Owner(t).ExecContext(t.Context(), `INSERT INTO users (id, email, is_active, is_superuser) VALUES
		(1, 'a@example.com', true, false), (2, 'b@example.com', true, true), (3, 'c@example.com', false, false)`)
	require.NoError(t, err)
	return connect(t, db.AppURL), db
}

func connect(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(Config{URL: url, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func as(t *testing.T, v models.Viewer) context.Context { return models.WithViewer(t.Context(), v) }

func emails(t *testing.T, s *Store, ctx context.Context) (found []string) {
	t.Helper()
	rows, err := s.Users(ctx, []int{1, 2, 3}, nil)
	require.NoError(t, err)
	for _, row := range rows {
		found = append(found, row.Email)
	}
	return found
}

func TestDriver(t *testing.T) {
	t.Parallel()
	s, db := setup(t)

	t.Run("a statement sees what its viewer may see, and nothing stays on the connection", func(t *testing.T) {
		t.Parallel()
		one := connect(t, db.AppURL)
		one.db.SetMaxOpenConns(1)
		require.ElementsMatch(t, []string{"a@example.com", "b@example.com", "c@example.com"}, emails(t, one, as(t, models.System)))
		require.Equal(t, []string{"a@example.com"}, emails(t, one, as(t, models.Viewer{UserID: 1})))
		require.Empty(t, emails(t, one, t.Context()), "without a viewer nothing is seen")
	})
	t.Run("a transaction belongs to its viewer", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, s.Write(as(t, models.Viewer{UserID: 1}), "test", func(tx *Tx) error {
			for range 2 {
				found, err := rowsOf[struct{ N int }](t.Context(), tx, "SELECT count(*) AS n FROM users")
				require.NoError(t, err)
				require.Equal(t, 1, found[0].N)
			}
			return nil
		}))
	})
	t.Run("a client that leaves stops its statement in the database", func(t *testing.T) {
		t.Parallel()
		ctx, leave := context.WithCancel(as(t, models.Viewer{UserID: 1}))
		ended := make(chan error, 1)
		go func() {
			_, err := s.db.DB.ExecContext(ctx, "SELECT pg_sleep(60) -- leaving")
			ended <- err
		}()
		sleeping := func() (n int) {
			require.NoError(t, db.Owner(t).QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND state = 'active' AND query LIKE '%pg_sleep(60) -- leaving' AND pid <> pg_backend_pid()`).Scan(&n))
			return n
		}
		require.Eventually(t, func() bool { return sleeping() == 1 }, time.Minute, 10*time.Millisecond)
		leave()
		require.Error(t, <-ended)
		require.Eventually(t, func() bool { return sleeping() == 0 }, time.Minute, 10*time.Millisecond)
	})
	t.Run("a statement that takes too long is a timeout", func(t *testing.T) {
		t.Parallel()
		hasty, err := Open(Config{URL: db.AppURL, StatementTimeout: 500 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, hasty.Close()) })
		_, err = hasty.db.DB.ExecContext(t.Context(), "SELECT pg_sleep(60)")
		require.Equal(t, models.Timeout, models.CodeOf(translate(t.Context(), err)))
	})
	t.Run("connections that the database closed cost no query", func(t *testing.T) {
		t.Parallel()
		again := connect(t, db.AppURL)
		again.db.SetMaxOpenConns(1)
		var pid int
		require.NoError(t, again.db.DB.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		// The application role may end its own backends.
		var ended bool
		require.NoError(t, s.db.DB.QueryRowContext(t.Context(), "SELECT pg_terminate_backend($1, 60000)", pid).Scan(&ended))
		require.True(t, ended)
		require.Equal(t, []string{"a@example.com"}, emails(t, again, as(t, models.Viewer{UserID: 1})))
	})
	t.Run("a database that is away is unavailable", func(t *testing.T) {
		t.Parallel()
		_, err := connect(t, "postgres://netra_app@127.0.0.1:1/none").Users(as(t, models.System), []int{1}, nil)
		require.Equal(t, models.DatabaseUnavailable, models.CodeOf(err))
	})
}

func TestStanding_IsAskedForInOneStatement(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	everybody := make([]models.Viewer, 10_000)
	for i := range everybody {
		everybody[i].UserID = i - 1
	}
	began := time.Now()
	viewers, err := s.Standing(t.Context(), everybody)
	require.NoError(t, err)
	t.Logf("%d viewers in %s", len(everybody), time.Since(began))
	for _, viewer := range viewers {
		one, err := s.Viewer(t.Context(), viewer.UserID)
		require.NoError(t, err)
		require.Equal(t, one, viewer)
	}
	require.NotEmpty(t, viewers)
	none, err := s.Standing(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestViewer(t *testing.T) {
	t.Parallel()
	s, db := setup(t)

	viewer, err := s.Viewer(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, models.Viewer{UserID: 1}, viewer)
	viewer, err = s.Viewer(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, models.Viewer{UserID: 2, Superuser: true}, viewer)
	for _, nobody := range []int{3, 4, -1} {
		_, err = s.Viewer(t.Context(), nobody)
		require.Equal(t, models.Unauthenticated, models.CodeOf(err))
	}

	_, err = db.Owner(t).ExecContext(t.Context(), "UPDATE users SET is_active = false WHERE id = 1")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := s.Viewer(t.Context(), 1)
		return models.CodeOf(err) == models.Unauthenticated
	}, time.Minute, 20*time.Millisecond, "a deactivated user is noticed")
}

func TestViewers_HoldAsLongAsNobodysStandingChanges(t *testing.T) {
	t.Parallel()
	s, db := setup(t)
	know := func() { // several as if asked about at once, however long it takes
		_, err := s.Viewer(t.Context(), 1)
		require.NoError(t, err)
		s.background.Wait()
		s.viewers.add(models.Viewer{UserID: 2}, s.viewers.version, s.viewers.asked)
	}
	known := func(changes string) int {
		_, err := db.Owner(t).ExecContext(t.Context(), changes)
		require.NoError(t, err)
		s.background.Wait()
		s.renewViewers(s.viewers.asked.Add(time.Millisecond))
		return len(s.viewers.known)
	}
	know()
	require.Equal(t, 2, known("UPDATE users SET name = 'Another', last_login_at = now(), is_active = is_active; INSERT INTO users (id, email) VALUES (4, 'new@example.com')"))
	for _, change := range []string{
		"UPDATE users SET is_superuser = false WHERE id = 2", "UPDATE users SET is_active = true WHERE id = 3", "DELETE FROM users WHERE id = 3", "TRUNCATE users CASCADE",
	} {
		know()
		require.NotZero(t, known("SELECT"))
		require.Zero(t, known(change), change)
	}
	_, err := s.Viewer(t.Context(), 1)
	require.Equal(t, models.Unauthenticated, models.CodeOf(err))
}

func TestViewers_AreForgottenByEachOfTransactionsThatOverlap(t *testing.T) {
	t.Parallel()
	s, db := setup(t)
	first, err := db.Owner(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	second, err := db.Owner(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, step := range []struct {
		tx   *sql.Tx
		user int
	}{{first, 1}, {second, 2}, {first, 3}} { // neither waits for the other before it commits
		_, err := step.tx.ExecContext(t.Context(), "UPDATE users SET is_active = NOT is_active WHERE id = $1", step.user)
		require.NoError(t, err)
	}
	_, err = s.Viewer(t.Context(), 1)
	require.NoError(t, err)
	for _, tx := range []*sql.Tx{second, first} {
		version := s.viewers.version
		require.NoError(t, tx.Commit())
		s.renewViewers(time.Now())
		require.Empty(t, s.viewers.known)
		require.Greater(t, s.viewers.version, version)
	}
}

func TestUserStanding_IsSetOnceByATransactionThatChangesManyUsers(t *testing.T) {
	t.Parallel()
	_, db := setup(t)
	tx, err := db.Owner(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback()) }()
	version := func(change string) (n int64) {
		_, err := tx.ExecContext(t.Context(), change)
		require.NoError(t, err)
		require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT version FROM user_standing").Scan(&n))
		return n
	}
	before := version("SET CONSTRAINTS ALL IMMEDIATE") // each change is noted at once, and not at the commit
	first := version("UPDATE users SET is_active = false WHERE id = 1")
	require.Greater(t, first, before)
	require.Equal(t, first, version("UPDATE users SET is_active = false WHERE id = 2; DELETE FROM users WHERE id = 3"))
}

func TestViewer_IsAskedForOnceByAllWhoWait(t *testing.T) {
	t.Parallel()
	s, _ := setup(t)
	var tally models.Tally
	var asking sync.WaitGroup
	for range 300 {
		asking.Go(func() {
			viewer, err := s.Viewer(models.WithTally(t.Context(), &tally), 2)
			if err != nil || !viewer.Superuser {
				t.Errorf("%v, %v", viewer, err)
			}
		})
	}
	asking.Wait()
	require.Less(t, tally.Statements.Load(), int64(30)) // one for each second that it takes, and whoever comes between an answer and its being noted

	s.db.SetMaxOpenConns(1)
	busy, err := s.db.DB.Conn(t.Context())
	require.NoError(t, err)
	left, leave := context.WithCancel(t.Context())
	leave()
	_, err = s.Viewer(left, 3)
	require.ErrorIs(t, err, context.Canceled, "who leaves does not wait")
	require.NoError(t, busy.Close())
}

// TestViewers_AreNoOlderThanPromised tries answers in all orders: whoever is known to be a viewer was one at some moment of the last second.
func TestViewers_AreNoOlderThanPromised(t *testing.T) {
	t.Parallel()
	type answer struct {
		asked, seen, arrives time.Duration
		user                 int // -1 for the version alone
	}
	hits := 0
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		at := func(n time.Duration) time.Duration { return time.Duration(r.Int64N(int64(n))) }
		const long, users = 6 * time.Second, 3
		// changes[u] is when the user's rights turned around; each is a version.
		var changes [users][]time.Duration
		for u := range changes {
			for range r.IntN(4) {
				changes[u] = append(changes[u], at(long))
			}
		}
		superuser := func(u int, when time.Duration) (is bool) {
			for _, change := range changes[u] {
				is = is != (change <= when)
			}
			return is
		}
		version := func(when time.Duration) (n int64) {
			for u := range changes {
				for _, change := range changes[u] {
					if change <= when {
						n++
					}
				}
			}
			return n
		}
		var answers []answer
		for range 60 {
			a := answer{asked: at(long), user: r.IntN(users+1) - 1}
			a.seen = a.asked + at(300*time.Millisecond)
			a.arrives = a.seen + at(600*time.Millisecond)
			answers = append(answers, a)
		}
		slices.SortFunc(answers, func(a, b answer) int { return cmp.Compare(a.arrives, b.arrives) })
		began := time.Now()
		var v viewers
		next := 0
		for now := time.Duration(0); now < long; now += 20 * time.Millisecond {
			for ; next < len(answers) && answers[next].arrives <= now; next++ {
				a, seen := answers[next], version(answers[next].seen)
				if a.user < 0 {
					v.renewed(&seen, began.Add(a.asked))
				} else {
					v.add(models.Viewer{UserID: a.user, Superuser: superuser(a.user, a.seen)}, seen, began.Add(a.asked))
				}
			}
			for u := range users {
				viewer, ok, _ := v.get(u, began.Add(now))
				if !ok {
					continue
				}
				hits++
				moments := []time.Duration{now, max(0, now-viewerAge)}
				for _, change := range changes[u] {
					if change <= now && change >= now-viewerAge {
						moments = append(moments, change)
					}
				}
				require.True(t, slices.ContainsFunc(moments, func(m time.Duration) bool { return superuser(u, m) == viewer.Superuser }), "seed %d, user %d at %s", seed, u, now)
			}
		}
	}
	require.Greater(t, hits, 100_000)
}
