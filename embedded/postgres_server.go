package embedded

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// pollInterval is how often a condition outside this process is looked at.
	pollInterval = 50 * time.Millisecond
	// startTimeout covers the recovery after a crash in the middle of a large load.
	startTimeout = 5 * time.Minute
	// fastShutdown and immediateShutdown are how long each way of stopping is given before the next harder one.
	fastShutdown      = 30 * time.Second
	immediateShutdown = 5 * time.Second
	// longestSocketPath is what fits into the kernel's socket address.
	longestSocketPath = 107
)

// postmaster is PostgreSQL's first process, started by this process or adopted.
type postmaster struct {
	pid  int
	port int           // 0 when unknown
	gone chan struct{} // closed when the process has ended
}

// errMemoryHeld is PostgreSQL's refusal while a process of a dead server still has its shared memory.
var errMemoryHeld = errors.New("processes of a dead server do not end")

// launch starts the server on port and returns when it answers.
func (p *Postgres) launch(ctx context.Context, port int) (*postmaster, error) {
	// The kernel takes a process's title away a moment before its memory, so clearRemains may be too early to the mark.
	for deadline := time.Now().Add(immediateShutdown); ; {
		server, err := p.launchOnce(ctx, port)
		if !errors.Is(err, errMemoryHeld) || time.Now().After(deadline) {
			return server, err
		}
	}
}

func (p *Postgres) launchOnce(ctx context.Context, port int) (*postmaster, error) {
	if err := p.home.clearRemains(); err != nil {
		return nil, err
	}
	log, err := p.home.openLog()
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	offset, err := log.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	server := exec.Command(p.bin.postgres(), p.arguments(port)...)
	server.Dir, server.Env, server.SysProcAttr = p.home.dir, serverEnvironment(), p.home.account.attributes()
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("run %s as %s: %w", p.bin.postgres(), p.home.account, err)
	}
	started := &postmaster{pid: server.Process.Pid, port: port, gone: make(chan struct{})}
	go func() {
		// How it ended is in the server's log, and whether that was wanted the supervisor knows.
		_ = server.Wait()
		close(started.gone)
	}()
	if _, err := p.waitReady(ctx, started); err != nil {
		_ = started.stop(nil)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		said, readErr := p.home.readLog(offset)
		if readErr != nil {
			return nil, errors.Join(err, readErr)
		}
		if strings.Contains(said, "Address already in use") {
			return nil, portInUse(port)
		}
		return nil, p.home.explain(said, err)
	}
	p.cfg.Log.Info("PostgreSQL is ready", "version", p.bin.major, "pid", started.pid, "port", port, "dir", p.home.dir)
	return started, nil
}

// arguments are the server's settings: those of a developer's machine that runs other things too.
func (p *Postgres) arguments(port int) []string {
	sockets := p.home.dir
	if len(filepath.Join(sockets, ".s.PGSQL.65535.lock")) > longestSocketPath {
		p.cfg.Log.Info("the path of the data directory is too long for a socket: PostgreSQL listens on loopback only", "dir", p.home.dir)
		sockets = ""
	}
	settings := []string{
		"port=" + strconv.Itoa(port),
		"listen_addresses=" + loopback,
		"unix_socket_directories=" + quoteList(sockets),
		"unix_socket_permissions=0700",
		"cluster_name=" + p.home.clusterName(),
		"shared_preload_libraries=pg_stat_statements",
		"pg_stat_statements.track=top",
		"pg_stat_statements.max=10000",
		"max_connections=400",
		"shared_buffers=" + cmp.Or(p.cfg.Buffers, "1GB"), // taken from the system only as pages are read
		"work_mem=16MB",
		"maintenance_work_mem=256MB",
		"max_wal_size=2GB",
		"random_page_cost=1.1",
		"track_io_timing=on",
		"jit=off",
		"timezone=UTC",
		"log_timezone=UTC",
		"lc_messages=C", // explain reads the server's messages
		"log_line_prefix=%m [%p] %q%u@%d ",
		"log_checkpoints=off",
	}
	if p.cfg.Fast {
		// Not synchronous_commit: without fsync it saves nothing, and a killed server would lose what was committed.
		settings = append(settings, "fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0")
	}
	arguments := []string{"-D", p.home.data()}
	for _, setting := range settings {
		arguments = append(arguments, "-c", setting)
	}
	return arguments
}

// quoteList makes one directory an element of a list setting, whatever commas and spaces it contains.
func quoteList(dir string) string {
	if dir == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(dir, `"`, `""`) + `"`
}

// readySettings is what a server says about itself when asked.
type readySettings struct {
	fast bool
}

