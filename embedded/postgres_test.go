package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embedded"
)

func TestPostgres_GivesEachRoleItsRights(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, embedded.PostgresConfig{Dir: directory(t)})

	owner := connect(t, server.OwnerURL())
	require.Equal(t, "netra_owner netra_db UTF8 t", text(t, owner,
		`SELECT concat_ws(' ', current_user, current_database(), current_setting('server_encoding'), (SELECT rolbypassrls AND rolcreatedb AND NOT rolsuper FROM pg_roles WHERE rolname = current_user))`))
	execute(t, owner, `
		CREATE TABLE notes (owner text, note text);
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		ALTER TABLE notes FORCE ROW LEVEL SECURITY;
		CREATE POLICY own ON notes USING (owner = current_user);
		INSERT INTO notes VALUES ('netra_app', 'mine'), ('another', 'theirs');
		GRANT SELECT ON notes TO netra_app`)
	require.Equal(t, "2", text(t, owner, "SELECT count(*)::text FROM notes"))

	app := connect(t, server.AppURL())
	require.Equal(t, "mine", text(t, app, "SELECT string_agg(note, ' ') FROM notes"))
	for _, statement := range []string{
		"CREATE TABLE t ()",
		"CREATE SCHEMA s",
		"CREATE DATABASE d",
		"CREATE ROLE r",
		"SET ROLE netra_owner",
		"ALTER ROLE netra_app BYPASSRLS",
		"ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
		"SELECT pg_stat_statements_reset()",
	} {
		_, err := app.Exec(t.Context(), statement)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, statement)
		require.Equal(t, "42501", refused.Code, statement)
	}
	_, err := app.Exec(t.Context(), "SET row_security = off; SELECT * FROM notes")
	require.ErrorContains(t, err, "row-level security")
}

func TestPostgres_ExtensionsAreInEveryDatabase(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, embedded.PostgresConfig{Dir: directory(t)})
	owner := connect(t, server.OwnerURL())
	execute(t, owner, "CREATE DATABASE another")
	for _, name := range []string{"netra_db", "another"} {
		conn := connect(t, withDatabase(t, server.OwnerURL(), name))
		require.Equal(t, "5", text(t, conn, "SELECT ('[3,4]'::vector <-> '[0,0]'::vector)::text"), name)
		execute(t, conn, "SELECT pg_stat_statements_reset()")
		execute(t, conn, "SELECT 'counted'")
		require.Equal(t, "1", text(t, conn,
			"SELECT calls::text FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid WHERE datname = current_database() AND query LIKE 'SELECT $1'"), name)
		execute(t, conn, "CREATE EXTENSION IF NOT EXISTS vector; CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
	}
}

func TestPostgres_KeepsDataAndPasswordsOverARestart(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	execute(t, connect(t, server.OwnerURL()), "CREATE TABLE kept AS SELECT 'still here' AS note")
	before := password(t, server.AppURL())
	require.NoError(t, server.Stop(t.Context()))

	server = startPostgres(t, embedded.PostgresConfig{Dir: dir})
	require.Equal(t, "still here", text(t, connect(t, server.OwnerURL()), "SELECT note FROM kept"))
	require.Equal(t, before, password(t, server.AppURL()))
	for _, name := range []string{"lock", "postgres.log", "data/netra.passwords"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm(), name)
	}
}

func TestPostgres_FastTradesDurability(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	for _, fast := range []bool{true, false} {
		server := startPostgres(t, embedded.PostgresConfig{Dir: dir, Fast: fast})
		require.Equal(t, !fast, text(t, connect(t, server.OwnerURL()), "SHOW fsync") == "on")
		require.NoError(t, server.Stop(t.Context()))
	}
}

func TestPostgres_StopLeavesNoProcess(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	busy := connect(t, server.OwnerURL())
	waiting := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "SELECT pg_sleep(600)")
		waiting <- err
	}()
	require.NotEmpty(t, serverProcesses(t, dir))

	require.NoError(t, server.Stop(t.Context()))
	require.Error(t, <-waiting)
	require.Empty(t, serverProcesses(t, dir))
	<-server.Done()
	require.NoError(t, server.Err())
	require.NoError(t, server.Stop(t.Context()), "a second Stop changes nothing")
}

