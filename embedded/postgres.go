package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const (
	// superuser is the role that initdb makes. Only bootstrap, tests and tools use it.
	superuser = "postgres"
	owner     = "netra_owner"
	app       = "netra_app"
	database  = "netra_db"
)

// PostgresConfig says where an embedded PostgreSQL lives and how it runs.
type PostgresConfig struct {
	Dir      string       // holds the data directory, the lock, the socket and the server's log; made when absent
	Port     int          // on 127.0.0.1; 0 keeps that of a server found running, or takes any free one
	Binaries string       // directory of postgres and initdb; "" looks in PATH and /usr/lib/postgresql
	Buffers  string       // PostgreSQL's shared_buffers; "" is 1GB
	Fast     bool         // for tests: the data survives a killed server, but not a crash of the machine
	Progress func(string) // told in one line what takes long; nil says nothing
	Log      *slog.Logger // nil discards
}

// Postgres is a running PostgreSQL server with netra's roles, database and extensions. A server that dies is started
// again on the same port.
type Postgres struct {
	cfg     PostgresConfig
	home    *postgresHome
	bin     postgresBinaries
	secrets postgresSecrets
	port    int

	cancel context.CancelFunc
	hurry  func()
	done   chan struct{}
	err    error // written before done is closed
}

// StartPostgres starts the PostgreSQL server of cfg.Dir, making its data directory first where there is none. A server
// that still runs there because its parent was killed is adopted, or replaced when its port or durability are not the
// wanted ones. It fails while another process holds the directory. The server outlives ctx: it runs until Stop.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p, err := startPostgres(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return p, nil
}

func startPostgres(ctx context.Context, cfg PostgresConfig) (_ *Postgres, err error) {
	home, err := openPostgresHome(cfg.Dir, cfg.Log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			home.close()
		}
	}()
	major, err := home.major()
	if err != nil {
		return nil, err
	}
	bin, err := findPostgresBinaries(ctx, cfg.Binaries, major, home.account)
	if err != nil {
		return nil, err
	}
	if cfg.Port != 0 && cfg.Port != home.runningPort() {
		if err := checkPortFree(ctx, cfg.Port); err != nil {
			return nil, err
		}
	}
	if major == 0 {
		cfg.Progress(fmt.Sprintf("initialising PostgreSQL %d in %s", bin.major, home.dir))
		if err := home.initialise(ctx, bin, cfg); err != nil {
			return nil, err
		}
	}
	p := &Postgres{cfg: cfg, home: home, bin: bin, port: cfg.Port, done: make(chan struct{})}
	if p.secrets, err = home.secrets(); err != nil {
		return nil, err
	}
	server, err := p.adoptOrLaunch(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.bootstrap(ctx); err != nil {
		server.stop(nil)
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	hurry := make(chan struct{})
	p.cancel, p.hurry = cancel, sync.OnceFunc(func() { close(hurry) })
	go p.supervise(running, server, hurry)
	return p, nil
}

// OwnerURL is the database as the role that owns it: migrations, seed, maintenance.
func (p *Postgres) OwnerURL() string { return postgresURL(p.port, owner, p.secrets.Owner, database) }

// AppURL is the database as the role that the server uses: it owns nothing and is subject to row-level security.
func (p *Postgres) AppURL() string { return postgresURL(p.port, app, p.secrets.App, database) }

// AdminURL is the maintenance database as superuser. It is for tests and tools only.
func (p *Postgres) AdminURL() string {
	return postgresURL(p.port, superuser, p.secrets.Superuser, "postgres")
}

// Done is closed when the server has ended for good: after Stop, or when it died and could not be started again.
func (p *Postgres) Done() <-chan struct{} { return p.done }

// Err says why the server ended. It is nil before Done is closed, and after an orderly Stop.
func (p *Postgres) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Stop shuts the server down and returns when its process is gone. Open transactions are rolled back. When ctx ends
// first, or after half a minute, the server is stopped at once and recovers at its next start.
func (p *Postgres) Stop(ctx context.Context) error {
	p.cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.hurry()
		<-p.done
	}
	return p.err
}

