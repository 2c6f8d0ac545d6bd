package resolvers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

// TestEveryOperation_Deferred shows that @defer changes when an answer comes, and nothing else: put together, the parts are the answer to the
// same operation without it, had with the same statements. Which questions are put together does change.
func TestEveryOperation_Deferred(t *testing.T) {
	t.Parallel()
	db, data := load(t, small)
	s, err := store.Open(store.Config{URL: db.AppURL, StatementTimeout: patience, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	root := &resolvers.Resolver{Store: s, Analytics: questions(t, db), Loaders: new(loaders.Loaders)}
	api := serve(t, root)
	schema, pool := graph.NewExecutableSchema(graph.Config{}).Schema(), newPool(data)

	t.Run("for", func(t *testing.T) { // waits for its parallel parts
		for name, user := range map[string]int{"a tenant": tenantA, "a superuser": superuser} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				inParts, several := 0, 0
				for seed := range uint64(100) {
					plain := newOperation(seed, schema, pool)
					deferred := operation{Query: deferring(t, plain.Query, seed), Variables: plain.Variables}
					about := fmt.Sprintf("operation %d for %s:\n%s\n%v", seed, name, deferred.Query, deferred.Variables)

					want := api.ask(t, user, plain, "application/json")
					require.NotContains(t, fmt.Sprint(want.failures), "VALIDATION", about)
					whole := api.ask(t, user, deferred, "application/json")
					require.Equal(t, 1, whole.parts, about)
					require.Equal(t, want.answered, whole.answered, about)

					parts := api.ask(t, user, deferred, "multipart/mixed, application/json")
					want.questions = parts.questions
					if strings.Contains(fmt.Sprint(want.failures), lookedUpInVain) {
						require.LessOrEqual(t, parts.statements, want.statements, about)
						want.statements = parts.statements
					}
					require.Equal(t, want.answered, parts.answered, about)
					if parts.parts > 1 {
						inParts++
					}
					if parts.parts > 2 {
						several++
					}
				}
				require.Greater(t, inParts, 60)
				require.Greater(t, several, 20)
			})
		}
	})
	require.Zero(t, root.Loaders.Nets(), "no batch waited for a sibling that never asks")
}

func questions(t *testing.T, db *testdb.DB) *analytics.Analytics {
	t.Helper()
	a, err := analytics.Open(analytics.Config{URL: db.ClickHouseURL, Deadline: patience})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	return a
}

// deferring puts @defer on some of the fragments of a query, and some selections into deferred fragments of their own, also once more.
func deferring(t *testing.T, query string, seed uint64) string {
	t.Helper()
	document, err := parser.ParseQuery(&ast.Source{Input: query})
	require.NoError(t, err)
	d := &deferrer{Rand: rand.New(rand.NewPCG(seed, 2))}
	for _, operation := range document.Operations {
		operation.SelectionSet = d.set(operation.SelectionSet)
	}
	for _, fragment := range document.Fragments {
		fragment.SelectionSet = d.set(fragment.SelectionSet)
	}
	var b strings.Builder
	formatter.NewFormatter(&b).FormatQueryDocument(document)
	return b.String()
}

type deferrer struct {
	*rand.Rand
	labels int
}

func (d *deferrer) chance(percent int) bool { return d.IntN(100) < percent }

func (d *deferrer) directive() *ast.Directive {
	directive := &ast.Directive{Name: "defer"}
	if d.chance(60) {
		d.labels++
		directive.Arguments = append(directive.Arguments, &ast.Argument{Name: "label", Value: &ast.Value{Kind: ast.StringValue, Raw: fmt.Sprint("part ", d.labels)}})
	}
	if d.chance(10) {
		directive.Arguments = append(directive.Arguments, &ast.Argument{Name: "if", Value: &ast.Value{Kind: ast.BooleanValue, Raw: fmt.Sprint(d.chance(50))}})
	}
	return directive
}

func (d *deferrer) set(selections ast.SelectionSet) ast.SelectionSet {
	var stays, goes ast.SelectionSet
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			if len(selection.SelectionSet) > 0 {
				selection.SelectionSet = d.set(selection.SelectionSet)
			}
		case *ast.InlineFragment:
			selection.SelectionSet = d.set(selection.SelectionSet)
			if d.chance(30) {
				selection.Directives = append(selection.Directives, d.directive())
			}
		case *ast.FragmentSpread:
			if d.chance(30) {
				selection.Directives = append(selection.Directives, d.directive())
			}
		}
		if d.chance(85) {
			stays = append(stays, selection)
		} else {
			goes = append(goes, selection)
			if d.chance(20) {
				stays = append(stays, plainCopy(selection))
			}
		}
	}
	if len(goes) > 0 {
		stays = append(stays, &ast.InlineFragment{Directives: ast.DirectiveList{d.directive()}, SelectionSet: goes})
	}
	return stays
}