func TestPostgres_ComesBackOnItsPortWhenThePostmasterIsKilled(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	execute(t, connect(t, server.OwnerURL()), "CREATE TABLE kept AS SELECT 'still here' AS note")
	killed := postmasterPID(t, dir)
	require.Positive(t, killed)
	require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))

	eventually(t, "the server answers again", func() bool {
		conn, err := pgx.Connect(t.Context(), server.OwnerURL())
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(context.Background()) }()
		var note string
		return postmasterPID(t, dir) != killed && conn.QueryRow(t.Context(), "SELECT note FROM kept").Scan(&note) == nil && note == "still here"
	})
}

func TestPostgres_StartsAfterParentAndPostmasterWereKilled(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	parent := startParent(t, dir)
	execute(t, connect(t, parent.url), "CREATE TABLE kept AS SELECT 'still here' AS note")
	parent.kill(t)
	postmaster := postmasterPID(t, dir)
	require.Positive(t, postmaster)
	require.NoError(t, syscall.Kill(postmaster, syscall.SIGKILL))
	eventually(t, "the postmaster is gone", func() bool { return !alive(postmaster) })

	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	require.Equal(t, "still here", text(t, connect(t, server.OwnerURL()), "SELECT note FROM kept"))
	require.NotEqual(t, postmaster, postmasterPID(t, dir))
}

func TestPostgres_AdoptsAServerWhoseParentWasKilled(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	parent := startParent(t, dir)
	session := connect(t, parent.url)
	postmaster := postmasterPID(t, dir)
	parent.kill(t)

	server := startPostgres(t, embedded.PostgresConfig{Dir: dir, Fast: true})
	require.Equal(t, parent.url, server.OwnerURL())
	require.Equal(t, postmaster, postmasterPID(t, dir))
	require.Equal(t, "1", text(t, session, "SELECT '1'"), "its sessions live on")

	require.NoError(t, server.Stop(t.Context()))
	require.False(t, alive(postmaster))
}

func TestPostgres_MovesAnAdoptedServerToTheWantedPort(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	parent := startParent(t, dir)
	execute(t, connect(t, parent.url), "CREATE TABLE kept AS SELECT 'still here' AS note")
	orphan := postmasterPID(t, dir)
	parent.kill(t)

	wanted := freePort(t)
	server := startPostgres(t, embedded.PostgresConfig{Dir: dir, Fast: true, Port: wanted})
	require.Contains(t, server.OwnerURL(), fmt.Sprintf(":%d/", wanted))
	require.Equal(t, "still here", text(t, connect(t, server.OwnerURL()), "SELECT note FROM kept"))
	require.False(t, alive(orphan))
}

func TestPostgres_IsNotFooledByALockFileThatNamesAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	require.NoError(t, server.Stop(t.Context()))

	// Process numbers are used again. This one is alive, runs as the user that PostgreSQL runs as, and is no server.
	stranger := exec.Command("sleep", "600")
	info, err := os.Stat(filepath.Join(dir, "data"))
	require.NoError(t, err)
	if stat := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		stranger.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}}
	}
	require.NoError(t, stranger.Start())
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	lock := fmt.Sprintf("%d\n%s\n0\n5432\n\n127.0.0.1\n0 0\nready\n", stranger.Process.Pid, filepath.Join(dir, "data"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(lock), 0o600))

	server = startPostgres(t, embedded.PostgresConfig{Dir: dir})
	require.Equal(t, "1", text(t, connect(t, server.AppURL()), "SELECT '1'"))
	require.True(t, alive(stranger.Process.Pid))
}

