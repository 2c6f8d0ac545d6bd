package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/demo"
	"github.com/netra-ai/netra/embedded"
	"github.com/netra-ai/netra/migrations"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
	"github.com/netra-ai/netra/web/playground"
)

const (
	devGrace    = 2 * time.Second
	devTokenTTL = 24 * time.Hour
)

func newDevCommand(cfg *config) *cobra.Command {
	d := &development{cfg: *cfg}
	command := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: engines, demo data, simulated agents and the server",
		Long: `Starts the embedded PostgreSQL and ClickHouse, migrates them, fills them with demo data the first time, starts simulated agents and
serves http://127.0.0.1:8080, where the playground signs in as a demo user. Data stays in NETRA_DATA_DIR. While it runs,
"netra token" and "netra embeddings" with the same NETRA_DATA_DIR find its databases; all other commands do after: . .netra/dev.env`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.progress = newProgress(cmd.ErrOrStderr())
			d.log = slog.New(server.LogHandler(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			return d.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	command.Flags().StringVar(&d.cfg.Addr, "addr", cfg.Addr, "where to listen")
	command.Flags().StringVar(&d.cfg.DataDir, "data-dir", cfg.DataDir, "where the engines keep their data")
	command.Flags().BoolVar(&d.idle, "no-agents", false, "leave the runs to somebody else")
	return command
}

// development is one run of `netra dev`.
type development struct {
	cfg      config
	idle     bool
	progress func(format string, args ...any)
	log      *slog.Logger
}

// newProgress writes lines with the time that has gone by, from any goroutine.
func newProgress(out io.Writer) func(string, ...any) {
	began := time.Now()
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(out, "netra: %5.1f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...)) // nobody to tell
	}
}

func (d *development) run(ctx context.Context, out io.Writer) (err error) {
	// The address comes first: what it is about to take minutes for would be for nothing.
	listener, err := listen(ctx, d.cfg.Addr)
	if err != nil {
		return err
	}
	defer listener.Close() // Serve has closed it, unless it was never reached
	if d.cfg.Secret == "" {
		if d.cfg.Secret, err = devSecret(d.cfg.DataDir); err != nil {
			return err
		}
	}
	if err := checkSecret("NETRA_SECRET", d.cfg.Secret); err != nil {
		return err
	}
	d.progress("starting PostgreSQL and ClickHouse in %s", d.cfg.DataDir)
	engines, err := embedded.Start(ctx, embedded.Config{
		Dir: d.cfg.DataDir, PostgresBinaries: d.cfg.PostgresBinaries, ClickHouseLibrary: d.cfg.ClickHouseLibrary,
		Progress: func(line string) { d.progress("%s", line) }, Log: d.log,
	})
	if err != nil {
		return err
	}
	defer func() {
		d.progress("stopping PostgreSQL and ClickHouse")
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), enginesStopTimeout)
		defer cancel()
		err = errors.Join(err, engines.Stop(stopping))
		d.progress("stopped")
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-engines.Done():
			cancel(engines.Err())
		case <-ctx.Done():
		}
	}()
	err = d.runOn(ctx, engines, listener, out)
	if engineErr := engines.Err(); engineErr != nil {
		return engineErr
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // it was told to stop while it was starting
	}
	return err
}

