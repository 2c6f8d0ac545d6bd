package demo_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/demo"
	"github.com/netra-ai/netra/internal/testdb"
)

// patience is for machines that do other things as well.
const patience = 3 * time.Minute

func eventually(t *testing.T, condition func() bool, message string) {
	t.Helper()
	require.Eventually(t, condition, patience, 50*time.Millisecond, message)
}

// agents start now; stop ends them and waits.
func agents(t *testing.T, cfg demo.AgentsConfig) (stop func()) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if cfg.Rate == 0 {
		cfg.Rate, cfg.Concurrency = 10, 8
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- demo.RunAgents(ctx, cfg) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("the agents did not end")
		}
	})
	t.Cleanup(stop)
	return stop
}

const (
	made  = ` metadata @> '{"demo": true}' `
	ended = made + `AND status IN ('completed', 'failed', 'cancelled') `
)

func TestAgentsTakeRunsStepByStepToTheirEnd(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	// Two programs at once: nobody takes what another has.
	cfg := demo.AgentsConfig{OwnerURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL}
	stop, stopOther := agents(t, cfg), agents(t, cfg)
	mine := ask[string](t, owner, `INSERT INTO runs (user_id, input_data) VALUES (4, '{}') RETURNING id`)
	eventually(t, func() bool {
		return ask[int](t, owner, "SELECT count(*) FROM runs WHERE"+ended) >= 12 &&
			ask[bool](t, owner, "SELECT completed_at IS NOT NULL FROM runs WHERE id = $1", mine) &&
			ask[int](t, owner, "SELECT count(*) FROM runs WHERE status = 'completed' AND"+made) > 0 &&
			ask[int](t, clickhouse, "SELECT count() FROM workload_events WHERE workload_id = $1 AND event_type IN ('stop', 'error')", mine) == 1
	}, "runs end, whoever asked for them, and ClickHouse hears of it")
	stop()
	stopOther()

	require.Zero(t, ask[int](t, owner, `SELECT count(*) FROM (
			SELECT string_agg(coalesce(old_status, '') || '>' || new_status, ' ' ORDER BY e.version) AS steps, string_agg(e.version::text, ' ' ORDER BY seq) AS versions, max(r.status) AS status
			FROM run_events e JOIN runs r ON r.id = e.run_id WHERE`+ended+`GROUP BY run_id) h
		WHERE versions <> '1 2 3' OR steps <> '>pending pending>processing processing>' || status`), "each step is in the log, once, in order")
	require.Zero(t, ask[int](t, owner, "SELECT count(*) FROM runs WHERE status = 'processing' AND"+made), "who stops leaves nothing half-done")
	require.Zero(t, ask[int](t, owner, `SELECT count(*) FROM runs WHERE`+ended+`AND (NOT created_at <= started_at OR NOT started_at <= completed_at OR
		(status = 'completed') <> (output_data IS NOT NULL) OR (status = 'failed') <> (error_message IS NOT NULL))`))
	require.Positive(t, ask[int](t, owner, "SELECT count(*) FROM messages WHERE role = 'assistant' AND"+made))
	require.Zero(t, ask[int](t, owner, `SELECT count(*) FROM messages m JOIN threads t ON t.id = m.thread_id
		WHERE m.metadata @> '{"demo": true}' AND m.role IN ('user', 'assistant') AND t.updated_at < m.created_at`), "an active thread comes to the top")
	require.Equal(t, 1, ask[int](t, owner, `SELECT user_id FROM runs WHERE`+made+`GROUP BY user_id ORDER BY count(*) DESC LIMIT 1`), "alice sees most of it")
	require.Zero(t, ask[int](t, owner, `SELECT count(*) FROM runs WHERE`+made+`AND user_id > 3`))
}

func TestAgentsFinishWhatAnotherHasLeft(t *testing.T) {
	t.Parallel()
	db := testdb.New(t)
	owner := db.Owner(t)
	ask[int](t, owner, `INSERT INTO users (email) VALUES ('someone@example.com') RETURNING id`)
	run := func(metadata string) string {
		return ask[string](t, owner, `INSERT INTO runs (user_id, status, input_data, started_at, metadata)
			VALUES (1, 'processing', '{}', now() - interval '1 hour', $1) RETURNING id`, metadata)
	}
	orphan, foreign := run(`{"worker": "netra agents"}`), run(`{"worker": "somebody else"}`)
	stop := agents(t, demo.AgentsConfig{OwnerURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL})
	status := func(id string) string { return ask[string](t, owner, "SELECT status FROM runs WHERE id = $1", id) }
	eventually(t, func() bool { return status(orphan) != "processing" }, "the orphan is ended")
	stop()
	require.Equal(t, "processing", status(foreign))
}