func TestPostgres_RemovesAHalfInitialisedDataDirectory(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	leftover := filepath.Join(dir, "data.new-1", "base")
	require.NoError(t, os.MkdirAll(leftover, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.new-1", "PG_VERSION"), []byte("15\n"), 0o600))
	if os.Geteuid() == 0 {
		nobody := uint32(65534)
		require.NoError(t, os.Chown(dir, int(nobody), int(nobody)))
	}

	startPostgres(t, embedded.PostgresConfig{Dir: dir})
	drafts, err := filepath.Glob(filepath.Join(dir, "data.new-*"))
	require.NoError(t, err)
	require.Empty(t, drafts)
}

func TestPostgres_InitialisesAgainAfterAParentKilledWhileInitialising(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	parent := exec.Command(os.Args[0], "-test.run=^TestPostgresParent$")
	parent.Env = append(os.Environ(), parentDirectory+"="+dir)
	require.NoError(t, parent.Start())
	eventually(t, "initdb is at work", func() bool {
		drafts, err := filepath.Glob(filepath.Join(dir, "data.new-*", "global"))
		return err == nil && len(drafts) > 0
	})
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()

	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	require.Equal(t, "1", text(t, connect(t, server.AppURL()), "SELECT '1'"))
}

func TestPostgres_RefusesWhatItCannotServeInOneLine(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	takenPort := taken.Addr().(*net.TCPAddr).Port

	for name, c := range map[string]struct {
		prepare func(t *testing.T, cfg *embedded.PostgresConfig)
		says    string
	}{
		"port in use": {
			func(_ *testing.T, cfg *embedded.PostgresConfig) { cfg.Port = takenPort },
			fmt.Sprintf("port in use: another program listens on 127.0.0.1:%d; stop it or choose another port", takenPort),
		},
		"no programs where they should be": {
			func(t *testing.T, cfg *embedded.PostgresConfig) { cfg.Binaries = t.TempDir() },
			"no PostgreSQL server in ",
		},
		"another program under the name": {
			func(t *testing.T, cfg *embedded.PostgresConfig) { cfg.Binaries = programs(t, "something else 16") },
			"not a PostgreSQL server",
		},
		"version too old": {
			func(t *testing.T, cfg *embedded.PostgresConfig) {
				cfg.Binaries = programs(t, "postgres (PostgreSQL) 14.20 (Debian 14.20-1)")
			},
			"PostgreSQL 14 in",
		},
		"data of another version": {
			func(t *testing.T, cfg *embedded.PostgresConfig) {
				populate(t, cfg.Dir, "PG_VERSION", "12\n")
				populate(t, cfg.Dir, "global/pg_control", "")
			},
			"the data directory was made by PostgreSQL 12",
		},
		"damaged data": {
			func(t *testing.T, cfg *embedded.PostgresConfig) { populate(t, cfg.Dir, "postgresql.conf", "") },
			"is not a complete data directory; delete it to start afresh",
		},
		"a file in the way": {
			func(t *testing.T, cfg *embedded.PostgresConfig) {
				cfg.Dir = filepath.Join(cfg.Dir, "file")
				require.NoError(t, os.WriteFile(cfg.Dir, nil, 0o600))
			},
			"not a directory",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := embedded.PostgresConfig{Dir: directory(t)}
			c.prepare(t, &cfg)
			_, err := embedded.StartPostgres(t.Context(), cfg)
			require.ErrorContains(t, err, c.says)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestPostgres_SaysThatTheDiskIsFull(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m,mode=0755", "tmpfs", dir).Run(); err != nil {
		t.Skip("needs the right to mount a small disk")
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", dir).Run()) })
	_, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: filepath.Join(dir, "postgres")})
	require.ErrorContains(t, err, "the disk that holds "+filepath.Join(dir, "postgres")+" is full")
}

func TestPostgres_RefusesASecondStarter(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	_, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir})
	require.ErrorContains(t, err, fmt.Sprintf("%s is in use by another netra (process %d)", dir, os.Getpid()))
	require.Equal(t, "1", text(t, connect(t, server.AppURL()), "SELECT '1'"))
}

func TestPostgres_StartsNothingWhenTheCallerGivesUp(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir, Progress: func(string) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, serverProcesses(t, dir))
	startPostgres(t, embedded.PostgresConfig{Dir: dir})
}

func TestPostgres_LivesElsewhereWhereRootsDirectoryIsClosed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL as another user")
	}
	closed := directory(t)
	require.NoError(t, os.Chmod(closed, 0o700))
	dir := filepath.Join(closed, "postgres")
	start := func() *embedded.Postgres { return startPostgres(t, embedded.PostgresConfig{Dir: dir}) }

	server := start()
	elsewhere, err := filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	require.NotEqual(t, dir, elsewhere)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(elsewhere)) })
	execute(t, connect(t, server.OwnerURL()), "CREATE TABLE kept AS SELECT 'still here' AS note")
	require.NoError(t, server.Stop(t.Context()))

	server = start()
	require.Equal(t, "still here", text(t, connect(t, server.OwnerURL()), "SELECT note FROM kept"))
	require.NoError(t, server.Stop(t.Context()))

	// Deleting what the caller knows of is deleting the data.
	require.NoError(t, os.Remove(dir))
	server = start()
	require.Empty(t, text(t, connect(t, server.OwnerURL()), "SELECT coalesce(to_regclass('kept')::text, '')"))
	require.NoError(t, server.Stop(t.Context()))
}

