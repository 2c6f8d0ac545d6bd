package app_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/analytics/ingest"
	"github.com/netra-ai/netra/app"
	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/objects"
	"github.com/netra-ai/netra/resolvers"
	"github.com/netra-ai/netra/store"
)

// Alice and bob are ordinary tenants, root is a superuser.
var (
	alice = models.Viewer{UserID: 1}
	bob   = models.Viewer{UserID: 2}
	root  = models.Viewer{UserID: 3, Superuser: true}
)

// worker is a program of a user, with a key for agents.
func worker(v models.Viewer) models.Viewer {
	return byKey(v, models.PermissionAgent)
}

func byKey(v models.Viewer, permissions ...models.Permission) models.Viewer {
	v.APIKey, v.Permissions = uuid.NewMD5(uuid.NameSpaceOID, []byte(strconv.Itoa(v.UserID))), models.NewPermissionSet(permissions)
	return v
}

// world is the graph over databases of its own.
type world struct {
	exec     *executor.Executor
	store    *store.Store
	ingester *ingest.Ingester // writes nothing to ClickHouse: what it takes stays in its spool
	owner    *sql.DB
	files    *app.Files
	came     sync.Map // files that have been received, by a text that stands for them in JSON
}

func setup(t *testing.T) *world {
	t.Helper()
	db := testdb.NewPostgres(t)
	owner := db.Owner(t)
	_, err := owner.ExecContext(t.Context(), `INSERT INTO users (id, email, is_superuser) VALUES
		(1, 'alice@example.com', false), (2, 'bob@example.com', false), (3, 'root@example.com', true)`)
	require.NoError(t, err)
	s, err := store.Open(store.Config{URL: db.AppURL, StatementTimeout: time.Minute, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	i, err := ingest.New(ingest.Config{URL: "http://127.0.0.1:1/none", Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.Close()) })
	bucket, err := objects.Open((&url.URL{Scheme: "file", Path: t.TempDir()}).String())
	require.NoError(t, err)
	files, err := app.NewFiles(app.FilesConfig{Store: s, Bucket: bucket, Secret: depotSecret})
	require.NoError(t, err)
	exec := executor.New(graph.NewExecutableSchema(graph.Config{Resolvers: &resolvers.Resolver{Store: s, App: app.New(s, files), Files: files, Ingest: i, Loaders: new(loaders.Loaders)}}))
	exec.SetErrorPresenter(func(ctx context.Context, err error) *gqlerror.Error {
		presented := graphql.DefaultErrorPresenter(ctx, err)
		if presented.Extensions == nil { // gqlgen's own have a code
			presented.Extensions = map[string]any{"code": string(models.CodeOf(err))}
		}
		return presented
	})
	return &world{exec: exec, store: s, ingester: i, owner: owner, files: files}
}

// answer is what the graph said.
type answer struct {
	Data   json.RawMessage
	Errors gqlerror.List
}

func (w *world) ask(ctx context.Context, viewer models.Viewer, query string, variables map[string]any) answer {
	ctx = graphql.StartOperationTrace(models.WithViewer(ctx, viewer))
	given := map[string]any{}
	if raw, err := json.Marshal(variables); err == nil && variables != nil {
		decoder := json.NewDecoder(strings.NewReader(string(raw)))
		decoder.UseNumber()
		_ = decoder.Decode(&given) // what has just been encoded
	}
	if input, ok := given["input"].(map[string]any); ok {
		name, _ := input["file"].(string)
		if upload, ok := w.came.Load(name); ok {
			input["file"] = upload // as the server puts it there
		}
	}
	operation, errs := w.exec.CreateOperationContext(ctx, &graphql.RawParams{Query: query, Variables: given})
	var response *graphql.Response
	if errs != nil {
		response = w.exec.DispatchError(graphql.WithOperationContext(ctx, operation), errs)
	} else {
		next, ctx := w.exec.DispatchOperation(ctx, operation)
		response = next(ctx)
	}
	return answer{response.Data, response.Errors}
}

// object is a JSON object of an answer.
type object map[string]any

// at is what stands at a path of names, and places in lists.
func (o object) at(path string) any {
	var here any = map[string]any(o)
	for name := range strings.SplitSeq(path, ".") {
		switch value := here.(type) {
		case map[string]any:
			here = value[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(value) {
				return nil
			}
			here = value[i]
		default:
			return nil
		}
	}
	return here
}

func (o object) text(path string) string { s, _ := o.at(path).(string); return s }

// pascal is the name of a mutation as its types have it.
func pascal(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// do uses a mutation and selects from its payload, beside userErrors.
func (w *world) do(t testing.TB, viewer models.Viewer, mutation string, input object, selection string) object {
	t.Helper()
	got := w.ask(t.Context(), viewer, "mutation($input: "+pascal(mutation)+"Input!) { payload: "+mutation+"(input: $input) { userErrors { field message code } "+selection+" } }", map[string]any{"input": input})
	require.Empty(t, got.Errors, "%s %v", mutation, input)
	var data struct{ Payload object }
	require.NoError(t, json.Unmarshal(got.Data, &data))
	return data.Payload
}

// done is do where nothing is wrong.
func (w *world) done(t testing.TB, viewer models.Viewer, mutation string, input object, selection string) object {
	t.Helper()
	payload := w.do(t, viewer, mutation, input, selection)
	require.Empty(t, payload["userErrors"], "%s %v", mutation, input)
	return payload
}

// refused is do where one thing is wrong; it gives code, field and message.
func (w *world) refused(t testing.TB, viewer models.Viewer, mutation string, input object) (code, field, message string) {
	t.Helper()
	payload := w.do(t, viewer, mutation, input, "")
	require.Len(t, payload["userErrors"], 1, "%s %v", mutation, input)
	var path []string
	for _, part := range payload.at("userErrors.0.field").([]any) {
		path = append(path, part.(string))
	}
	return payload.text("userErrors.0.code"), strings.Join(path, "."), payload.text("userErrors.0.message")
}

func (w *world) query(t testing.TB, viewer models.Viewer, query string) object {
	t.Helper()
	got := w.ask(t.Context(), viewer, query, nil)
	require.Empty(t, got.Errors, query)
	var data object
	require.NoError(t, json.Unmarshal(got.Data, &data))
	return data
}

// lines are the rows of a statement of the owner, each a text.
func (w *world) lines(t testing.TB, statement string, args ...any) []string {
	t.Helper()
	rows, err := w.owner.QueryContext(t.Context(), statement, args...)
	require.NoError(t, err)
	defer rows.Close()
	lines := []string{}
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		lines = append(lines, line)
	}
	require.NoError(t, rows.Err())
	return lines
}

// file receives one, and gives the text that stands for it.
func (w *world) file(t testing.TB, viewer models.Viewer) string {
	t.Helper()
	upload, err := w.files.Receive(models.WithViewer(t.Context(), viewer), strings.NewReader("some text"), "a.txt", "")
	require.NoError(t, err)
	w.came.Store(upload.Path, *upload)
	return upload.Path
}

// thread makes one.
func (w *world) thread(t testing.TB, viewer models.Viewer) string {
	t.Helper()
	return w.done(t, viewer, "createThread", object{"title": "a thread"}, "thread { id }").text("thread.id")
}

// run makes one that has not begun.
func (w *world) run(t testing.TB, viewer models.Viewer) string {
	t.Helper()
	return w.done(t, viewer, "startRun", object{"inputData": object{"n": 1}}, "run { id }").text("run.id")
}

// keyOf is the database id behind a global one.
func keyOf(t testing.TB, id string) string {
	t.Helper()
	parsed, err := models.ParseID(id)
	require.NoError(t, err)
	return parsed.Key
}
