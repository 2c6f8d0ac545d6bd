package live_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embedded"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/migrations"
	"github.com/netra-ai/netra/models"
)

// A promoted standby has a timeline of its own, on which positions mean nothing: subscribers are told to begin with the state, which has
// everything that was committed on both.
func TestHub_LosesNothingToAFailoverWithASynchronousStandby(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	f := setupOn(t, p.db)
	run := f.run(t, 0)
	s := f.subscribe(t, models.StreamFilter{RunID: &run})
	f.exec(t, `UPDATE runs SET status = 'processing' WHERE id = $1`, run)
	heard := f.receive(t, s)
	require.Equal(t, 2, heard.Version)
	f.exec(t, `UPDATE runs SET status = 'completed' WHERE id = $1`, run)

	p.failOver(t)
	require.ErrorIs(t, ended(t, s), live.ErrLost)
	f.owner = f.connect(t)
	again := f.begin(t, models.StreamFilter{RunID: &run}, heard.Cursor())
	state := f.receive(t, again)
	require.True(t, again.Expired())
	require.True(t, state.Snapshot())
	require.Equal(t, 3, state.Version)
	f.exec(t, `UPDATE runs SET status = 'failed' WHERE id = $1`, run)
	require.Equal(t, 4, f.receive(t, again).Version)
}

// pair is a PostgreSQL server and its synchronous standby, which the URLs of db name both.
type pair struct {
	db      *testdb.DB
	primary *embedded.Postgres
	pid     int
	standby string // URL as superuser
}

func newPair(t *testing.T) *pair {
	t.Helper()
	dir, err := os.MkdirTemp("", "netra-live-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755)) // PostgreSQL does not run as root
	p := &pair{}
	p.primary, err = embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: filepath.Join(dir, "primary")})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.primary.Stop(context.Background()) }) // failOver has stopped it
	p.db = &testdb.DB{OwnerURL: p.primary.OwnerURL(), AppURL: p.primary.AppURL(), ClickHouseURL: testdb.Empty(t).ClickHouseURL}
	require.NoError(t, migrations.Up(t.Context(), p.db.Owner(t), p.db.ClickHouse(t), slog.New(slog.DiscardHandler)))
	admin, err := pgx.Connect(t.Context(), p.primary.AdminURL())
	require.NoError(t, err)
	defer admin.Close(context.Background())
	var programs string
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT setting FROM pg_config WHERE name = 'BINDIR'`).Scan(&programs))
	text, err := os.ReadFile(filepath.Join(dir, "primary", "data", "postmaster.pid"))
	require.NoError(t, err)
	p.pid, err = strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	require.NoError(t, err)

	// The standby runs as the primary's user.
	data, as := filepath.Join(dir, "standby"), &syscall.SysProcAttr{}
	require.NoError(t, os.Mkdir(data, 0o700))
	var owner syscall.Stat_t
	require.NoError(t, syscall.Stat(filepath.Join(dir, "primary", "data"), &owner))
	if os.Getuid() == 0 {
		require.NoError(t, os.Chown(data, int(owner.Uid), int(owner.Gid)))
		as.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	program := func(name string, arguments ...string) *exec.Cmd {
		command := exec.Command(filepath.Join(programs, name), arguments...)
		command.Dir, command.SysProcAttr = data, as
		return command
	}
	said, err := program("pg_basebackup", "--pgdata", data, "--write-recovery-conf", "--checkpoint", "fast", "--no-sync", "--dbname", p.primary.AdminURL()).CombinedOutput()
	require.NoError(t, err, "%s", said)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().(*net.TCPAddr)
	require.NoError(t, listener.Close())
	server := program("postgres", "-D", data, "-p", strconv.Itoa(address.Port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "max_connections=400") // no standby starts with fewer than its primary
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait() // it was stopped by force
	})

	require.Eventually(t, func() bool {
		var streams bool
		return admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming')`).Scan(&streams) == nil && streams
	}, soon, 10*time.Millisecond)
	for _, statement := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `SELECT pg_reload_conf()`} {
		_, err := admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		var synchronous bool
		return admin.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')`).Scan(&synchronous) == nil && synchronous
	}, soon, 10*time.Millisecond)

	alone := hostOf(t, p.primary.AdminURL())
	p.standby = strings.Replace(p.primary.AdminURL(), alone, address.String(), 1)
	for _, name := range []*string{&p.db.OwnerURL, &p.db.AppURL} {
		*name = strings.Replace(*name, alone, fmt.Sprintf("%s,%s", alone, address), 1) + "&target_session_attrs=read-write"
	}
	return p
}

// failOver kills the primary without a chance to say anything, and promotes the standby.
func (p *pair) failOver(t *testing.T) {
	t.Helper()
	require.NoError(t, syscall.Kill(p.pid, syscall.SIGKILL))
	atOnce, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, p.primary.Stop(atOnce))
	var standby *pgx.Conn
	require.Eventually(t, func() (up bool) {
		var err error
		standby, err = pgx.Connect(t.Context(), p.standby)
		return err == nil
	}, soon, 10*time.Millisecond, "it takes no connections before it is consistent")
	defer standby.Close(context.Background())
	_, err := standby.Exec(t.Context(), `SELECT pg_promote()`)
	require.NoError(t, err)
}

func hostOf(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	return u.Host
}