func TestPostgres_RunsInADirectoryWithALongAndOddName(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(directory(t), strings.Repeat("long, ", 18), `with "quotes", spaces`)
	server := startPostgres(t, embedded.PostgresConfig{Dir: dir})
	require.Empty(t, text(t, connect(t, server.AdminURL()), "SHOW unix_socket_directories"))

	odd := filepath.Join(directory(t), `a "b", c`)
	startPostgres(t, embedded.PostgresConfig{Dir: odd})
	socket, err := filepath.Glob(filepath.Join(odd, ".s.PGSQL.*[0-9]"))
	require.NoError(t, err)
	require.Len(t, socket, 1)
}

const parentDirectory = "NETRA_TEST_POSTGRES_PARENT"

// TestPostgresParent is not a test: it is the process that TestPostgres_AdoptsAServerWhoseParentWasKilled and others kill.
func TestPostgresParent(t *testing.T) {
	dir := os.Getenv(parentDirectory)
	if dir == "" {
		return
	}
	server, err := embedded.StartPostgres(context.Background(), embedded.PostgresConfig{Dir: dir, Fast: true})
	require.NoError(t, err)
	fmt.Println(server.OwnerURL())
	<-server.Done()
}

type parent struct {
	command *exec.Cmd
	url     string
}

// startParent starts a server from another process.
func startParent(t *testing.T, dir string) parent {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^TestPostgresParent$")
	command.Env = append(os.Environ(), parentDirectory+"="+dir)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill() })
	// Whatever the test leaves running goes with the next owner of the directory.
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if server, err := embedded.StartPostgres(context.Background(), embedded.PostgresConfig{Dir: dir, Fast: true}); err == nil {
			_ = server.Stop(context.Background())
		}
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	return parent{command: command, url: strings.TrimSpace(line)}
}

func (p parent) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.command.Process.Kill())
	_ = p.command.Wait()
}

// directory is one that an unprivileged user can reach, which t.TempDir is not.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "netra-postgres-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	dir, err = filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	return dir
}

func startPostgres(t *testing.T, cfg embedded.PostgresConfig) *embedded.Postgres {
	t.Helper()
	server, err := embedded.StartPostgres(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	return server
}

// programs makes a directory of programs that say they are version.
func programs(t *testing.T, version string) string {
	t.Helper()
	dir := directory(t)
	for _, name := range []string{"postgres", "initdb"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+version+"'\n"), 0o755))
	}
	return dir
}

func populate(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, "data", name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	if os.Geteuid() == 0 {
		nobody := 65534
		require.NoError(t, os.Chown(dir, nobody, nobody))
	}
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statements string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), statements)
	require.NoError(t, err)
}

func text(t *testing.T, conn *pgx.Conn, query string) string {
	t.Helper()
	var value string
	require.NoError(t, conn.QueryRow(t.Context(), query).Scan(&value))
	return value
}

func withDatabase(t *testing.T, address, name string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	parsed.Path = "/" + name
	return parsed.String()
}

func password(t *testing.T, address string) string {
	t.Helper()
	parsed, err := url.Parse(address)
	require.NoError(t, err)
	secret, _ := parsed.User.Password()
	require.NotEmpty(t, secret)
	return secret
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// postmasterPID is 0 while there is none.
func postmasterPID(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	require.NoError(t, err)
	line, _, _ := bytes.Cut(content, []byte("\n"))
	pid, _ := strconv.Atoi(string(line))
	return pid
}

// serverProcesses are the processes that name the directory in their command line.
func serverProcesses(t *testing.T, dir string) []string {
	t.Helper()
	listing, err := exec.Command("ps", "-axww", "-o", "pid=,stat=,command=").Output()
	require.NoError(t, err)
	var found []string
	for line := range strings.Lines(string(listing)) {
		if strings.Contains(line, dir+"/") && strings.Contains(line, "postgres") {
			found = append(found, line)
		}
	}
	return found
}

// alive does not count zombies: who reaps an orphan is the machine's business.
func alive(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}

func eventually(t *testing.T, promise string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, time.Minute, 20*time.Millisecond, promise)
}
