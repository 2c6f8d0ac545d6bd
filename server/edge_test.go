package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// The users whom the edge knows. Everybody else is absent.
const (
	ordinary = 1
	super    = 2
	inactive = 3
	homeless = 4 // the database cannot be asked
)

func knownUsers(ctx context.Context, id int) (models.Viewer, error) {
	switch id {
	case ordinary:
		return models.Viewer{UserID: id}, nil
	case super:
		return models.Viewer{UserID: id, Superuser: true}, nil
	case homeless:
		return models.Viewer{}, models.Wrap(io.ErrUnexpectedEOF, models.DatabaseUnavailable, "the database cannot be reached now")
	default:
		return models.Viewer{}, models.Errorf(models.Unauthenticated, "this account cannot be used")
	}
}

// answers is the graph with the answers that a test gives; a field without one panics.
type answers struct {
	graph.ResolverRoot
	viewer func(context.Context) (*models.User, error)
	node   func(ctx context.Context, id string) (models.Node, error)
	record func(ctx context.Context, events []*models.EventInput, key string) error
}

func (a answers) Query() graph.QueryResolver       { return roots{answers: a} }
func (a answers) Mutation() graph.MutationResolver { return changes{answers: a} }

type roots struct {
	graph.QueryResolver
	answers answers
}

func (r roots) Viewer(ctx context.Context) (*models.User, error) { return r.answers.viewer(ctx) }
func (r roots) Node(ctx context.Context, id string) (models.Node, error) {
	return r.answers.node(ctx, id)
}

type changes struct {
	graph.MutationResolver
	answers answers
}

func (c changes) RecordEvents(ctx context.Context, input models.RecordEventsInput) (*models.RecordEventsPayload, error) {
	if err := c.answers.record(ctx, input.Events, ""); err != nil {
		return nil, err
	}
	return &models.RecordEventsPayload{Accepted: len(input.Events), UserErrors: []*models.UserError{}}, nil
}

func alice(context.Context) (*models.User, error) {
	return &models.User{DatabaseID: ordinary, Email: "alice@example.com"}, nil
}

// edge is a server with nothing behind it.
type edge struct {
	url string
	log *lines
}

func open(t *testing.T, change ...func(*server.Config)) *edge {
	t.Helper()
	e := &edge{log: &lines{}}
	cfg := server.Config{
		Resolvers:    answers{viewer: alice},
		Authenticate: knownUsers,
		Secret:       secret,
		Log:          slog.New(slog.NewJSONHandler(e.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	s, err := server.New(cfg)
	require.NoError(t, err)
	listener := httptest.NewServer(s.Handler())
	t.Cleanup(listener.Close)
	e.url = listener.URL
	return e
}

func resolving(a answers) func(*server.Config) { return func(cfg *server.Config) { cfg.Resolvers = a } }

// lines is a log that tests read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// with gives the lines of the log whose message is msg.
func (l *lines) with(t *testing.T, msg string) []map[string]any {
	t.Helper()
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		if fields["msg"] == msg {
			found = append(found, fields)
		}
	}
	return found
}

func tokenOf(t testing.TB, user int) string {
	t.Helper()
	token, err := server.NewToken(secret, user, time.Hour)
	require.NoError(t, err)
	return token
}

// exchange is a request and what came back.
type exchange struct {
	status int
	header http.Header
	body   string
	answer struct {
		Data   json.RawMessage
		Errors []struct {
			Message    string
			Path       []any
			Locations  []map[string]int
			Extensions map[string]any
		}
	}
}

func (x *exchange) codes() []string {
	codes := []string{}
	for _, err := range x.answer.Errors {
		code, _ := err.Extensions["code"].(string)
		codes = append(codes, code)
	}
	return codes
}

// ask sends a request; headers are pairs of names and values.
func (e *edge) ask(t *testing.T, method, path, body string, headers ...string) *exchange {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, e.url+path, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	x := &exchange{status: response.StatusCode, header: response.Header, body: string(text)}
	if strings.Contains(response.Header.Get("Content-Type"), "json") {
		require.NoError(t, json.Unmarshal(text, &x.answer), x.body)
	}
	return x
}

const (
	jsonType = "application/json"
	newType  = "application/graphql-response+json"
)

// post sends a query of the ordinary user in the newer media type.
func (e *edge) post(t *testing.T, query string) *exchange {
	t.Helper()
	return e.postWith(t, query, nil)
}

func (e *edge) postWith(t *testing.T, query string, variables map[string]any) *exchange {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	require.NoError(t, err)
	return e.ask(t, http.MethodPost, "/graphql", string(body),
		"Content-Type", jsonType, "Accept", newType, "Authorization", "Bearer "+tokenOf(t, ordinary))
}

// handle sends a POST without a network.
func handle(t *testing.T, handler http.Handler, body []byte, token string) *exchange {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/graphql", bytes.NewReader(body))
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("Accept", newType)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	x := &exchange{status: w.Code, header: w.Header(), body: w.Body.String()}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &x.answer), x.body)
	return x
}

// nothing is a graph in which there is nothing: every argument is read, and every answer is null.
type nothing struct{ graph.ResolverRoot }

func (nothing) Query() graph.QueryResolver { return nothingAtAll{} }

type nothingAtAll struct{}

func (nothingAtAll) Viewer(context.Context) (*models.User, error)               { return nil, nil }
func (nothingAtAll) Node(context.Context, string) (models.Node, error)          { return nil, nil }
func (nothingAtAll) Nodes(context.Context, []string) ([]models.Node, error)     { return nil, nil }
func (nothingAtAll) Message(context.Context, string) (*models.Message, error)   { return nil, nil }
func (nothingAtAll) Run(context.Context, string) (*models.Run, error)           { return nil, nil }
func (nothingAtAll) Thread(context.Context, string) (*models.Thread, error)     { return nil, nil }
func (nothingAtAll) Platform(context.Context) (*models.Platform, error)         { return nil, nil }
func (nothingAtAll) Workload(context.Context, string) (*models.Workload, error) { return nil, nil }
func (nothingAtAll) User(context.Context, string) (*models.User, error)         { return nil, nil }
func (nothingAtAll) Users(context.Context, *int, *string, *int, *string, *models.UserFilter, models.UserOrder) (*models.UserConnection, error) {
	return nil, nil
}
func (nothingAtAll) Reference(context.Context, string) (*models.Reference, error) { return nil, nil }
func (nothingAtAll) SupplyItem(context.Context, string) (*models.SupplyItem, error) {
	return nil, nil
}
func (nothingAtAll) SupplyItems(context.Context, *int, *string, *int, *string, *models.SupplyItemFilter, models.SupplyItemOrder) (*models.SupplyItemConnection, error) {
	return nil, nil
}
func (nothingAtAll) APIKey(context.Context, string) (*models.APIKey, error)     { return nil, nil }
func (nothingAtAll) AuditLog(context.Context, string) (*models.AuditLog, error) { return nil, nil }
func (nothingAtAll) AuditLogs(context.Context, *int, *string, *int, *string, *models.AuditLogFilter, models.AuditLogOrder) (*models.AuditLogConnection, error) {
	return nil, nil
}
func (nothingAtAll) Search(context.Context, string, []models.SearchType, *models.SimilarityInput, *int, *string) (*models.SearchConnection, error) {
	return nil, nil
}
func (nothingAtAll) SimilarReferences(context.Context, models.SimilarityInput, int, *float64) ([]*models.SimilarReference, error) {
	return nil, nil
}
