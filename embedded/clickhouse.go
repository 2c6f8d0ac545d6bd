package embedded

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ClickHouseConfig says where an embedded ClickHouse lives and how it runs.
type ClickHouseConfig struct {
	Dir      string       // holds the data, the lock and the password; made when absent
	Port     int          // on 127.0.0.1; 0 takes any free one
	Library  string       // path of libchdb.so; "" looks where the set-up puts it
	Progress func(string) // told in one line what takes long; nil says nothing
	Log      *slog.Logger // nil discards
}

// ClickHouse is a running ClickHouse engine behind ClickHouse's HTTP interface, in a child process. A child that dies is
// replaced by another on the same port and data.
type ClickHouse struct {
	cfg      ClickHouseConfig
	password string
	cancel   context.CancelFunc
	hurry    func()
	done     chan struct{}

	mu    sync.Mutex
	child *engineProcess
}

const (
	// engineStartTimeout bounds loading half a gigabyte of library from a slow disk, and replaying the data directory.
	engineStartTimeout = 2 * time.Minute
	// engineStopTimeout leaves room for drainPatience and for the engine to close its tables.
	engineStopTimeout = drainPatience + 10*time.Second
	// A child that dies is replaced at once, and then ever more slowly until one has lasted for longestRestartPause.
	shortestRestartPause = 100 * time.Millisecond
	longestRestartPause  = 5 * time.Second
)

// StartClickHouse starts the engine on cfg.Dir and returns when it answers. It fails while another process holds the
// directory or the port, or when the library is missing. The engine outlives ctx: it runs until Stop, or for as long as
// this process lives.
//
// The child is this program called as `clickhouse-engine --dir … --port … --library …`, which must call ClickHouseChild.
func StartClickHouse(ctx context.Context, cfg ClickHouseConfig) (*ClickHouse, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c, err := startClickHouse(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start ClickHouse: %w", err)
	}
	return c, nil
}

func startClickHouse(ctx context.Context, cfg ClickHouseConfig) (*ClickHouse, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	if cfg.Library, err = findChDB(cfg.Library, cfg.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, unwritable(filepath.Dir(cfg.Dir), err)
	}
	password, err := keptPassword(filepath.Join(cfg.Dir, passwordFile))
	if err != nil {
		return nil, unwritable(cfg.Dir, err)
	}
	cfg.Progress("starting ClickHouse in " + cfg.Dir)
	child, err := startEngine(ctx, cfg)
	if err != nil {
		return nil, err
	}
	// Clients know the port by now, so every further child has to take the same.
	cfg.Port = child.port
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	hurry := make(chan struct{})
	c := &ClickHouse{
		cfg: cfg, password: password, child: child,
		cancel: cancel, hurry: sync.OnceFunc(func() { close(hurry) }), done: make(chan struct{}),
	}
	go c.supervise(running, child, hurry)
	return c, nil
}

// keptPassword reads the password in the file, making one first where there is none.
func keptPassword(path string) (string, error) {
	password, err := os.ReadFile(path)
	if err == nil && len(password) > 0 {
		return strings.TrimSpace(string(password)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	made := rand.Text()
	return made, os.WriteFile(path, []byte(made+"\n"), 0o600)
}

// URL is the analytics database, with user and password.
func (c *ClickHouse) URL() string {
	address := url.URL{
		Scheme: "http", User: url.UserPassword(clickHouseUser, c.password),
		Host: net.JoinHostPort(loopback, strconv.Itoa(c.cfg.Port)), Path: "/" + clickHouseDatabase,
	}
	return address.String()
}

// PID is the process id of the child that runs now, or ran last.
func (c *ClickHouse) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.child.command.Process.Pid
}

// Done is closed when the engine has ended for good, after Stop. A child that dies is replaced and does not close it.
func (c *ClickHouse) Done() <-chan struct{} { return c.done }

// Stop lets running queries end, for some seconds, and returns when the child is gone. When ctx ends first the child is
// killed, which loses nothing that was acknowledged.
func (c *ClickHouse) Stop(ctx context.Context) error {
	c.cancel()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.hurry()
		<-c.done
	}
	return nil
}

