package app_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

func TestProfile_IsEditedByItsUser(t *testing.T) {
	t.Parallel()
	w := setup(t)
	got := w.done(t, alice, "updateProfile", object{"name": "Alice", "picture": "https://example.com/a.png", "metadata": object{"theme": "dark"}}, "user { email name picture metadata }")
	require.Equal(t, map[string]any{"email": "alice@example.com", "name": "Alice", "picture": "https://example.com/a.png", "metadata": map[string]any{"theme": "dark"}}, got["user"])
	got = w.done(t, alice, "updateProfile", object{"picture": nil}, "user { name picture }")
	require.Equal(t, map[string]any{"name": "Alice", "picture": nil}, got["user"])
	for _, bad := range []string{"javascript:alert(1)", "/a.png", "https://", "%"} {
		code, field, _ := w.refused(t, alice, "updateProfile", object{"picture": bad})
		require.Equal(t, []string{"BAD_USER_INPUT", "picture"}, []string{code, field})
	}
	code, _, _ := w.refused(t, byKey(alice, models.Permissions()...), "updateProfile", object{"name": "x"})
	require.Equal(t, "FORBIDDEN", code, "no key changes the account")
}

func TestAccounts_AreOpenedAndClosedBySuperusers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := models.GlobalID{Kind: models.KindUser, Key: "2"}.String()
	got := w.done(t, root, "setUserActive", object{"id": id, "isActive": false}, "user { email isActive }")
	require.Equal(t, map[string]any{"email": "bob@example.com", "isActive": false}, got["user"])
	_, err := w.store.Viewer(t.Context(), bob.UserID)
	require.Equal(t, models.Unauthenticated, models.CodeOf(err))
	w.done(t, root, "setUserActive", object{"id": id, "isActive": true}, "")
	for viewer, want := range map[models.Viewer]string{alice: "FORBIDDEN", bob: "FORBIDDEN", byKey(root, models.Permissions()...): "FORBIDDEN"} {
		code, _, _ := w.refused(t, viewer, "setUserActive", object{"id": id, "isActive": false})
		require.Equal(t, want, code)
	}
	code, _, _ := w.refused(t, root, "setUserActive", object{"id": models.GlobalID{Kind: models.KindUser, Key: "3"}.String(), "isActive": false})
	require.Equal(t, "CONFLICT", code)
	code, _, _ = w.refused(t, root, "setUserActive", object{"id": models.GlobalID{Kind: models.KindUser, Key: "99"}.String(), "isActive": false})
	require.Equal(t, "NOT_FOUND", code)
}