// runOn is what happens between the engines' start and their end.
func (d *development) runOn(ctx context.Context, engines *embedded.Engines, listener net.Listener, out io.Writer) error {
	d.cfg.DatabaseURL = engines.Postgres.AppURL()
	d.cfg.OwnerDatabaseURL = engines.Postgres.OwnerURL()
	d.cfg.ClickHouseURL = engines.ClickHouse.URL()
	path, err := writeEnvironment(d.cfg.DataDir, engines.Environment())
	if err != nil {
		return err
	}
	defer os.Remove(path) // it says how to reach engines that are about to go
	if err := d.migrate(ctx); err != nil {
		return err
	}
	if err := d.seed(ctx); err != nil {
		return err
	}
	limit, err := spoolLimit(d.cfg.SpoolLimit)
	if err != nil {
		return err
	}
	endpoint, err := d.cfg.embeddings()
	if err != nil {
		return err
	}
	files, err := d.cfg.uploads()
	if err != nil {
		return err
	}
	keep, err := d.cfg.keepEvents()
	if err != nil {
		return err
	}
	r, err := assemble(assembly{
		spool: d.cfg.spool(), spoolLimit: limit, uploads: files, embeddings: endpoint,
		databaseURL: d.cfg.DatabaseURL, clickHouseURL: d.cfg.ClickHouseURL, secret: []byte(d.cfg.Secret),
		grace: devGrace, keepEvents: keep, playground: d.playground, log: d.log,
	})
	if err != nil {
		return err
	}
	defer r.close() // everything that it has read has been used
	address := listener.Addr().(*net.TCPAddr)
	if !address.IP.IsLoopback() {
		d.progress("warning: whoever reaches %s can sign in as a demo user", address)
	}
	if !d.idle {
		stop := d.startAgents(ctx)
		defer stop()
	}
	d.progress("ready")
	if _, err := fmt.Fprintf(out, "netra: http://%s\n", address); err != nil {
		return fmt.Errorf("print the address: %w", err)
	}
	return r.serve(ctx, listener)
}

func (d *development) migrate(ctx context.Context) error {
	d.progress("migrating")
	databases, err := openDatabases(ctx, &d.cfg, func(ctx context.Context, url string) (*sql.DB, error) { return migrations.OpenClickHouse(ctx, url) })
	if err != nil {
		return err
	}
	defer databases.Close() // the migrations say themselves whether they worked
	return migrations.Up(ctx, databases.owner, databases.clickhouse, d.log)
}

// seed fills the database the first time.
func (d *development) seed(ctx context.Context) error {
	empty, err := demo.Empty(ctx, d.cfg.OwnerDatabaseURL)
	if err != nil || !empty {
		return err
	}
	return demo.Seed(ctx, demo.SeedConfig{
		OwnerURL: d.cfg.OwnerDatabaseURL, ClickHouseURL: d.cfg.ClickHouseURL, Size: demo.DefaultSize, Seed: 1,
		Progress: func(line string) { d.progress("%s", line) },
	})
}

// startAgents returns what stops them and waits for their end.
func (d *development) startAgents(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := demo.RunAgents(ctx, demo.AgentsConfig{
			OwnerURL: d.cfg.OwnerDatabaseURL, ClickHouseURL: d.cfg.ClickHouseURL, Rate: agentsRate, Concurrency: agentsConcurrency, Log: d.log,
		}); err != nil {
			d.log.ErrorContext(ctx, "the simulated agents have ended", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// playground offers the demo users with tokens, but only under a name that no DNS server gives out: a page of somebody else's whose name
// is made to point here would be of the same origin, and could read them.
func (d *development) playground(s *store.Store) http.Handler {
	offering := playground.Handler(playground.Options{Log: d.log, Config: func(ctx context.Context) (playground.Config, error) {
		users, err := usersByEmail(ctx, s, "alice@example.com", "bob@example.com", "admin@example.com")
		if err != nil {
			return playground.Config{}, err
		}
		page := playground.Config{Dev: true}
		for _, user := range users {
			token, err := server.NewToken([]byte(d.cfg.Secret), user.DatabaseID, devTokenTTL)
			if err != nil {
				return playground.Config{}, err
			}
			name := user.Email
			if user.Name != nil {
				name = *user.Name
			}
			page.Users = append(page.Users, playground.User{Email: user.Email, Name: name, Superuser: user.IsSuperuser, Token: token})
		}
		return page, nil
	}})
	asking := playground.Handler(playground.Options{Log: d.log})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if namesThisMachine(r.Host) {
			offering.ServeHTTP(w, r)
			return
		}
		asking.ServeHTTP(w, r)
	})
}

func namesThisMachine(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