// supervise owns the child, and its successors, until the end.
func (c *ClickHouse) supervise(ctx context.Context, child *engineProcess, hurry <-chan struct{}) {
	defer close(c.done)
	pause := shortestRestartPause
	for started := time.Now(); ; started = time.Now() {
		select {
		case <-ctx.Done():
			child.stop(hurry)
			return
		case <-child.gone:
		}
		if time.Since(started) > longestRestartPause {
			pause = shortestRestartPause
		}
		c.cfg.Log.Error("the ClickHouse engine died and is started again", "reason", child.epitaph())
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			pause = min(2*pause, longestRestartPause)
			next, err := startEngine(ctx, c.cfg)
			if err == nil {
				c.mu.Lock()
				c.child = next
				c.mu.Unlock()
				child = next
				break
			}
			if ctx.Err() != nil {
				return
			}
			c.cfg.Log.Error("the ClickHouse engine does not start", "error", err)
		}
	}
}

// engineProcess is one child process.
type engineProcess struct {
	command *exec.Cmd
	stdin   io.Closer
	port    int
	gone    chan struct{} // closed when the process has ended and its output has been read

	mu    sync.Mutex
	words []string // the last lines on standard error
	exit  error    // set before gone is closed
}

// startEngine starts a child and returns when it answers. It leaves nothing behind when it fails.
func startEngine(ctx context.Context, cfg ClickHouseConfig) (*engineProcess, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	command := exec.Command(program, "clickhouse-engine",
		"--dir", cfg.Dir, "--port", strconv.Itoa(cfg.Port), "--library", cfg.Library)
	command.Dir = cfg.Dir
	// Values without a time zone are in the zone of the server, which is to be the same on every machine.
	command.Env = append(os.Environ(), "TZ=UTC")
	command.SysProcAttr = childAttributes()
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := command.StderrPipe()
	if err != nil {
		return nil, err
	}
	child := &engineProcess{command: command, stdin: stdin, gone: make(chan struct{})}
	answers := make(chan string, 1)
	started := make(chan error, 1)
	go func() {
		// The kernel ties the child to the thread that started it, so this goroutine keeps its thread until the child ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := command.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		var readers sync.WaitGroup
		readers.Go(func() { child.listen(stdout, answers) })
		readers.Go(func() { child.remember(stderr, cfg.Log) })
		readers.Wait()
		child.exit = command.Wait()
		close(child.gone)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", program, err)
	}
	ctx, cancel := context.WithTimeout(ctx, engineStartTimeout)
	defer cancel()
	select {
	case answer, given := <-answers:
		port, ready := strings.CutPrefix(answer, saysReady)
		if ready {
			if child.port, err = strconv.Atoi(port); err == nil {
				return child, nil
			}
		}
		if given {
			child.kill()
			return nil, child.failure(strings.TrimPrefix(answer, saysFailed))
		}
		<-child.gone
		return nil, child.failure("the engine ended: " + child.epitaph())
	case <-ctx.Done():
		child.kill()
		return nil, fmt.Errorf("wait for the engine: %w", ctx.Err())
	}
}

// listen passes on the child's word on how its start went and drops what else is printed.
func (p *engineProcess) listen(stdout io.Reader, answers chan<- string) {
	defer close(answers)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if line := lines.Text(); strings.HasPrefix(line, saysReady) || strings.HasPrefix(line, saysFailed) {
			select {
			case answers <- line:
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, stdout)
}

const rememberedWords = 20

func (p *engineProcess) remember(stderr io.Reader, log *slog.Logger) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		line := lines.Text()
		log.Debug("ClickHouse engine", "says", line)
		p.mu.Lock()
		if p.words = append(p.words, line); len(p.words) > rememberedWords {
			p.words = p.words[1:]
		}
		p.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, stderr)
}

// failure explains a start that failed. The library gives its own reason on standard error only.
func (p *engineProcess) failure(reason string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.words {
		if strings.Contains(line, "No space left on device") {
			return fmt.Errorf("the disk that holds %s is full", p.command.Dir)
		}
		if strings.HasPrefix(line, "Code: ") && !strings.Contains(reason, line) {
			return fmt.Errorf("%s: %s", reason, line)
		}
	}
	return errors.New(reason)
}

// epitaph says how a child that is gone has ended.
func (p *engineProcess) epitaph() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	reason := "exit status 0"
	if p.exit != nil {
		reason = p.exit.Error()
	}
	for _, line := range p.words {
		if strings.HasPrefix(line, "fatal error: ") || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "Code: ") {
			return reason + ": " + line
		}
	}
	return reason
}

// stop ends the child in order, or by force when told to hurry or when it takes too long.
func (p *engineProcess) stop(hurry <-chan struct{}) {
	_ = p.stdin.Close()
	select {
	case <-p.gone:
		return
	case <-hurry:
	case <-time.After(engineStopTimeout):
	}
	p.kill()
}

func (p *engineProcess) kill() {
	_ = p.command.Process.Kill()
	<-p.gone
}
