package app_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
)

// valid gives each mutation an input that works, with a value for every argument. A new mutation needs a line here.
var valid = map[string]func(*testing.T, *world) (models.Viewer, object){
	"createThread": func(*testing.T, *world) (models.Viewer, object) {
		return alice, object{"title": "x", "metadata": object{"a": 1}}
	},
	"updateThread": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"id": w.thread(t, alice), "title": "x", "metadata": object{}, "expectedVersion": 1}
	},
	"archiveThread": func(t *testing.T, w *world) (models.Viewer, object) { return alice, object{"id": w.thread(t, alice)} },
	"archiveThreads": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"ids": []any{w.thread(t, alice), w.thread(t, alice)}}
	},
	"restoreThread": func(t *testing.T, w *world) (models.Viewer, object) { return alice, object{"id": w.thread(t, alice)} },
	"deleteThread": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"id": w.thread(t, alice), "purge": true}
	},
	"postMessage": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"threadId": w.thread(t, alice), "content": "x", "metadata": object{}, "startRun": object{"agentType": "x", "inputData": 1, "metadata": object{}}}
	},
	"appendMessage": func(t *testing.T, w *world) (models.Viewer, object) {
		return worker(alice), object{"threadId": w.thread(t, alice), "role": "TOOL", "content": "x", "tokensUsed": 1, "model": "x", "metadata": object{}}
	},
	"startRun": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"threadId": w.thread(t, alice), "agentType": "x", "inputData": object{}, "metadata": object{}}
	},
	"cancelRun": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"id": w.run(t, alice), "expectedVersion": 1}
	},
	"cancelRuns": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"ids": []any{w.run(t, alice), w.run(t, alice)}}
	},
	"retryRun": func(t *testing.T, w *world) (models.Viewer, object) {
		id := w.run(t, alice)
		w.done(t, alice, "cancelRun", object{"id": id}, "")
		return alice, object{"id": id}
	},
	"advanceRun": func(t *testing.T, w *world) (models.Viewer, object) {
		return worker(alice), object{"id": w.run(t, alice), "status": "FAILED", "expectedVersion": 1, "outputData": 1, "errorMessage": "x"}
	},
	"updateProfile": func(*testing.T, *world) (models.Viewer, object) {
		return alice, object{"name": "x", "picture": "https://example.com/x", "metadata": object{}}
	},
	"setUserActive": func(*testing.T, *world) (models.Viewer, object) {
		return root, object{"id": models.GlobalID{Kind: models.KindUser, Key: "2"}.String(), "isActive": true}
	},
	"createApiKey": func(t *testing.T, w *world) (models.Viewer, object) {
		_, err := w.owner.ExecContext(t.Context(), "DELETE FROM api_keys")
		require.NoError(t, err)
		return alice, object{"name": "x", "permissions": []any{"READ", "WRITE"}, "expiresAt": "2100-01-01T00:00:00Z", "metadata": object{}}
	},
	"revokeApiKey": func(t *testing.T, w *world) (models.Viewer, object) {
		_, err := w.owner.ExecContext(t.Context(), "DELETE FROM api_keys")
		require.NoError(t, err)
		return alice, object{"id": w.done(t, alice, "createApiKey", object{"name": "x", "permissions": []any{"READ"}}, "apiKey { id }").text("apiKey.id")}
	},
	"createSupplyItem": func(*testing.T, *world) (models.Viewer, object) {
		return root, object{"name": "x", "category": "x", "provider": "x", "specifications": object{}, "pricing": object{}, "availability": object{}, "performanceMetrics": object{}, "metadata": object{}, "isSystem": true}
	},
	"updateSupplyItem": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"id": w.supplyItem(t), "name": "x", "category": "x", "provider": "x", "specifications": object{}, "pricing": object{}, "availability": object{}, "performanceMetrics": object{}, "metadata": object{}, "isActive": true, "expectedVersion": 1}
	},
	"deactivateSupplyItem": func(t *testing.T, w *world) (models.Viewer, object) { return alice, object{"id": w.supplyItem(t)} },
	"createUpload": func(*testing.T, *world) (models.Viewer, object) {
		return alice, object{"name": "x", "type": "MODEL", "mimeType": "text/plain", "size": 1, "metadata": object{}}
	},
	"createReference": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"file": w.file(t, alice), "name": "x", "type": "MODEL", "metadata": object{}}
	},
	"updateReference": func(t *testing.T, w *world) (models.Viewer, object) {
		return alice, object{"id": w.reference(t, 1), "name": "x", "type": "MODEL", "metadata": object{}, "expectedVersion": 1}
	},
	"deleteReference": func(t *testing.T, w *world) (models.Viewer, object) { return alice, object{"id": w.reference(t, 1)} },
	"recordEvents": func(*testing.T, *world) (models.Viewer, object) {
		return byKey(alice, models.PermissionIngest), object{"events": []any{object{"eventId": uuid.NewString(), "timestamp": time.Now().Format(time.RFC3339), "userId": models.GlobalID{Kind: models.KindUser, Key: "1"}.String(),
			"workloadId": "x", "eventType": "metric", "eventCategory": "compute", "metrics": []any{object{"name": "x", "value": 1.5, "unit": "ms"}}, "dimensions": object{"model": "x"}, "metadata": object{}}}}
	},
}