// waitReady returns when the server accepts the superuser's password and serves our data directory.
func (p *Postgres) waitReady(ctx context.Context, server *postmaster) (readySettings, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	patience := time.AfterFunc(5*time.Second, func() { p.cfg.Progress("waiting for PostgreSQL to recover its data") })
	defer patience.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		settings, err := p.ask(ctx, server)
		if err == nil {
			return settings, nil
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && refused.Code != codeCannotConnectNow && refused.Code != codeTooManyConnections {
			return readySettings{}, err
		}
		select {
		case <-tick.C:
		case <-server.gone:
			return readySettings{}, errors.New("the server ended while it started")
		case <-ctx.Done():
			return readySettings{}, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

const (
	codeCannotConnectNow   = "57P03"
	codeTooManyConnections = "53300"
)

func (p *Postgres) ask(ctx context.Context, server *postmaster) (readySettings, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, postgresURL(server.port, superuser, p.secrets.Superuser, "postgres"))
	if err != nil {
		return readySettings{}, err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.Exec(ctx, "SELECT current_setting('data_directory'), current_setting('fsync')").ReadAll()
	if err != nil {
		return readySettings{}, err
	}
	row := results[0].Rows[0]
	if string(row[0]) != p.home.data() {
		return readySettings{}, fmt.Errorf("port %d belongs to the PostgreSQL of %s", server.port, row[0])
	}
	return readySettings{fast: string(row[1]) == "off"}, nil
}

// stop ends the server: orderly first, at once when hurry is closed or that takes too long, then by force.
func (s *postmaster) stop(hurry <-chan struct{}) error {
	for _, step := range []struct {
		signal  syscall.Signal
		timeout time.Duration
	}{
		{syscall.SIGINT, fastShutdown},
		{syscall.SIGQUIT, immediateShutdown},
		{syscall.SIGKILL, immediateShutdown},
	} {
		if err := syscall.Kill(s.pid, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop PostgreSQL (process %d): %w", s.pid, err)
		}
		timer := time.NewTimer(step.timeout)
		select {
		case <-s.gone:
			timer.Stop()
			return nil
		case <-hurry:
			timer.Stop()
			hurry = nil
		case <-timer.C:
		}
	}
	return fmt.Errorf("PostgreSQL (process %d) does not end", s.pid)
}

// clusterName is in the title of each of the server's processes, by which those of a dead server are found.
func (h *postgresHome) clusterName() string {
	sum := sha256.Sum256([]byte(h.data()))
	return "netra-" + hex.EncodeToString(sum[:6])
}

// orphan is the server that runs on the data directory although nobody is in charge of it, nil when there is none.
func (h *postgresHome) orphan() (*postmaster, error) {
	pid, err := h.findPostmaster()
	if err != nil || pid == 0 {
		return nil, err
	}
	found := &postmaster{pid: pid, gone: make(chan struct{})}
	if file, ok := h.readPidFile(); ok && file.pid == pid {
		found.port = file.port
	}
	go func() {
		defer close(found.gone)
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		for running(pid) {
			<-tick.C
		}
	}()
	return found, nil
}

// runningPort is the port of the server that orphan would find, 0 when there is none.
func (h *postgresHome) runningPort() int {
	pid, err := h.findPostmaster()
	if err != nil || pid == 0 {
		return 0
	}
	if file, ok := h.readPidFile(); ok && file.pid == pid {
		return file.port
	}
	return 0
}

// findPostmaster goes by the process table, not by postmaster.pid, whose number may belong to another program by now.
func (h *postgresHome) findPostmaster() (int, error) {
	table, err := processes()
	if err != nil {
		return 0, err
	}
	file, _ := h.readPidFile()
	oldest := 0
	for pid, command := range table {
		if !h.servedBy(command) {
			continue
		}
		// A child looks like its parent until it has set its title.
		if pid == file.pid {
			return pid, nil
		}
		if oldest == 0 || pid < oldest {
			oldest = pid
		}
	}
	return oldest, nil
}

// servedBy recognises the command line of a postmaster on the data directory, which its children have too at first.
func (h *postgresHome) servedBy(command []string) bool {
	at := slices.Index(command, "-D")
	return filepath.Base(command[0]) == "postgres" && at > 0 && at+1 < len(command) && command[at+1] == h.data()
}

type pidFile struct{ pid, port int }

func (h *postgresHome) readPidFile() (pidFile, bool) {
	text, err := os.ReadFile(h.pidFilePath())
	if err != nil {
		return pidFile{}, false
	}
	const pidLine, portLine = 0, 3
	lines := strings.Split(string(text), "\n")
	if len(lines) <= portLine {
		return pidFile{}, false
	}
	pid, pidErr := strconv.Atoi(strings.TrimSpace(lines[pidLine]))
	port, portErr := strconv.Atoi(strings.TrimSpace(lines[portLine]))
	return pidFile{pid: pid, port: port}, pidErr == nil && portErr == nil
}

func (h *postgresHome) pidFilePath() string { return filepath.Join(h.data(), "postmaster.pid") }

// clearRemains makes a dead server's data directory startable: it ends the sessions that have not noticed their server's
// death, and removes a lock file whose process number is a zombie or another program by now, which PostgreSQL would take
// for a server. A lock file of something called postgres is left for PostgreSQL to judge.
func (h *postgresHome) clearRemains() error {
	if err := h.endSessions(); err != nil {
		return err
	}
	file, ok := h.readPidFile()
	if ok {
		table, err := processes()
		if err != nil {
			return err
		}
		if command := table[file.pid]; len(command) > 0 && filepath.Base(command[0]) == "postgres" {
			return nil
		}
	}
	if err := os.Remove(h.pidFilePath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (h *postgresHome) endSessions() error {
	deadline := time.Now().Add(immediateShutdown)
	for signal := syscall.SIGQUIT; ; time.Sleep(pollInterval) {
		table, err := processes()
		if err != nil {
			return err
		}
		left := 0
		for pid, command := range table {
			if strings.HasPrefix(command[0], "postgres: "+h.clusterName()+": ") || h.servedBy(command) {
				left++
				if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("end what is left of a dead server (process %d): %w", pid, err)
				}
			}
		}
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			if signal == syscall.SIGKILL {
				return fmt.Errorf("%d processes of a dead server on %s do not end", left, h.data())
			}
			signal, deadline = syscall.SIGKILL, time.Now().Add(immediateShutdown)
		}
	}
}

// processes is the command line of every running process, by process number. Zombies have none and are left out.
func processes() (map[int][]string, error) {
	table := map[int][]string{}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		// A process may end at any moment.
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			continue
		}
		table[pid] = strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
	}
	if len(files) > 0 {
		return table, nil
	}
	// No /proc, as on macOS.
	listing, err := exec.Command("ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	for line := range strings.Lines(string(listing)) {
		number, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(number)
		if err != nil || command == "" {
			continue
		}
		if strings.HasPrefix(command, "postgres: ") {
			table[pid] = []string{command}
		} else {
			table[pid] = strings.Fields(command)
		}
	}
	return table, nil
}

// running reports whether a process exists that is not a zombie.
func running(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) {
		_, procErr := os.Stat("/proc/self/stat")
		return procErr != nil // without /proc the signal's word stands
	}
	// The state follows the program's name, which is in parentheses and may contain anything.
	_, state, found := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
	return !found || !strings.HasPrefix(state, "Z")
}

