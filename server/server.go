package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql/executor"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/internal/share"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
)

// Config is what a Server needs to know.
type Config struct {
	Resolvers graph.ResolverRoot
	// Authenticate is the viewer that a user is now. Users who are absent or inactive fail with Unauthenticated. How long it, AuthenticateKey and Standing may
	// take is theirs to bound.
	Authenticate func(ctx context.Context, userID int) (models.Viewer, error)
	// AuthenticateKey is the viewer that an API key makes its bearer now, and until when the key is good (zero is for ever). Keys that are not good fail
	// with Unauthenticated. nil refuses every key.
	AuthenticateKey func(ctx context.Context, key models.APIKeyToken) (models.Viewer, time.Time, error)
	// Standing is what these viewers are now, in one question; who is missing from the answer has lost all rights. nil lets streams go on.
	Standing       func(ctx context.Context, viewers []models.Viewer) ([]models.Viewer, error)
	TrustedProxies []netip.Prefix       // who may say in X-Forwarded-For where a request came from
	Ingest         Ingest               // takes workload events; without it there is no /ingest/events
	Files          Files                // receives and gives files; without it there are no /uploads and /references, and no multipart requests
	Activity       Activity             // hears of every finished operation that has a viewer; nil for nobody
	Secret         []byte               // signs bearer tokens; at least MinSecret bytes
	Ready          []Check              // what /readyz asks
	Playground     http.Handler         // everything that is not the server's own; nil for nothing
	AllowedOrigins []string             // pages of other origins that may read answers, such as https://app.example.com; "*" for all
	Limits         Limits               // zero is the defaults
	Streams        StreamSettings       // zero is the defaults
	Grace          time.Duration        // how long Serve waits for requests and sockets when it ends; 10 s unless set
	Metrics        *prometheus.Registry // to which other rooms may have added; nil for one of its own
	Log            *slog.Logger         // nil discards
}

// Server is the edge of one replica. It keeps nothing that another one would need.
type Server struct {
	exec       *executor.Executor
	later      *executor.Executor // for what an operation defers: nothing that counts operations is used here
	schema     *ast.Schema
	streams    *Streams
	websocket  *Websocket
	auth       *authenticator
	keys       func(context.Context, models.APIKeyToken) (models.Viewer, time.Time, error)
	proxies    []netip.Prefix
	limits     Limits
	ready      *readiness
	origins    origins
	playground http.Handler
	ingest     Ingest
	ingesting  chan struct{} // a place for each request that records events
	files      Files
	receiving  *share.Places // for requests that bring files
	giving     *share.Places // for files that are given
	standing   func(context.Context, []models.Viewer) ([]models.Viewer, error)
	grace      time.Duration
	metrics    *metrics
	registry   *prometheus.Registry
	log        *slog.Logger
	accepts    *lru.Cache[string, accepted] // by the header
	lines      slog.Handler                 // the log's, for lines that have the request's id already
}