func (w *world) supplyItem(t *testing.T) string {
	t.Helper()
	return w.done(t, alice, "createSupplyItem", object{"name": "x", "category": "y", "specifications": object{}}, "supplyItem { id }").text("supplyItem.id")
}

// absent stands for a field that is left out.
type absent struct{}

// bad are values to try in the place of a good one.
func bad(schema *ast.Schema, t *ast.Type, foreign []string) []any {
	values := []any{nil, absent{}, true, 12, 1.5, "", " \n", "text", "nul\x00", []any{}, []any{nil}, object{}, object{"unknown": 1}}
	switch {
	case t.Elem != nil:
		values = append(values, slices.Repeat([]any{foreign[0]}, 101), []any{foreign[0], "x\x00"}, []any{[]any{}}, slices.Repeat([]any{"READ"}, 6))
	case t.Name() == "ID":
		for _, id := range foreign {
			values = append(values, id)
		}
		values = append(values, strings.Repeat("x", 256), strings.Repeat("x", 1000))
	case t.Name() == "Int":
		values = append(values, -1, 0, 1<<31, json.Number("1e400"), json.Number("99999999999999999999"), "1")
	case t.Name() == "DateTime":
		values = append(values, "2020-01-01T00:00:00Z", "2020-01-01", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00+23:59", "infinity")
	case t.Name() == "String":
		values = append(values, strings.Repeat("x", 256), strings.Repeat("ü", 201), strings.Repeat("ü", 100_001), "\u2028", "\U0010FFFF", "%s'; DROP TABLE threads; --")
	case t.Name() == "JSON":
		deep := json.RawMessage(strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000))
		large := object{"s": strings.Repeat("x", 300_000)}
		values = append(values, deep, large, object{"a\x00": 1}, object{"a": "\x00"}, object{"": nil}, json.Number("1e400"), object{"n": json.Number("1e999999")},
			object{"n": json.Number("-1e-999999")}, object{"n": json.Number("0." + strings.Repeat("1", 20_000))}, object{"s": "\U0010FFFF\uFFFF"})
	case schema.Types[t.Name()].Kind == ast.Enum:
		values = append(values, "archived", "USER", "PENDING", "ADMIN")
	}
	return values
}

// with is a copy of the input with another value at a path.
func (o object) with(path []string, value any) object {
	changed := maps.Clone(o)
	switch {
	case len(path) > 1 && path[1] == "0":
		first, _ := o[path[0]].([]any)[0].(object)
		changed[path[0]] = []any{first.with(path[2:], value)}
	case len(path) > 1:
		inner, _ := o[path[0]].(object)
		changed[path[0]] = inner.with(path[1:], value)
	case value == absent{}:
		delete(changed, path[0])
	default:
		changed[path[0]] = value
	}
	return changed
}

// places are the paths of all the fields of an input type.
func places(schema *ast.Schema, name string) map[string]*ast.Type {
	found := map[string]*ast.Type{}
	for _, field := range schema.Types[name].Fields {
		found[field.Name] = field.Type
		if schema.Types[field.Type.Name()].Kind == ast.InputObject {
			at := field.Name + "."
			if field.Type.Elem != nil {
				at += "0."
			}
			for path, inner := range places(schema, field.Type.Name()) {
				found[at+path] = inner
			}
		}
	}
	return found
}

// attempt is written out when it fails only: some values are large.
type attempt struct {
	mutation, path string
	value          any
}

func (a attempt) String() string { return fmt.Sprintf("%s %s: %.200v", a.mutation, a.path, a.value) }