// openLog opens the server's log for appending and begins a new one when it has grown large.
func (h *postgresHome) openLog() (*os.File, error) {
	const large = 32 << 20
	flags := os.O_RDWR | os.O_CREATE | os.O_APPEND
	if info, err := os.Stat(h.path("postgres.log")); err == nil && info.Size() > large {
		flags |= os.O_TRUNC
	}
	log, err := os.OpenFile(h.path("postgres.log"), flags, 0o600)
	if err != nil {
		return nil, unwritable(h.dir, err)
	}
	if err := h.account.own(log.Name()); err != nil {
		_ = log.Close()
		return nil, err
	}
	return log, nil
}

func (h *postgresHome) readLog(offset int64) (string, error) {
	text, err := os.ReadFile(h.path("postgres.log"))
	if err != nil {
		return "", err
	}
	return string(text[min(offset, int64(len(text))):]), nil
}

// explain turns what a PostgreSQL program wrote before it failed into one line.
func (h *postgresHome) explain(said string, failure error) error {
	switch {
	case strings.Contains(said, "No space left on device"), strings.Contains(said, "Disk quota exceeded"):
		return diskFull(h.dir, syscall.ENOSPC)
	case strings.Contains(said, `could not access file "pg_stat_statements"`):
		return errors.New("PostgreSQL has no pg_stat_statements: install its contrib package (run `make setup`)")
	case strings.Contains(said, "pre-existing shared memory block"):
		return fmt.Errorf("%w: %s", errMemoryHeld, h.data())
	case strings.Contains(said, `lock file "postmaster.pid" already exists`):
		return fmt.Errorf("another PostgreSQL runs on %s: stop it, or delete postmaster.pid there if that is not so", h.data())
	}
	for _, mark := range []string{"PANIC:", "FATAL:", "error:"} {
		for line := range strings.Lines(said) {
			_, message, found := strings.Cut(line, mark)
			// That it is starting up is what it told us while we waited.
			if found && !strings.Contains(message, "the database system is") {
				return fmt.Errorf("%w: %s", failure, strings.TrimSpace(message))
			}
		}
	}
	return fmt.Errorf("%w; see %s", failure, h.path("postgres.log"))
}