// plainCopy is a selection without @defer in it, whose labels are taken.
func plainCopy(selection ast.Selection) ast.Selection {
	without := func(directives ast.DirectiveList) ast.DirectiveList {
		var kept ast.DirectiveList
		for _, directive := range directives {
			if directive.Name != "defer" {
				kept = append(kept, directive)
			}
		}
		return kept
	}
	all := func(selections ast.SelectionSet) ast.SelectionSet {
		var copied ast.SelectionSet
		for _, inner := range selections {
			copied = append(copied, plainCopy(inner))
		}
		return copied
	}
	switch selection := selection.(type) {
	case *ast.Field:
		field := *selection
		field.SelectionSet = all(selection.SelectionSet)
		return &field
	case *ast.InlineFragment:
		fragment := *selection
		fragment.Directives, fragment.SelectionSet = without(fragment.Directives), all(selection.SelectionSet)
		return &fragment
	case *ast.FragmentSpread:
		spread := *selection
		spread.Directives = without(spread.Directives)
		return &spread
	}
	panic(fmt.Sprintf("no copy of %T", selection))
}

// served is the graph behind its real server.
type served struct {
	handler http.Handler
	secret  []byte
}

func serve(t *testing.T, root graph.ResolverRoot) *served {
	t.Helper()
	e := &served{secret: bytes.Repeat([]byte("s"), server.MinSecret)}
	most := 1 << 20
	s, err := server.New(server.Config{
		Resolvers: root, Secret: e.secret,
		Authenticate: func(_ context.Context, id int) (models.Viewer, error) {
			return models.Viewer{UserID: id, Superuser: id == superuser}, nil
		},
		Limits: server.Limits{Selections: most, Repeats: most, Aliases: most, Directives: most, Defers: 1000, Depth: most, RootFields: most,
			Objects: most, Cost: 1 << 40, Errors: most, Timeout: patience},
	})
	require.NoError(t, err)
	e.handler = s.Handler()
	return e
}

// answered is what an operation gave and what it took.
type answered struct {
	data       string
	failures   map[string]bool // by path and message
	statements int64
	questions  int64
}

type exchange struct {
	answered
	parts int
}

type failed struct {
	Path    []any
	Message string
}

func (e *served) ask(t *testing.T, user int, op operation, accept string) exchange {
	t.Helper()
	body, err := json.Marshal(op)
	require.NoError(t, err)
	token, err := server.NewToken(e.secret, user, time.Hour)
	require.NoError(t, err)
	tally := new(models.Tally)
	r := httptest.NewRequestWithContext(models.WithTally(t.Context(), tally), http.MethodPost, "/graphql", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", accept)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	e.handler.ServeHTTP(w, r)
	x := exchange{parts: 1, answered: answered{failures: map[string]bool{}, statements: tally.Statements.Load(), questions: tally.Questions.Load()}}
	var data any
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		var whole struct {
			Data   any
			Errors []failed
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &whole), w.Body.String())
		data = whole.Data
		x.failed(whole.Errors)
	} else {
		data, x.parts = x.merge(t, w.Body)
	}
	raw, err := json.Marshal(data)
	require.NoError(t, err)
	x.data = string(raw)
	return x
}

func (a *answered) failed(errs []failed) {
	for _, err := range errs {
		a.failures[fmt.Sprint(err.Path, err.Message)] = true
	}
}

// merge puts the parts of an answer together.
func (a *answered) merge(t *testing.T, body io.Reader) (data any, count int) {
	t.Helper()
	parts := multipart.NewReader(body, "-")
	for more := true; more; count++ {
		raw, err := parts.NextPart()
		require.NoError(t, err)
		var part struct {
			Data        any
			Errors      []failed
			Incremental []struct {
				Data   map[string]any
				Path   []any
				Errors []failed
			}
			HasNext bool
		}
		require.NoError(t, json.NewDecoder(raw).Decode(&part))
		if more = part.HasNext; count == 0 {
			data = part.Data
		}
		a.failed(part.Errors)
		for _, increment := range part.Incremental {
			a.failed(increment.Errors)
			at := data
			for _, element := range increment.Path {
				switch element := element.(type) {
				case string:
					at = at.(map[string]any)[element]
				case float64:
					at = at.([]any)[int(element)]
				}
			}
			if increment.Data != nil {
				require.IsType(t, map[string]any{}, at, "what belongs to %v comes after it", increment.Path)
				mergeInto(at, increment.Data)
			}
		}
	}
	_, err := parts.NextPart()
	require.ErrorIs(t, err, io.EOF)
	return data, count
}

// mergeInto adds to an object what another one of the same place has.
func mergeInto(object, more any) {
	switch object := object.(type) {
	case map[string]any:
		for key, value := range more.(map[string]any) {
			if have := object[key]; have != nil && value != nil {
				mergeInto(have, value)
				if _, leaf := have.(map[string]any); leaf {
					continue
				}
				if _, leaf := have.([]any); leaf {
					continue
				}
			}
			object[key] = value
		}
	case []any:
		for i, value := range more.([]any) {
			if _, leaf := object[i].(map[string]any); leaf {
				mergeInto(object[i], value)
			}
		}
	}
}