// TestBadInput tries, for every argument of every mutation, values that are wrong or odd: the answer has a code, is never a fault of ours, and what was refused has no effect.
func TestBadInput(t *testing.T) {
	t.Parallel()
	schema := graph.NewExecutableSchema(graph.Config{}).Schema()
	w := setup(t)
	w.note(t)
	theirs := w.thread(t, bob)
	foreign := []string{"malformed", theirs, w.run(t, bob), models.GlobalID{Kind: models.KindThread, Key: uuid.NewString()}.String(),
		models.GlobalID{Kind: models.KindUser, Key: "2147483647"}.String(), models.GlobalID{Kind: models.KindUser, Key: "0"}.String(), models.GlobalID{Kind: "Audit", Key: "1"}.String(),
		models.GlobalID{Kind: models.KindReference, Key: uuid.NewString()}.String(), models.GlobalID{Kind: models.KindSupplyItem, Key: uuid.NewString()}.String(),
		models.GlobalID{Kind: models.KindRun, Key: uuid.NewString()}.String(), models.GlobalID{Kind: models.KindAPIKey, Key: uuid.NewString()}.String()}
	tried, refused := 0, 0
	for _, mutation := range schema.Mutation.Fields {
		if strings.HasPrefix(mutation.Name, "__") {
			continue
		}
		make := valid[mutation.Name]
		require.NotNil(t, make, "%s has no valid input in this test", mutation.Name)
		query := "mutation($input: " + pascal(mutation.Name) + "Input!) { payload: " + mutation.Name + "(input: $input) { userErrors { field message code } } }"
		viewer, input := make(t, w)
		before := w.changed(t)
		for path, place := range places(schema, pascal(mutation.Name)+"Input") {
			for _, value := range bad(schema, place, foreign) {
				about := attempt{mutation.Name, path, value}
				got := w.ask(t.Context(), viewer, query, map[string]any{"input": input.with(strings.Split(path, "."), value)})
				tried++
				var codes []string
				for _, err := range got.Errors {
					code, _ := err.Extensions["code"].(string)
					codes = append(codes, code)
				}
				var data struct {
					Payload *struct{ UserErrors []models.UserError }
				}
				require.NoError(t, json.Unmarshal(or(got.Data, "{}"), &data), about)
				if data.Payload != nil {
					for _, err := range data.Payload.UserErrors {
						require.NotEmpty(t, err.Message, about)
						codes = append(codes, err.Code)
					}
				}
				for _, code := range codes {
					require.NotContains(t, []string{"", "INTERNAL", "TIMEOUT", "DATABASE_UNAVAILABLE"}, code, "%s: %v %s", about, got.Errors, got.Data)
				}
				if len(codes) > 0 {
					refused++
					require.Equal(t, before, w.changed(t), "%s: refused with an effect", about)
					continue
				}
				viewer, input = make(t, w) // it was not bad, and what it worked on has changed
				before = w.changed(t)
			}
		}
		got := w.do(t, viewer, mutation.Name, input, "")
		require.Empty(t, got["userErrors"], "%s: what is valid works", mutation.Name)
	}
	require.Greater(t, refused, tried/2)
	t.Logf("%d inputs, %d of them refused", tried, refused)
}

func TestRecordEvents_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := setup(t)
	viewer, input := valid["recordEvents"](t, w)
	for field, value := range map[string]any{"events": []any{}, "idempotencyKey": strings.Repeat("k", 256)} {
		code, at, _ := w.refused(t, viewer, "recordEvents", input.with([]string{field}, value))
		require.Equal(t, []string{"BAD_USER_INPUT", field}, []string{code, at})
	}
}

