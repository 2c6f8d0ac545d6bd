package resolvers_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/store"
)

const patience = 2 * time.Minute // a busy machine is no fault of the graph

// operations is how many are tried for each viewer; NETRA_OPERATIONS says another number.
func operations(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("NETRA_OPERATIONS"), "100"))
	require.NoError(t, err)
	return n
}

// api answers operations.
type api struct {
	root      graph.ResolverRoot
	exec      *executor.Executor
	loaders   *loaders.Loaders
	analytics *analytics.Analytics
}

func newAPI(root graph.ResolverRoot) *api {
	exec := executor.New(graph.NewExecutableSchema(graph.Config{Resolvers: root}))
	exec.SetErrorPresenter(func(ctx context.Context, err error) *gqlerror.Error {
		presented := graphql.DefaultErrorPresenter(ctx, err)
		presented.Extensions = map[string]any{"code": models.CodeOf(err)}
		return presented
	})
	return &api{root: root, exec: exec}
}

// real is the graph on the engines.
func real(t *testing.T, db *testdb.DB, adjust ...func(*resolvers.Resolver)) *api {
	t.Helper()
	s, err := store.Open(store.Config{URL: db.AppURL, StatementTimeout: patience, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	a, err := analytics.Open(analytics.Config{URL: db.ClickHouseURL, Deadline: patience, RunsOfThreads: s.RunIDsOfThreads})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	root := &resolvers.Resolver{Store: s, Analytics: a, Loaders: new(loaders.Loaders)}
	for _, change := range adjust {
		change(root)
	}
	api := newAPI(root)
	api.exec.Use(graph.Plain(root, resolvers.Loading, anybody))
	api.loaders, api.analytics = root.Loaders, a
	return api
}

// anybody may use every field of the root.
func anybody(context.Context) error { return nil }

// ask runs an operation for a viewer and returns the response with its errors in a stable order.
func (a *api) ask(ctx context.Context, viewer models.Viewer, op operation) string {
	raw, err := json.Marshal(a.respond(ctx, viewer, op))
	if err != nil {
		return "response: " + err.Error()
	}
	return string(raw)
}

func (a *api) respond(ctx context.Context, viewer models.Viewer, op operation) *graphql.Response {
	ctx = graphql.StartOperationTrace(models.WithViewer(ctx, viewer))
	variables := map[string]any{}
	if raw, err := json.Marshal(op.Variables); err == nil {
		decoder := json.NewDecoder(strings.NewReader(string(raw)))
		decoder.UseNumber()
		_ = decoder.Decode(&variables) // what has just been encoded
	}
	opCtx, errs := a.exec.CreateOperationContext(ctx, &graphql.RawParams{Query: op.Query, Variables: variables})
	var response *graphql.Response
	if errs != nil {
		response = a.exec.DispatchError(graphql.WithOperationContext(ctx, opCtx), errs)
	} else {
		handler, handlerCtx := a.exec.DispatchOperation(ctx, opCtx)
		response = handler(handlerCtx)
	}
	for _, err := range response.Errors {
		err.Locations = nil // they move with the length of an id
	}
	slices.SortFunc(response.Errors, func(a, b *gqlerror.Error) int {
		return strings.Compare(a.Path.String()+a.Message, b.Path.String()+b.Message)
	})
	return response
}

// world is one data set behind the graph and behind the oracle.
type world struct {
	dataset
	real *api
}

// run asks the graph and the oracle, requires the same answer and the statements that the operation needs, and returns the answer with
// the paths that were asked for.
func (w *world) run(t *testing.T, viewer models.Viewer, op operation, about string) (answer string, paths []string) {
	t.Helper()
	tally := new(models.Tally)
	answer = w.real.ask(models.WithTally(t.Context(), tally), viewer, op)
	o := &oracle{dataset: w.dataset, analytics: w.real.analytics, relations: map[string]bool{}, questions: map[string]bool{}, together: map[group][]grouped{}}
	require.JSONEq(t, newAPI(o).ask(t.Context(), viewer, op), answer, about)
	o.count()
	if strings.Contains(answer, lookedUpInVain) {
		require.LessOrEqual(t, len(o.relations), int(tally.Statements.Load()), "statements of %s", about)
	} else {
		require.Equal(t, len(o.relations), int(tally.Statements.Load()), "statements of %s", about)
	}
	require.Equal(t, len(o.questions), int(tally.Questions.Load()), "questions of %s", about)
	require.NotContains(t, answer, "INTERNAL", about)
	return answer, append(slices.Sorted(maps.Keys(o.relations)), slices.Sorted(maps.Keys(o.questions))...)
}

// lookedUpInVain is what is said of an object that an operation asked for by its id. What it asked for below may have been read at the same time.
const lookedUpInVain = "no such "

// TestEveryOperation is the promise of the graph: whatever is asked, the number of statements depends on the operation and never on how
// many rows there are, and the answer is that of a plain resolver that reads one row at a time.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	smallDB, smallData := load(t, small)
	largeDB, largeData := load(t, large)
	worlds := []*world{{smallData, real(t, smallDB)}, {largeData, real(t, largeDB)}}
	schema := graph.NewExecutableSchema(graph.Config{}).Schema()
	pool := newPool(smallData)
	absent := strangers(smallData, tenantA, tenantB)

	t.Run("for", func(t *testing.T) { // waits for its parallel parts
		for name, viewer := range map[string]models.Viewer{"a tenant": {UserID: tenantA}, "another": {UserID: tenantB}, "a superuser": {UserID: superuser, Superuser: true}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				operations, alike, deep := operations(t), 0, 0
				for seed := range uint64(operations) {
					op := newOperation(seed, schema, pool)
					about := fmt.Sprintf("operation %d for %+v:\n%s\n%v", seed, viewer, op.Query, op.Variables)
					answer, paths := worlds[0].run(t, viewer, op, about)
					_, morePaths := worlds[1].run(t, viewer, op, about)
					if slices.Equal(paths, morePaths) {
						alike++ // the same levels have rows in both, hence, as run has shown, the same number of statements
					}
					if len(paths) > 1 {
						deep++
					}
					if viewer.Superuser {
						continue
					}
					for other := range large.users {
						if other+1 != viewer.UserID {
							require.NotContains(t, answer, mark(other+1), about)
						}
					}
					require.Equal(t, answer, worlds[0].real.ask(t.Context(), viewer, op.with(absent[viewer.UserID])),
						"another tenant's ids and absent ones are answered alike: %s", about)
				}
				require.Greater(t, alike, operations*9/10, "nearly every operation reaches the same levels of both data sets")
				require.Greater(t, deep, operations*3/10, "many operations reach below the root")
			})
		}
	})
	for _, w := range worlds {
		require.Zero(t, w.real.loaders.Nets(), "no batch waited for a sibling that never asks")
	}
}

