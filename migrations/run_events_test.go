package migrations_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/internal/testdb"
)

// history is a run's events: version, old status (- for none) and new status.
const history = "SELECT concat_ws(' ', version, coalesce(old_status, '-'), new_status) FROM run_events WHERE run_id = $1 ORDER BY seq"

func TestEveryStatusOfARunIsRecorded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	alice := s.as(t, s.alice)
	run := value[string](t, alice, "INSERT INTO runs (thread_id, user_id, input_data) VALUES ($1, $2, '{}') RETURNING id", s.aliceThread, s.alice)
	exec(t, alice, "UPDATE runs SET status = 'processing', started_at = now() WHERE id = $1", run)
	exec(t, alice, "UPDATE runs SET status = 'processing' WHERE id = $1", run)
	exec(t, alice, "UPDATE runs SET output_data = '{}' WHERE id = $1", run)
	exec(t, alice, "UPDATE runs SET version = 99 WHERE id = $1", run)
	exec(t, alice, "UPDATE runs SET status = 'completed', version = 7 WHERE id = $1", run)
	require.Equal(t, []string{"1 - pending", "2 pending processing", "3 processing completed"}, column[string](t, alice, history, run))
	require.Equal(t, 3, value[int](t, alice, "SELECT version FROM runs WHERE id = $1", run))
	require.Equal(t, 3, value[int](t, alice, `SELECT count(*) FROM run_events
		WHERE thread_id = $1 AND user_id = $2 AND xid = pg_current_xact_id() AND at BETWEEN now() AND clock_timestamp()`, s.aliceThread, s.alice))
	require.NoError(t, alice.Commit())

	given := value[string](t, s.owner, "INSERT INTO runs (user_id, status, input_data, version) VALUES ($1, 'failed', '{}', 5) RETURNING id", s.bob)
	require.Equal(t, []string{"1 - failed"}, column[string](t, s.owner, history, given), "a version is not the writer's to give")
}

func TestVersionsAreDenseUnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	s := setup(t)
	run := value[string](t, s.owner, "INSERT INTO runs (user_id, input_data) VALUES ($1, '{}') RETURNING id", s.alice)
	statuses := []string{"pending", "processing", "completed", "failed", "cancelled"}
	var writers errgroup.Group
	for w := range 8 {
		writers.Go(func() error {
			for i := range 20 {
				if _, err := s.owner.ExecContext(t.Context(), "UPDATE runs SET status = $1 WHERE id = $2", statuses[(w+i)%len(statuses)], run); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, writers.Wait())

	events := column[string](t, s.owner, history, run)
	require.Greater(t, len(events), 1)
	last := "-"
	for i, event := range events {
		var version int
		var before, after string
		_, err := fmt.Sscan(event, &version, &before, &after)
		require.NoError(t, err)
		require.Equal(t, i+1, version)
		require.Equal(t, last, before)
		require.NotEqual(t, before, after)
		last = after
	}
	require.Equal(t, len(events), value[int](t, s.owner, "SELECT version FROM runs WHERE id = $1 AND status = $2", run, last))
}

func TestTheDoorbellRingsOncePerTransactionAndSaysNothing(t *testing.T) {
	t.Parallel()
	db := testdb.NewPostgres(t)
	owner := db.Owner(t)
	user := value[int](t, owner, "INSERT INTO users (email) VALUES ('alice@example.com') RETURNING id")
	listener, err := pgx.Connect(t.Context(), db.AppURL)
	require.NoError(t, err)
	defer listener.Close(context.WithoutCancel(t.Context()))
	_, err = listener.Exec(t.Context(), "LISTEN run_events; LISTEN fence")
	require.NoError(t, err)

	exec(t, owner, "INSERT INTO runs (user_id, input_data) SELECT $1, '{}' FROM generate_series(1, 3)", user)
	exec(t, owner, "UPDATE runs SET metadata = '{}'")
	exec(t, owner, "NOTIFY fence")
	var heard []string
	for len(heard) == 0 || heard[len(heard)-1] != "fence" {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		notification, err := listener.WaitForNotification(ctx)
		cancel()
		require.NoError(t, err)
		require.Empty(t, notification.Payload)
		heard = append(heard, notification.Channel)
	}
	require.Equal(t, []string{"run_events", "fence"}, heard)
}

// A superuser's session with session_replication_role = replica silences triggers that are not ENABLE ALWAYS.
func TestReplicationAndBulkLoadsRecordStatusesToo(t *testing.T) {
	t.Parallel()
	s := setup(t)
	require.Equal(t, []string{"record_run_event_on_insert A", "record_run_event_on_update A", "set_run_version_on_insert A", "set_run_version_on_update A"},
		column[string](t, s.owner, `SELECT concat_ws(' ', tgname, tgenabled) FROM pg_trigger WHERE tgrelid = 'runs'::regclass AND NOT tgisinternal ORDER BY tgname COLLATE "C"`))
	if !value[bool](t, s.owner, "SELECT has_parameter_privilege('session_replication_role', 'SET')") {
		return // only a superuser may try it
	}
	tx := begin(t, s.owner)
	exec(t, tx, "SET LOCAL session_replication_role = replica")
	run := value[string](t, tx, "INSERT INTO runs (user_id, input_data) VALUES ($1, '{}') RETURNING id", s.alice)
	exec(t, tx, "UPDATE runs SET status = 'failed' WHERE id = $1", run)
	require.Equal(t, []string{"1 - pending", "2 pending failed"}, column[string](t, tx, history, run))
}