// New makes a server. It fails for a configuration that cannot work.
func New(cfg Config) (*Server, error) {
	if len(cfg.Secret) < MinSecret {
		return nil, fmt.Errorf("the secret has %d bytes; it needs at least %d", len(cfg.Secret), MinSecret)
	}
	if cfg.Files != nil && cfg.Standing == nil {
		return nil, errors.New("files need Standing, which says whether a link still holds")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	parsed, err := newDocuments()
	if err != nil {
		return nil, fmt.Errorf("make the document cache: %w", err)
	}
	accepts, err := lru.New[string, accepted](maxAccepts)
	if err != nil {
		return nil, fmt.Errorf("make the cache of what clients accept: %w", err)
	}
	limits, handler := cfg.Limits.withDefaults(), logHandlerOf(cfg.Log.Handler())
	s := &Server{
		auth:       newAuthenticator(cfg.Secret, cfg.Authenticate),
		keys:       cfg.AuthenticateKey,
		proxies:    cfg.TrustedProxies,
		limits:     limits,
		ready:      &readiness{checks: cfg.Ready},
		origins:    cfg.AllowedOrigins,
		playground: cfg.Playground,
		ingest:     cfg.Ingest,
		ingesting:  make(chan struct{}, maxIngestAtOnce),
		files:      cfg.Files,
		receiving:  share.New(limits.Uploads, 0),
		giving:     share.New(limits.Downloads, 0),
		standing:   cfg.Standing,
		grace:      cmp.Or(cfg.Grace, 10*time.Second),
		registry:   cfg.Metrics,
		log:        slog.New(handler),
		lines:      handler.Handler,
		accepts:    accepts,
	}
	s.streams = NewStreams(StreamsConfig{Authenticate: s.authenticate, Standing: cfg.Standing, Settings: cfg.Streams, Log: s.log})
	s.websocket = NewWebsocket(WebsocketConfig{Streams: s.streams, CheckOrigin: s.origins.allow, Log: s.log, Ended: func(kind ast.Operation, outcome string, elapsed time.Duration) {
		s.metrics.operated(kind, outcome, elapsed)
	}})
	if s.metrics, err = newMetrics(cfg.Metrics, s.streams.Open); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	executable := graph.NewExecutableSchema(graph.Config{Resolvers: cfg.Resolvers})
	s.schema = executable.Schema()
	s.exec = executor.New(executable)
	s.exec.SetErrorPresenter(s.present)
	s.exec.SetRecoverFunc(recovered)
	s.exec.SetQueryCache(parsed)
	s.exec.SetParserTokenLimit(s.limits.Tokens)
	g := &gate{limits: s.limits, documents: parsed}
	s.exec.Use(g)
	s.exec.Use(resolvers.Notices{})
	s.exec.Use(graph.Plain(cfg.Resolvers, resolvers.Loading, mayRead))
	s.later = executor.New(executable)
	s.later.SetErrorPresenter(s.present)
	s.later.SetRecoverFunc(recovered)
	s.later.Use(g)
	if cfg.Activity != nil {
		s.exec.Use(cfg.Activity)
	}
	return s, nil
}

const (
	routeGraphQL    = "/graphql"
	routeIngest     = "/ingest/events"
	routeUploads    = "/uploads/"
	routeReferences = "/references/"
	routeHealth     = "/healthz"
	routeReady      = "/readyz"
	routeMetrics    = "/metrics"
)

// routeOf is the route of a path, for metrics.
func routeOf(path string) string {
	switch path {
	case routeGraphQL, routeIngest, routeHealth, routeReady, routeMetrics:
		return path
	}
	for _, prefix := range []string{routeUploads, routeReferences} {
		if strings.HasPrefix(path, prefix) {
			return prefix
		}
	}
	return "playground"
}

// Handler answers everything: /graphql, /ingest/events, /uploads, /references, /healthz, /readyz, /metrics, and the playground.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(routeGraphQL, s.origins.share("GET, POST", "Origin, Accept, Authorization", s.serveGraphQL))
	if s.files != nil {
		mux.Handle(routeUploads+"{token}", s.origins.share("PUT", "Origin", s.serveUpload))
		mux.Handle(routeReferences+"{id}/content", s.origins.share("GET, HEAD", "Origin, Authorization", s.serveContent))
	}
	if s.ingest != nil {
		mux.HandleFunc(routeIngest, s.serveIngest)
	}
	mux.HandleFunc("GET "+routeHealth, serveHealth)
	mux.Handle("GET "+routeReady, s.ready)
	mux.Handle("GET "+routeMetrics, s.serveMetrics())
	if s.playground != nil {
		mux.Handle("/", s.playground)
	}
	return s.observe(mux)
}

// Serve answers until ctx ends, and then goes gracefully: it takes no new connections, lets requests finish, and tells sockets and event streams to go elsewhere,
// spread over the grace period so that the clients do not all come back at once. It returns within that period, cancelling what is left.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	web := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10, // queries in the URL of a GET are part of it
		BaseContext:       func(net.Listener) context.Context { return working },
		ConnContext:       withConn,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- web.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.ready.leave()
	leaving, cancel := context.WithTimeout(working, s.grace)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.streams.Drain(leaving) }()
	if err := errors.Join(web.Shutdown(leaving), <-drained); err != nil {
		s.log.WarnContext(ctx, "requests or sockets were cut off", "grace", s.grace, "error", err)
		stop()
		if err := web.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("close connections: %w", err)
		}
	}
	return nil
}