func TestAgentsKeepOnlyTheirNewest(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	owner := db.Owner(t)
	_, err := owner.ExecContext(t.Context(), `
		INSERT INTO runs (user_id, status, input_data, metadata, created_at)
			SELECT 1, 'completed', jsonb_build_object('n', n), '{"demo": true}', now() - n * interval '1 hour' FROM generate_series(1, 30) n;
		INSERT INTO messages (thread_id, role, content, metadata, created_at)
			SELECT t.id, 'assistant', n, '{"demo": true}', now() - n * interval '1 hour' FROM generate_series(1, 250) n,
				(SELECT id FROM threads WHERE user_id = 1 ORDER BY created_at DESC LIMIT 1) t`)
	require.NoError(t, err)
	runs, messages := ask[int](t, owner, "SELECT count(*) FROM runs WHERE NOT"+made), ask[int](t, owner, "SELECT count(*) FROM messages WHERE NOT"+made)
	stop := agents(t, demo.AgentsConfig{OwnerURL: db.OwnerURL, ClickHouseURL: db.ClickHouseURL, Rate: 0.001, Concurrency: 1, Keep: 10})
	oldest := func(query string) int { return ask[int](t, owner, query) }
	eventually(t, func() bool {
		return oldest("SELECT max((input_data ->> 'n')::int) FROM runs WHERE"+made) <= 10 &&
			oldest("SELECT max(content::int) FROM messages WHERE role = 'assistant' AND content ~ '^[0-9]+$'") <= 200
	}, "old ones are deleted")
	stop()
	require.GreaterOrEqual(t, oldest("SELECT max((input_data ->> 'n')::int) FROM runs WHERE"+made), 9, "new ones are not")
	require.GreaterOrEqual(t, oldest("SELECT max(content::int) FROM messages WHERE role = 'assistant' AND content ~ '^[0-9]+$'"), 199)
	require.Equal(t, runs, ask[int](t, owner, "SELECT count(*) FROM runs WHERE NOT"+made), "other programs' runs are theirs")
	require.Equal(t, messages, ask[int](t, owner, "SELECT count(*) FROM messages WHERE NOT"+made))
}

func TestAgentsWaitForAnAbsentPostgres(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	owner := db.Owner(t)
	door := newDoor(t, db.OwnerURL)
	log := new(lockedBuffer)
	stop := agents(t, demo.AgentsConfig{OwnerURL: door.url, ClickHouseURL: db.ClickHouseURL, Log: slog.New(slog.NewTextHandler(log, nil))})
	done := func() int { return ask[int](t, owner, "SELECT count(*) FROM runs WHERE"+ended) }
	eventually(t, func() bool { return done() >= 2 }, "runs end")
	door.close()
	eventually(t, func() bool { return strings.Contains(log.String(), "cannot write to PostgreSQL") }, "the agents notice")
	before := done()
	door.open()
	eventually(t, func() bool { return done() >= before+3 }, "runs end again")
	eventually(t, func() bool { return strings.Contains(log.String(), "write to PostgreSQL again") }, "the agents say so")
	stop()
	requireOneLineForEachOutage(t, log.String())
}

func TestAgentsWorkOnWithoutClickHouseAndReportLater(t *testing.T) {
	t.Parallel()
	db := seeded(t)
	owner, clickhouse := db.Owner(t), db.ClickHouse(t)
	door := newDoor(t, db.ClickHouseURL)
	door.close()
	log := new(lockedBuffer)
	stop := agents(t, demo.AgentsConfig{OwnerURL: db.OwnerURL, ClickHouseURL: door.url, Log: slog.New(slog.NewTextHandler(log, nil))})
	eventually(t, func() bool {
		return ask[int](t, owner, "SELECT count(*) FROM runs WHERE"+ended) >= 4 && strings.Contains(log.String(), "cannot write to ClickHouse")
	}, "runs end all the same")
	first := ask[string](t, owner, "SELECT id FROM runs WHERE"+ended+"ORDER BY completed_at LIMIT 1")
	require.Equal(t, tiny.Events, ask[int](t, clickhouse, "SELECT count() FROM workload_events"))
	door.open()
	eventually(t, func() bool {
		return ask[int](t, clickhouse, "SELECT count() FROM workload_events WHERE workload_id = $1", first) >= 3
	}, "what was measured meanwhile is reported")
	stop()
	requireOneLineForEachOutage(t, log.String())
}

// requireOneLineForEachOutage allows for outages beside the test's own: a busy machine has some.
func requireOneLineForEachOutage(t *testing.T, log string) {
	t.Helper()
	begun, ended := strings.Count(log, "cannot write to"), strings.Count(log, " again\"")
	require.Contains(t, []int{ended, ended + 1}, begun, log)
}

func TestAgentsRefuseWhatTheyCannotDo(t *testing.T) {
	t.Parallel()
	for message, cfg := range map[string]demo.AgentsConfig{
		"a rate of 0 runs a second: more than 0, at most 1000": {Concurrency: 1},
		"0 agents at once: from 1 to 200":                      {Rate: 1},
		"-1 runs to keep: not less than none":                  {Rate: 1, Concurrency: 1, Keep: -1},
		"parse the owner's URL of PostgreSQL: it is malformed": {Rate: 1, Concurrency: 1, OwnerURL: "postgres://owner:secret@127.0.0.1:port/"},
	} {
		require.EqualError(t, demo.RunAgents(t.Context(), cfg), message)
	}
}

// door stands in front of a database and can be shut.
type door struct {
	t       *testing.T
	url     string
	behind  string
	mu      sync.Mutex
	shut    bool
	guests  map[net.Conn]struct{}
	welcome net.Listener
}

func newDoor(t *testing.T, rawURL string) *door {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	d := &door{t: t, behind: u.Host, guests: make(map[net.Conn]struct{})}
	d.welcome, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u.Host = d.welcome.Addr().String()
	d.url = u.String()
	go d.serve()
	t.Cleanup(func() {
		_ = d.welcome.Close()
		d.close()
	})
	return d
}

// serve turns guests away while the door is shut, as a server does that is starting.
func (d *door) serve() {
	for {
		guest, err := d.welcome.Accept()
		if err != nil {
			return
		}
		host, err := net.Dial("tcp", d.behind)
		if err != nil {
			_ = guest.Close()
			continue
		}
		d.mu.Lock()
		if d.shut {
			_, _ = guest.Close(), host.Close()
		} else {
			d.guests[guest], d.guests[host] = struct{}{}, struct{}{}
		}
		d.mu.Unlock()
		pass := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			_, _ = to.Close(), from.Close()
		}
		go pass(host, guest)
		go pass(guest, host)
	}
}

func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	for guest := range d.guests {
		_ = guest.Close()
		delete(d.guests, guest)
	}
}

func (d *door) open() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = false
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