func TestAPIKeys_SignTheirBearerInUntilTheyAreRevoked(t *testing.T) {
	t.Parallel()
	w := setup(t)
	made := w.done(t, root, "createApiKey", object{"name": "nightly", "permissions": []string{"AGENT"}, "expiresAt": time.Now().Add(time.Hour).Format(time.RFC3339), "metadata": object{"a": 1}},
		"token apiKey { id databaseId name permissions isActive lastUsedAt metadata }")
	require.Equal(t, []any{"AGENT"}, made.at("apiKey.permissions"))
	require.Regexp(t, `^ntr_[0-9a-f]{32}_[A-Za-z0-9_-]{43}$`, made.text("token"))
	token, err := models.ParseAPIKeyToken(made.text("token"))
	require.NoError(t, err)
	require.Equal(t, made.text("apiKey.databaseId"), token.ID.String())
	require.Equal(t, []string{token.Hash()}, w.lines(t, "SELECT key_hash FROM api_keys"), "only the hash is kept")

	viewer, expires, err := w.store.ViewerByKey(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, models.Viewer{UserID: 3, APIKey: token.ID, Permissions: models.NewPermissionSet([]models.Permission{models.PermissionAgent, models.PermissionRead})}, viewer,
		"a superuser's key is no superuser without ADMIN")
	require.WithinDuration(t, time.Now().Add(time.Hour), expires, time.Minute)
	require.Equal(t, []string{"t"}, w.lines(t, "SELECT (last_used_at > now() - interval '1 minute')::text::char FROM api_keys"))
	_, err = w.owner.ExecContext(t.Context(), "UPDATE api_keys SET last_used_at = now() - interval '30 seconds'")
	require.NoError(t, err)
	before := w.lines(t, "SELECT last_used_at::text FROM api_keys")

	other := models.NewAPIKeyToken()
	other.ID = token.ID
	_, _, err = w.store.ViewerByKey(t.Context(), other)
	require.Equal(t, models.Unauthenticated, models.CodeOf(err), "another secret")

	w.done(t, root, "revokeApiKey", object{"id": made.text("apiKey.id")}, "apiKey { isActive }")
	require.Eventually(t, func() bool {
		_, _, err := w.store.ViewerByKey(t.Context(), token)
		return models.CodeOf(err) == models.Unauthenticated && err != nil
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, before, w.lines(t, "SELECT last_used_at::text FROM api_keys"), "noted at most once a minute")

	admin := w.done(t, root, "createApiKey", object{"name": "admin", "permissions": []string{"ADMIN", "READ"}}, "token")
	token, err = models.ParseAPIKeyToken(admin.text("token"))
	require.NoError(t, err)
	viewer, expires, err = w.store.ViewerByKey(t.Context(), token)
	require.NoError(t, err)
	require.True(t, viewer.Superuser)
	require.Zero(t, expires)
	code, _, _ := w.refused(t, alice, "createApiKey", object{"name": "x", "permissions": []string{"ADMIN"}})
	require.Equal(t, "FORBIDDEN", code)
	for mutation, input := range map[string]object{"createApiKey": {"name": "x", "permissions": []string{"READ"}}, "revokeApiKey": {"id": made.text("apiKey.id")}} {
		code, _, _ := w.refused(t, byKey(root, models.Permissions()...), mutation, input)
		require.Equal(t, "FORBIDDEN", code, "no key makes or revokes keys")
	}
	code, _, _ = w.refused(t, alice, "revokeApiKey", object{"id": made.text("apiKey.id")})
	require.Equal(t, "NOT_FOUND", code)
	code, field, _ := w.refused(t, alice, "createApiKey", object{"name": "x", "permissions": []string{"READ"}, "expiresAt": "2020-01-01T00:00:00Z"})
	require.Equal(t, []string{"BAD_USER_INPUT", "expiresAt"}, []string{code, field})
}

func TestAPIKeys_AreNeverMoreThanAllowed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.owner.ExecContext(t.Context(), "INSERT INTO api_keys (user_id, name, key_hash) SELECT 1, 'x', md5(n::text) FROM generate_series(1, 95) AS n")
	require.NoError(t, err)
	var made, full atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			got := w.ask(t.Context(), alice, `mutation { createApiKey(input: {name: "x", permissions: [READ]}) { token userErrors { code } } }`, nil)
			switch string(got.Data) {
			case `{"createApiKey":{"token":null,"userErrors":[{"code":"CONFLICT"}]}}`:
				full.Add(1)
			default:
				made.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 5, made.Load())
	require.EqualValues(t, 45, full.Load())
	require.Equal(t, []string{"100"}, w.lines(t, "SELECT count(*) FROM api_keys WHERE user_id = 1 AND is_active"))
}