func postgresURL(port int, role, password, name string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password),
		Host:     net.JoinHostPort(loopback, strconv.Itoa(port)),
		Path:     "/" + name,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// supervise owns the server and the lock until the end.
func (p *Postgres) supervise(ctx context.Context, server *postmaster, hurry <-chan struct{}) {
	defer close(p.done)
	defer p.home.close()
	defer p.cancel()
	const patience, lasting = 3, time.Minute
	for deaths := 0; ; {
		started := time.Now()
		select {
		case <-ctx.Done():
			p.err = server.stop(hurry)
			return
		case <-server.gone:
		}
		if time.Since(started) > lasting {
			deaths = 0
		}
		if deaths++; deaths > patience {
			p.err = fmt.Errorf("PostgreSQL died %d times in a row: see %s", deaths, p.home.path("postgres.log"))
			return
		}
		p.cfg.Log.Warn("PostgreSQL died; starting it again", "pid", server.pid, "port", p.port)
		next, err := p.relaunch(ctx)
		switch {
		case ctx.Err() != nil:
			if next != nil {
				p.err = next.stop(hurry)
			}
			return
		case err != nil:
			p.err = fmt.Errorf("PostgreSQL died and cannot be started again: %w", err)
			return
		}
		server = next
	}
}

// relaunch is patient: a client that keeps trying to connect may for a moment hold the very port it wants to reach.
func (p *Postgres) relaunch(ctx context.Context) (*postmaster, error) {
	const attempts, pause = 10, 300 * time.Millisecond
	for attempt := 1; ; attempt++ {
		server, err := p.launch(ctx, p.port)
		if err == nil || attempt == attempts {
			return server, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// adoptOrLaunch leaves a server running that answers as the superuser, whoever started it.
func (p *Postgres) adoptOrLaunch(ctx context.Context) (*postmaster, error) {
	orphan, err := p.home.orphan()
	if err != nil {
		return nil, err
	}
	if orphan != nil {
		if p.adoptable(ctx, orphan) {
			p.port = orphan.port
			p.cfg.Log.Info("adopted a running PostgreSQL", "pid", orphan.pid, "port", orphan.port)
			return orphan, nil
		}
		p.cfg.Log.Info("replacing a running PostgreSQL", "pid", orphan.pid, "port", orphan.port)
		if err := orphan.stop(nil); err != nil {
			return nil, err
		}
	}
	if p.port != 0 {
		return p.launch(ctx, p.port)
	}
	// Between choosing a free port and binding it someone else may take it.
	for attempts := 5; ; attempts-- {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		server, err := p.launch(ctx, port)
		if err == nil {
			p.port = port
			return server, nil
		}
		if !errors.Is(err, errPortInUse) || attempts == 1 {
			return nil, err
		}
	}
}

func (p *Postgres) adoptable(ctx context.Context, orphan *postmaster) bool {
	if orphan.port == 0 || p.cfg.Port != 0 && p.cfg.Port != orphan.port {
		return false
	}
	settings, err := p.waitReady(ctx, orphan)
	if err != nil {
		p.cfg.Log.Warn("the PostgreSQL found running does not answer as ours", "pid", orphan.pid, "error", err)
		return false
	}
	return settings.fast == p.cfg.Fast
}

var errPortInUse = errors.New("port in use")

// portInUse is the one line for a port that somebody else listens on.
func portInUse(port int) error {
	return fmt.Errorf("%w: another program listens on %s:%d; stop it or choose another port", errPortInUse, loopback, port)
}

const loopback = "127.0.0.1"

func checkPortFree(ctx context.Context, port int) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		if isAddressInUse(err) {
			return portInUse(port)
		}
		return fmt.Errorf("listen on port %d: %w", port, err)
	}
	return listener.Close()
}

func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
