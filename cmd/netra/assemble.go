package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/analytics/ingest"
	"github.com/netra-ai/netra/app"
	"github.com/netra-ai/netra/embeddings"
	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/objects"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

// assembly is what a replica is made from.
type assembly struct {
	databaseURL, clickHouseURL string
	spool                      string // directory
	spoolLimit                 int64  // bytes
	uploads                    uploads
	secret                     []byte
	origins                    []string
	proxies                    []netip.Prefix // whose X-Forwarded-For is believed
	grace                      time.Duration
	keepEvents                 time.Duration
	embeddings                 embeddings.Config // without a URL there is no endpoint
	playground                 func(*store.Store) http.Handler
	log                        *slog.Logger
}

// uploads is where uploaded files go, and what may be uploaded.
type uploads struct {
	url   string
	limit int64    // bytes of a file
	types []string // nil for the defaults
}

// replica is one running server with the rooms below it.
type replica struct {
	store     *store.Store
	analytics *analytics.Analytics
	ingester  *ingest.Ingester
	bucket    *objects.Bucket
	files     *app.Files
	hub       *live.Hub
	retention live.Retention
	server    *server.Server

	embeddings *embeddings.Endpoint // nil where there is none
	embedder   embeddings.Worker
}

// assemble constructs a replica. It connects to nothing: databases that are away are for /readyz to tell, and may come back.
func assemble(a assembly) (_ *replica, err error) {
	r := &replica{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.store, err = store.Open(store.Config{URL: a.databaseURL, Log: a.log}); err != nil {
		return nil, err
	}
	if r.analytics, err = analytics.Open(analytics.Config{URL: a.clickHouseURL, RunsOfThreads: r.store.RunIDsOfThreads}); err != nil {
		return nil, err
	}
	if r.ingester, err = ingest.New(ingest.Config{URL: a.clickHouseURL, Dir: a.spool, Limit: a.spoolLimit, Log: a.log}); err != nil {
		return nil, err
	}
	if r.bucket, err = objects.Open(a.uploads.url); err != nil {
		return nil, fmt.Errorf("NETRA_OBJECTS_URL: %w", err)
	}
	if r.files, err = app.NewFiles(app.FilesConfig{Store: r.store, Bucket: r.bucket, Secret: a.secret, Limit: a.uploads.limit, Types: a.uploads.types, Log: a.log}); err != nil {
		return nil, err
	}
	r.hub = live.New(live.Config{DatabaseURL: a.databaseURL, Store: r.store, Log: a.log})
	r.retention = live.Retention{Store: r.store, Keep: a.keepEvents, Log: a.log}
	if a.embeddings.URL != "" {
		if r.embeddings, err = embeddings.New(a.embeddings); err != nil {
			return nil, err
		}
		r.embedder = embeddings.Worker{Store: r.store, Endpoint: r.embeddings, Log: a.log}
	}
	root := &resolvers.Resolver{
		Store: r.store, App: app.New(r.store, r.files), Files: r.files, Analytics: r.analytics, Ingest: r.ingester, Live: r.hub, Loaders: &loaders.Loaders{}, Embeddings: r.embeddings,
	}
	registry := prometheus.NewRegistry()
	if err := r.register(registry, root.Loaders); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	r.server, err = server.New(server.Config{
		Resolvers:       root,
		Authenticate:    r.store.Viewer,
		AuthenticateKey: r.store.ViewerByKey,
		Standing:        r.store.Standing,
		TrustedProxies:  a.proxies,
		Ingest:          r.ingester.RecordLines,
		Files:           r.files,
		Activity:        r.ingester.Activity,
		Secret:          a.secret,
		Ready: []server.Check{
			{Name: "postgres", Required: true, Probe: r.store.Ping},
			{Name: "clickhouse", Probe: r.analytics.Ping},
			{Name: "objects", Probe: r.bucket.Ping},
		},
		Playground:     a.playground(r.store),
		AllowedOrigins: a.origins,
		Grace:          a.grace,
		Metrics:        registry,
		Log:            a.log,
	})
	return r, err
}

// register adds what the rooms below the edge count.
func (r *replica) register(registry *prometheus.Registry, l *loaders.Loaders) error {
	gauge := func(name, help string, value func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value()) })
	}
	waiting := func(name, help string, value func(ingest.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(r.ingester.Stats()) })
	}
	total := func(name, help string, value func(ingest.Stats) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(r.ingester.Stats())) })
	}
	var failures []error
	if r.embeddings != nil {
		failures = append(failures, registry.Register(r.embeddings))
	}
	for _, collector := range []prometheus.Collector{
		r.analytics,
		waiting("netra_spool_bytes", "Bytes that wait for ClickHouse.", func(s ingest.Stats) float64 { return float64(s.Bytes) }),
		waiting("netra_spool_files", "Files that wait for ClickHouse.", func(s ingest.Stats) float64 { return float64(s.Files) }),
		waiting("netra_spool_oldest_seconds", "Age of what has waited longest for ClickHouse.", func(s ingest.Stats) float64 { return s.Oldest.Seconds() }),
		waiting("netra_spool_rejected_bytes", "Bytes that ClickHouse will never take.", func(s ingest.Stats) float64 { return float64(s.RejectedBytes) }),
		total("netra_ingest_accepted_total", "Rows that were made durable, of events and of user activity.", func(s ingest.Stats) int64 { return s.Accepted }),
		total("netra_ingest_written_total", "Rows that ClickHouse has.", func(s ingest.Stats) int64 { return s.Written }),
		total("netra_ingest_rejected_total", "Rows that ClickHouse will never take.", func(s ingest.Stats) int64 { return s.Rejected }),
		total("netra_ingest_refused_total", "Requests that found the spool full or failing.", func(s ingest.Stats) int64 { return s.Refusals }),
		gauge("netra_postgres_connections_open", "Connections to PostgreSQL.", func() int { return r.store.Stats().OpenConnections }),
		gauge("netra_postgres_connections_in_use", "Connections to PostgreSQL that are answering.", func() int { return r.store.Stats().InUse }),
		gauge("netra_postgres_reads_waiting", "Operations with reads that wait to share a trip to PostgreSQL.", r.store.Waiting),
		gauge("netra_subscribers", "Subscriptions to run events.", r.hub.Subscribers),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "netra_loader_nets_total", Help: "Batches that began before every sibling had asked; each is a fault of ours.",
		}, func() float64 { return float64(l.Nets()) }),
	} {
		failures = append(failures, registry.Register(collector))
	}
	return errors.Join(failures...)
}