func TestSupplyItems_AreTheirUsersOrTheSystems(t *testing.T) {
	t.Parallel()
	w := setup(t)
	item := object{"name": "H100", "category": "compute", "provider": "aws", "specifications": object{"gpu": 1}, "pricing": object{"usd": 2}}
	mine := w.done(t, alice, "createSupplyItem", item, "supplyItem { id isSystem isActive version pricing }")
	require.Equal(t, map[string]any{"id": mine.text("supplyItem.id"), "isSystem": false, "isActive": true, "version": 1.0, "pricing": map[string]any{"usd": 2.0}}, mine["supplyItem"])
	code, _, _ := w.refused(t, alice, "createSupplyItem", object{"name": "x", "category": "y", "specifications": object{}, "isSystem": true})
	require.Equal(t, "FORBIDDEN", code)
	item["isSystem"] = true
	system := w.done(t, root, "createSupplyItem", item, "supplyItem { id isSystem }")
	require.Equal(t, true, system.at("supplyItem.isSystem"))

	edit := object{"id": mine.text("supplyItem.id"), "provider": nil, "pricing": nil, "name": "H200", "expectedVersion": 1}
	got := w.done(t, alice, "updateSupplyItem", edit, "supplyItem { name category provider pricing specifications version }")
	require.Equal(t, map[string]any{"name": "H200", "category": "compute", "provider": nil, "pricing": nil, "specifications": map[string]any{"gpu": 1.0}, "version": 2.0}, got["supplyItem"])
	code, _, _ = w.refused(t, alice, "updateSupplyItem", edit)
	require.Equal(t, "CONFLICT", code)
	for _, field := range []string{"name", "category", "specifications"} {
		code, at, _ := w.refused(t, alice, "updateSupplyItem", object{"id": mine.text("supplyItem.id"), field: nil})
		require.Equal(t, []string{"BAD_USER_INPUT", field}, []string{code, at})
	}
	for _, mutation := range []string{"updateSupplyItem", "deactivateSupplyItem"} {
		code, _, _ = w.refused(t, bob, mutation, object{"id": mine.text("supplyItem.id")})
		require.Equal(t, "NOT_FOUND", code)
		code, _, _ = w.refused(t, bob, mutation, object{"id": system.text("supplyItem.id")})
		require.Equal(t, "FORBIDDEN", code, "everybody sees system items")
		w.done(t, root, mutation, object{"id": system.text("supplyItem.id")}, "")
	}
	require.Equal(t, false, w.done(t, alice, "deactivateSupplyItem", object{"id": mine.text("supplyItem.id")}, "supplyItem { isActive }").at("supplyItem.isActive"))
	require.Equal(t, true, w.done(t, alice, "updateSupplyItem", object{"id": mine.text("supplyItem.id"), "isActive": true}, "supplyItem { isActive }").at("supplyItem.isActive"))
}

func (w *world) reference(t testing.TB, user int) string {
	t.Helper()
	key := w.lines(t, `INSERT INTO "references" (user_id, name, type, content) VALUES ($1, 'notes', 'document', 'text') RETURNING id`, user)[0]
	return models.GlobalID{Kind: models.KindReference, Key: key}.String()
}

func TestReferences_AreEditedAndDeleted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.reference(t, 1)
	got := w.done(t, alice, "updateReference", object{"id": id, "name": "plan", "type": "DATASET", "metadata": nil, "expectedVersion": 1}, "reference { name type metadata version }")
	require.Equal(t, map[string]any{"name": "plan", "type": "DATASET", "metadata": nil, "version": 2.0}, got["reference"])
	code, _, _ := w.refused(t, alice, "updateReference", object{"id": id, "name": "late", "expectedVersion": 1})
	require.Equal(t, "CONFLICT", code)
	for _, mutation := range []string{"updateReference", "deleteReference"} {
		code, _, _ := w.refused(t, bob, mutation, object{"id": id})
		require.Equal(t, "NOT_FOUND", code)
	}
	require.Equal(t, id, w.done(t, alice, "deleteReference", object{"id": id}, "deletedId").text("deletedId"))
	require.Equal(t, []string{"0"}, w.lines(t, `SELECT count(*) FROM "references"`))
}

func TestMutations_OfAnAccountThatHasGoneAreUnauthenticated(t *testing.T) {
	t.Parallel()
	w := setup(t)
	gone := models.Viewer{UserID: 99} // for as long as a replica remembers it
	for _, mutation := range []string{`createThread(input: {title: "x"})`, `startRun(input: {inputData: 1})`, `createUpload(input: {name: "x", type: DOCUMENT})`} {
		got := w.ask(t.Context(), gone, "mutation { "+mutation+" { userErrors { code } } }", nil)
		require.Len(t, got.Errors, 1, mutation)
		require.Equal(t, "UNAUTHENTICATED", got.Errors[0].Extensions["code"], mutation)
	}
}
