package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	"github.com/golang-jwt/jwt/v5"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/store"
)

// serveBare is our graph with nothing before it but what no server can do without: it reads a request, verifies its token, executes and writes. What
// our edge does beyond that is its price: limits, timeouts, the hooks of the executor, metrics, request ids, the log and the record of what users do.
func serveBare(ctx context.Context) error {
	debug.SetGCPercent(400) // as netra serve has it
	s, err := store.Open(store.Config{URL: os.Getenv("NETRA_DATABASE_URL"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close()
	a, err := analytics.Open(analytics.Config{URL: os.Getenv("NETRA_CLICKHOUSE_URL")})
	if err != nil {
		return err
	}
	defer a.Close()
	root := &resolvers.Resolver{Store: s, Analytics: a, Loaders: new(loaders.Loaders)}
	b := &bare{
		store:  s,
		secret: []byte(os.Getenv("NETRA_SECRET")),
		exec:   executor.New(graph.NewExecutableSchema(graph.Config{Resolvers: root})),
	}
	b.exec.SetQueryCache(lru.New[*ast.QueryDocument](100))
	b.exec.Use(graph.Plain(root, resolvers.Loading, func(context.Context) error { return nil }))
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	server := &http.Server{ReadHeaderTimeout: headerTimeout, Handler: b}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type bare struct {
	store  *store.Store
	secret []byte
	exec   *executor.Executor
	plans  sync.Map // *ast.QueryDocument to *plain.Kept, of which a bench has few
}

func (b *bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, err := b.authenticate(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	ctx = graphql.StartOperationTrace(ctx)
	var params graphql.RawParams
	if err := json.NewDecoder(r.Body).Decode(&params); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	operation, errs := b.exec.CreateOperationContext(ctx, &params)
	if len(errs) > 0 {
		http.Error(w, errs.Error(), http.StatusBadRequest)
		return
	}
	plans, _ := b.plans.LoadOrStore(operation.Doc, new(plain.Kept))
	next, ctx := b.exec.DispatchOperation(plain.Keep(ctx, plans.(*plain.Kept)), operation)
	response := next(ctx)
	if len(response.Errors) > 0 {
		http.Error(w, response.Errors.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(response.Data)+len(`{"data":}`)))
	_, _ = w.Write([]byte(`{"data":`)) // a client that leaves is no concern
	rest := append(response.Data, '}')
	_, _ = w.Write(rest)
	plain.Release(rest)
}

func (b *bare) authenticate(r *http.Request) (context.Context, error) {
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), &claims, func(*jwt.Token) (any, error) { return b.secret, nil })
	if err != nil {
		return nil, err
	}
	user, err := strconv.Atoi(claims.Subject)
	if err != nil {
		return nil, err
	}
	viewer, err := b.store.Viewer(r.Context(), user)
	if err != nil {
		return nil, err
	}
	return models.WithViewer(r.Context(), viewer), nil
}