// serve answers on the listener until ctx ends and everybody has been seen off.
func (r *replica) serve(ctx context.Context, listener net.Listener) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 2)
	go func() { ended <- r.hub.Run(following) }()
	var background sync.WaitGroup
	background.Go(func() { r.retention.Run(following) })
	background.Go(func() { r.files.Collect(following) })
	if r.embeddings != nil {
		background.Go(func() { r.embedder.Run(following) })
		background.Go(func() {
			if err := r.embeddings.Check(following); err != nil && following.Err() == nil {
				r.embedder.Log.WarnContext(following, "embeddings: the endpoint does not embed", "model", r.embeddings.Model(), "error", err)
			}
		})
	}
	go func() { ended <- r.ingester.Run(following) }()
	err := r.server.Serve(ctx, listener)
	stop()
	background.Wait()
	return errors.Join(err, <-ended, <-ended)
}

func (r *replica) close() error {
	var failures []error
	if r.store != nil {
		failures = append(failures, r.store.Close())
	}
	if r.ingester != nil {
		failures = append(failures, r.ingester.Close())
	}
	if r.analytics != nil {
		failures = append(failures, r.analytics.Close())
	}
	if r.embeddings != nil {
		r.embeddings.Close()
	}
	return errors.Join(failures...)
}

// listen says in one line what is wrong with an address.
func listen(ctx context.Context, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("address %s is in use: stop what listens there, or choose another with --addr or NETRA_ADDR", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("address %s needs rights that this user does not have: choose another with --addr or NETRA_ADDR", address)
	case err != nil:
		return nil, fmt.Errorf("address %s cannot be listened on: %w", address, err)
	}
	return listener, nil
}

// checkURL never repeats the URL, which may hold a password.
func checkURL(name, value string, schemes ...string) error {
	if value == "" {
		return fmt.Errorf("%s is not set: it is a URL that begins with %s://", name, schemes[0])
	}
	parsed, err := url.Parse(value)
	var malformed *url.Error
	if errors.As(err, &malformed) {
		err = malformed.Err
	}
	switch {
	case err != nil && !strings.Contains(err.Error(), "@"):
		return fmt.Errorf("%s is not a URL: %w", name, err)
	case err != nil:
		return fmt.Errorf("%s is not a URL", name)
	case !slices.Contains(schemes, parsed.Scheme):
		return fmt.Errorf("%s must be a URL that begins with %s://", name, strings.Join(schemes, ":// or "))
	case parsed.Host == "" && parsed.Query().Get("host") == "":
		return fmt.Errorf("%s has no host", name)
	}
	return nil
}

// embeddings reads the three settings of the endpoint that embeds texts, of which the key stands in no error.
func (c *config) embeddings() (embeddings.Config, error) {
	endpoint := embeddings.Config{URL: c.EmbeddingsURL, Model: c.EmbeddingsModel, Key: c.EmbeddingsKey}
	switch {
	case c.EmbeddingsURL == "" && (c.EmbeddingsModel != "" || c.EmbeddingsKey != ""):
		return endpoint, errors.New("NETRA_EMBEDDINGS_MODEL or NETRA_EMBEDDINGS_KEY is set without NETRA_EMBEDDINGS_URL")
	case c.EmbeddingsURL == "":
		return endpoint, nil
	case !namesModel(c.EmbeddingsModel):
		return endpoint, errors.New("NETRA_EMBEDDINGS_MODEL is not the name of a model: NETRA_EMBEDDINGS_URL needs one, of 255 bytes at most")
	case strings.ContainsFunc(c.EmbeddingsKey, func(r rune) bool { return r < '!' || r > '~' }):
		return endpoint, errors.New("NETRA_EMBEDDINGS_KEY has characters that no token has")
	}
	return endpoint, checkURL("NETRA_EMBEDDINGS_URL", c.EmbeddingsURL, "https", "http")
}

// namesModel is whether a text can be the name of a model, which the database keeps in 255 characters.
func namesModel(s string) bool { return s != "" && len(s) <= 255 }

// spoolLimit reads NETRA_SPOOL_LIMIT.
func spoolLimit(value string) (int64, error) {
	limit, err := strconv.ParseInt(value, 10, 64)
	if err != nil || limit < 1 {
		return 0, errors.New("NETRA_SPOOL_LIMIT is not a number of bytes")
	}
	return limit, nil
}

func checkSecret(name, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s is not set: it signs bearer tokens; make one with `openssl rand -hex 32`", name)
	case len(value) < server.MinSecret:
		return fmt.Errorf("%s has %d bytes; it needs at least %d: make one with `openssl rand -hex 32`", name, len(value), server.MinSecret)
	}
	return nil
}