// strangers maps, for each viewer, every id of the other tenants to one that does not exist.
func strangers(d dataset, viewers ...int) map[int]*strings.Replacer {
	replacers := map[int]*strings.Replacer{}
	for _, viewer := range viewers {
		var pairs []string
		add := func(owner int, kind models.Kind, id string) {
			if owner != viewer {
				pairs = append(pairs, strconv.Quote(id), strconv.Quote(models.GlobalID{Kind: kind, Key: uuid.NewString()}.String()))
			}
		}
		owners := map[uuid.UUID]int{}
		for i, u := range d.users {
			if u.DatabaseID != viewer {
				pairs = append(pairs, strconv.Quote(u.ID()), strconv.Quote(models.GlobalID{Kind: models.KindUser, Key: strconv.Itoa(1_000_000_000 + i)}.String()))
			}
		}
		for _, thread := range d.threads {
			owners[thread.DatabaseID] = thread.UserID
			add(thread.UserID, models.KindThread, thread.ID())
		}
		for _, message := range d.messages {
			add(owners[message.ThreadID], models.KindMessage, message.ID())
		}
		for _, run := range d.runs {
			add(run.UserID, models.KindRun, run.ID())
		}
		for _, w := range d.workloads() {
			if w.UserID != viewer {
				absent := models.Workload{UserID: w.UserID, WorkloadID: "absent"}
				pairs = append(pairs, strconv.Quote(w.ID()), strconv.Quote(absent.ID()))
			}
		}
		for _, reference := range d.references {
			add(reference.UserID, models.KindReference, reference.ID())
		}
		for _, item := range d.supplyItems {
			if item.UserID != nil { // system items are everybody's
				add(*item.UserID, models.KindSupplyItem, item.ID())
			}
		}
		for _, apiKey := range d.apiKeys {
			add(apiKey.UserID, models.KindAPIKey, apiKey.ID())
		}
		for _, log := range d.auditLogs {
			if log.UserID == nil || *log.UserID != viewer {
				pairs = append(pairs, strconv.Quote(log.ID()), strconv.Quote(models.GlobalID{Kind: models.KindAuditLog, Key: strconv.FormatInt(log.DatabaseID+1<<60, 10)}.String()))
			}
		}
		replacers[viewer] = strings.NewReplacer(pairs...)
	}
	return replacers
}

// with is the operation with other ids.
func (op operation) with(replacer *strings.Replacer) operation {
	raw, err := json.Marshal(op.Variables)
	if err != nil {
		panic(err)
	}
	replaced := operation{Query: replacer.Replace(op.Query)}
	if err := json.Unmarshal([]byte(replacer.Replace(string(raw))), &replaced.Variables); err != nil {
		panic(err)
	}
	return replaced
}