func TestUserErrors_NameTheArgument(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for mutation, input := range map[string]object{
		"updateThread": {"id": w.thread(t, alice)}, "cancelRun": {"id": w.run(t, alice)},
		"updateSupplyItem": {"id": w.supplyItem(t)}, "updateReference": {"id": w.reference(t, 1)},
	} {
		code, field, _ := w.refused(t, alice, mutation, input.with([]string{"expectedVersion"}, 7))
		require.Equal(t, []string{"CONFLICT", "expectedVersion"}, []string{code, field}, mutation)
	}
	w.done(t, alice, "createThread", object{"title": "a", "idempotencyKey": "k"}, "thread { id }")
	code, field, _ := w.refused(t, alice, "createThread", object{"title": "b", "idempotencyKey": "k"})
	require.Equal(t, []string{"CONFLICT", "idempotencyKey"}, []string{code, field})
	w.done(t, alice, "createUpload", object{"name": "a", "type": "OTHER", "idempotencyKey": "k"}, "upload { url }")
	_, err := w.owner.ExecContext(t.Context(), "UPDATE pending_uploads SET expires_at = now() - interval '1 hour'")
	require.NoError(t, err)
	code, field, _ = w.refused(t, alice, "createUpload", object{"name": "a", "type": "OTHER", "idempotencyKey": "k"})
	require.Equal(t, []string{"CONFLICT", "idempotencyKey"}, []string{code, field})

	_, _, message := w.refused(t, alice, "revokeApiKey", object{"id": w.thread(t, alice)})
	require.Equal(t, "this is the id of a Thread, not of an ApiKey", message)
	_, _, message = w.refused(t, alice, "archiveThread", object{"id": models.GlobalID{Kind: models.KindAPIKey, Key: uuid.NewString()}.String()})
	require.Equal(t, "this is the id of an ApiKey, not of a Thread", message)

	viewer, input := valid["recordEvents"](t, w)
	for argument, c := range map[string]struct {
		value any
		want  string
	}{
		"workloadId":    {"", "events[0]: workloadId is missing"},
		"eventType":     {"", "events[0]: eventType is empty"},
		"eventCategory": {strings.Repeat("x", 1000), "events[0]: eventCategory may have"},
		"timestamp":     {"2020-01-01T00:00:00Z", "events[0]: timestamp is more than"},
		"userId":        {"nonsense", "events[0]: userId: malformed id"},
		"dimensions":    {object{"workload_id": strings.Repeat("x", 5000)}, "events[0]: dimensions.workload_id may have"},
	} {
		code, field, message := w.refused(t, viewer, "recordEvents", input.with([]string{"events", "0", argument}, c.value))
		require.Equal(t, []string{"BAD_USER_INPUT", "events.0." + argument}, []string{code, field}, message)
		require.True(t, strings.HasPrefix(message, c.want), message)
	}
}

func TestUserErrors_TellEveryMistake(t *testing.T) {
	t.Parallel()
	w := setup(t)
	got := w.do(t, alice, "updateSupplyItem", object{"id": w.supplyItem(t), "name": nil, "category": " ", "provider": strings.Repeat("x", 101), "specifications": nil,
		"pricing": 1, "availability": []int{}, "performanceMetrics": "x", "metadata": 1, "idempotencyKey": ""}, "")
	var fields []string
	for _, failure := range got["userErrors"].([]any) {
		fields = append(fields, object(failure.(map[string]any)).text("field.0"))
	}
	require.Equal(t, []string{"name", "category", "provider", "specifications", "pricing", "availability", "performanceMetrics", "metadata", "idempotencyKey"}, fields)
}

func or(data json.RawMessage, fallback string) json.RawMessage {
	if len(data) == 0 {
		return json.RawMessage(fallback)
	}
	return data
}

// note makes the database count changes of rows in every table but the audit log.
func (w *world) note(t *testing.T) {
	t.Helper()
	statements := []string{"CREATE TABLE changes (n int)", `CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
		$$ BEGIN INSERT INTO public.changes VALUES (1); RETURN NULL; END $$`}
	for _, table := range w.lines(t, `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND NOT relname = ANY ('{audit_logs,changes}')`) {
		statements = append(statements, fmt.Sprintf("CREATE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON %q FOR EACH ROW EXECUTE FUNCTION note_change()", table))
	}
	for _, statement := range statements {
		_, err := w.owner.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
}

// changed is how much has changed since note, and how many events were taken.
func (w *world) changed(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(w.lines(t, "SELECT count(*) FROM changes")[0], " ", w.ingester.Stats().Accepted)
}

func TestWithoutTheAuditLogNothingIsChanged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.note(t)
	uses := map[string]func() answer{}
	for mutation, make := range valid {
		if mutation == "recordEvents" {
			continue // which changes nothing here, and has no line
		}
		viewer, input := make(t, w)
		uses[mutation] = func() answer {
			return w.ask(t.Context(), viewer, "mutation($input: "+pascal(mutation)+"Input!) { payload: "+mutation+"(input: $input) { userErrors { code } } }", map[string]any{"input": input})
		}
	}
	_, err := w.owner.ExecContext(t.Context(), "REVOKE INSERT ON audit_logs FROM netra_app")
	require.NoError(t, err)
	before := w.changed(t)
	for mutation, use := range uses {
		got := use()
		require.Len(t, got.Errors, 1, mutation)
		require.JSONEq(t, `{"payload": null}`, string(got.Data), mutation)
		require.Equal(t, before, w.changed(t), mutation)
	}
}
