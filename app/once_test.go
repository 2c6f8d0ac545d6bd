package app_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

func TestIdempotencyKeys_GiveOneEffectAndOneAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	thread := w.thread(t, alice)
	input := object{"threadId": thread, "content": "Why?", "startRun": object{"agentType": "triage"}, "idempotencyKey": "k"}
	const callers = 50
	answers := make([]string, callers)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			got := w.ask(t.Context(), alice, `mutation($input: PostMessageInput!) { postMessage(input: $input) { message { id content createdAt } run { id status } userErrors { code } } }`, map[string]any{"input": input})
			raw, _ := json.Marshal(got) // an error shows as a difference
			answers[i] = string(raw)
		})
	}
	all.Wait()
	for _, answer := range answers {
		require.Equal(t, answers[0], answer)
	}
	require.Contains(t, answers[0], `"status":"PENDING"`)
	require.Equal(t, []string{"1 1 1"}, w.lines(t, "SELECT concat_ws(' ', (SELECT count(*) FROM messages), (SELECT count(*) FROM runs), (SELECT count(*) FROM audit_logs WHERE action = 'postMessage'))"))

	input["content"] = "Why not?"
	code, _, _ := w.refused(t, alice, "postMessage", input)
	require.Equal(t, "CONFLICT", code, "another body")

	other := w.thread(t, bob)
	w.done(t, bob, "postMessage", object{"threadId": other, "content": "mine", "idempotencyKey": "k"}, "")
	w.done(t, alice, "createThread", object{"title": "x", "idempotencyKey": "k"}, "")
	require.Equal(t, []string{"2"}, w.lines(t, "SELECT count(*) FROM messages"), "keys are a tenant's and an operation's own")

	_, err := w.owner.ExecContext(t.Context(), "UPDATE idempotency_keys SET expires_at = now() - interval '1 second'")
	require.NoError(t, err)
	w.done(t, alice, "postMessage", input, "")
	require.Equal(t, []string{"2"}, w.lines(t, "SELECT count(*) FROM messages WHERE user_id = 1"), "keys expire")
	require.Equal(t, []string{"1"}, w.lines(t, "SELECT count(*) FROM idempotency_keys WHERE user_id = 1"), "and are cleared away")
}

func TestIdempotencyKeys_ForgetWhatWasRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	thread := w.thread(t, alice)
	w.done(t, alice, "archiveThread", object{"id": thread}, "")
	input := object{"threadId": thread, "content": "x", "idempotencyKey": "k"}
	code, _, _ := w.refused(t, alice, "postMessage", input)
	require.Equal(t, "CONFLICT", code)
	w.done(t, alice, "restoreThread", object{"id": thread}, "")
	w.done(t, alice, "postMessage", input, "")
}

func TestIdempotencyKeys_RememberWhatIsGoneAndWhatWasShown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	input := object{"title": "x", "idempotencyKey": "k"}
	id := w.done(t, alice, "createThread", input, "thread { id }").text("thread.id")
	require.Equal(t, id, w.done(t, alice, "createThread", input, "thread { id }").text("thread.id"))
	purge := object{"id": id, "purge": true, "idempotencyKey": "k"}
	for range 2 {
		require.Equal(t, id, w.done(t, alice, "deleteThread", purge, "deletedId").text("deletedId"))
	}
	require.Nil(t, w.done(t, alice, "createThread", input, "thread { id }")["thread"])

	key := object{"name": "x", "permissions": []string{"READ"}, "idempotencyKey": "k"}
	shown := w.done(t, alice, "createApiKey", key, "token apiKey { id }")
	again := w.done(t, alice, "createApiKey", key, "token apiKey { id }")
	require.NotNil(t, shown["token"])
	require.Nil(t, again["token"], "a token is shown once")
	require.Equal(t, shown["apiKey"], again["apiKey"])

	bulk := object{"ids": []string{w.thread(t, bob), w.thread(t, alice)}, "idempotencyKey": "k"}
	const results = "results { id thread { status } userErrors { code } }"
	require.Equal(t, w.done(t, alice, "archiveThreads", bulk, results), w.done(t, alice, "archiveThreads", bulk, results))
}

func TestIdempotencyKeys_TellNullFromAbsent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.thread(t, alice)
	w.done(t, alice, "updateThread", object{"id": id, "idempotencyKey": "k"}, "")
	code, _, _ := w.refused(t, alice, "updateThread", object{"id": id, "title": nil, "idempotencyKey": "k"})
	require.Equal(t, "CONFLICT", code)
}

func TestAudit_TellsWhoDidWhatFromWhere(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx := models.WithOrigin(t.Context(), models.Origin{Address: netip.MustParseAddr("2001:db8::1"), UserAgent: "curl\x00/8 \xff" + strings.Repeat("x", 2000), RequestID: "abc-1"})
	const create = `mutation { createThread(input: {title: "x"}) { thread { databaseId } userErrors { code } } }`
	var data struct {
		CreateThread struct{ Thread struct{ DatabaseID string } }
	}
	got := w.ask(ctx, alice, create, nil)
	require.Empty(t, got.Errors)
	require.NoError(t, json.Unmarshal(got.Data, &data))
	require.Equal(t, []string{"1 createThread Thread " + data.CreateThread.Thread.DatabaseID + " 2001:db8::1 curl\uFFFD/8 \uFFFDx abc-1 200 {}"},
		w.lines(t, "SELECT concat_ws(' ', user_id, action, resource_type, resource_id, host(ip_address), left(user_agent, 10), request_id, response_status, metadata) FROM audit_logs"))
	key := byKey(bob, models.PermissionRead)
	w.ask(ctx, key, create, nil)
	require.Equal(t, []string{`2 createThread 403 {"code": "FORBIDDEN", "api_key": "` + key.APIKey.String() + `"}`},
		w.lines(t, "SELECT concat_ws(' ', user_id, action, response_status, metadata) FROM audit_logs WHERE user_id = 2"))
}
