package app_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThreads_AreMadeEditedPutAwayAndDeleted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const all = "thread { id title status version metadata messages { totalCount } user { databaseId } }"
	made := w.done(t, alice, "createThread", object{"title": "Costs", "metadata": object{"a": 1}}, all)
	id := made.text("thread.id")
	delete(made, "userErrors")
	require.Equal(t, object{"thread": map[string]any{"id": id, "title": "Costs", "status": "ACTIVE", "version": 1.0, "metadata": map[string]any{"a": 1.0},
		"messages": map[string]any{"totalCount": 0.0}, "user": map[string]any{"databaseId": 1.0}}}, made)

	edited := w.done(t, alice, "updateThread", object{"id": id, "metadata": object{"b": 2}}, all)
	require.Equal(t, "Costs", edited.text("thread.title"), "what is absent stays")
	require.Equal(t, map[string]any{"b": 2.0}, edited.at("thread.metadata"))
	cleared := w.done(t, alice, "updateThread", object{"id": id, "title": nil, "metadata": nil}, all)
	require.Nil(t, cleared.at("thread.title"), "what is null is cleared")
	require.Nil(t, cleared.at("thread.metadata"))
	require.Equal(t, 3.0, cleared.at("thread.version"))
	same := w.done(t, alice, "updateThread", object{"id": id}, all)
	require.Equal(t, cleared.at("thread"), same.at("thread"), "nothing to change is no edit")

	for _, step := range []struct{ mutation, status string }{
		{"archiveThread", "ARCHIVED"}, {"archiveThread", "ARCHIVED"}, {"restoreThread", "ACTIVE"}, {"restoreThread", "ACTIVE"},
		{"deleteThread", "DELETED"}, {"deleteThread", "DELETED"},
	} {
		require.Equal(t, step.status, w.done(t, alice, step.mutation, object{"id": id}, "thread { status }").text("thread.status"))
	}
	code, _, message := w.refused(t, alice, "archiveThread", object{"id": id})
	require.Equal(t, "CONFLICT", code)
	require.Contains(t, message, "from DELETED to ARCHIVED")
	code, _, _ = w.refused(t, alice, "updateThread", object{"id": id, "title": "x"})
	require.Equal(t, "CONFLICT", code)
	code, _, _ = w.refused(t, alice, "postMessage", object{"threadId": id, "content": "hello"})
	require.Equal(t, "CONFLICT", code)
	w.done(t, alice, "restoreThread", object{"id": id}, "")
	w.done(t, alice, "postMessage", object{"threadId": id, "content": "hello", "startRun": object{}}, "")

	purged := w.done(t, alice, "deleteThread", object{"id": id, "purge": true}, "deletedId thread { id }")
	require.Equal(t, id, purged.text("deletedId"))
	require.Nil(t, purged["thread"])
	require.Equal(t, []string{"0 0 1"}, w.lines(t, "SELECT concat_ws(' ', (SELECT count(*) FROM threads), (SELECT count(*) FROM messages), (SELECT count(*) FROM runs WHERE thread_id IS NULL))"))
	code, field, message := w.refused(t, alice, "deleteThread", object{"id": id})
	require.Equal(t, []string{"NOT_FOUND", "id", "no such Thread"}, []string{code, field, message})
}

func TestThreads_OfOthersAreAbsent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.thread(t, alice)
	absent := w.thread(t, bob)
	w.done(t, bob, "deleteThread", object{"id": absent, "purge": true}, "")
	for _, mutation := range []string{"updateThread", "archiveThread", "restoreThread", "deleteThread"} {
		code, field, message := w.refused(t, bob, mutation, object{"id": id})
		require.Equal(t, []string{"NOT_FOUND", "id", "no such Thread"}, []string{code, field, message}, mutation)
		noCode, noField, noMessage := w.refused(t, bob, mutation, object{"id": absent})
		require.Equal(t, []string{noCode, noField, noMessage}, []string{code, field, message}, mutation)
		w.done(t, root, mutation, object{"id": id}, "")
		w.done(t, root, "restoreThread", object{"id": id}, "")
	}
	for mutation, input := range map[string]object{
		"postMessage": {"threadId": id, "content": "x"},
		"startRun":    {"threadId": id, "inputData": 1},
	} {
		code, field, _ := w.refused(t, bob, mutation, input)
		require.Equal(t, []string{"NOT_FOUND", "threadId"}, []string{code, field}, mutation)
	}
	require.Equal(t, 1.0, w.query(t, alice, "{ viewer { threads { totalCount } } }").at("viewer.threads.totalCount"))
}

func TestThreads_TwoWhoEditDoNotOverwriteEachOther(t *testing.T) {
	t.Parallel()
	w := setup(t)
	id := w.thread(t, alice)
	w.done(t, alice, "postMessage", object{"threadId": id, "content": "x"}, "")
	w.done(t, alice, "updateThread", object{"id": id, "title": "mine", "expectedVersion": 1}, "")
	code, _, message := w.refused(t, alice, "updateThread", object{"id": id, "title": "yours", "expectedVersion": 1})
	require.Equal(t, "CONFLICT", code)
	require.Contains(t, message, "its version is 2 and not 1")
	require.Equal(t, []string{"mine"}, w.lines(t, "SELECT title FROM threads"))
}

func TestThreads_SeveralAreArchivedEachForItself(t *testing.T) {
	t.Parallel()
	w := setup(t)
	mine, binned, theirs := w.thread(t, alice), w.thread(t, alice), w.thread(t, bob)
	w.done(t, alice, "deleteThread", object{"id": binned}, "")
	got := w.done(t, alice, "archiveThreads", object{"ids": []string{theirs, mine, binned}}, "results { id thread { status user { email } } userErrors { code message } }")
	require.Equal(t, []any{
		map[string]any{"id": theirs, "thread": nil, "userErrors": []any{map[string]any{"code": "NOT_FOUND", "message": "no such Thread"}}},
		map[string]any{"id": mine, "thread": map[string]any{"status": "ARCHIVED", "user": map[string]any{"email": "alice@example.com"}}, "userErrors": []any{}},
		map[string]any{"id": binned, "thread": nil, "userErrors": []any{map[string]any{"code": "CONFLICT", "message": "a thread cannot go from DELETED to ARCHIVED: restore it first"}}},
	}, got["results"])
	require.Equal(t, []string{keyOf(t, theirs) + " 404 NOT_FOUND", keyOf(t, mine) + " 200 ", keyOf(t, binned) + " 409 CONFLICT"},
		w.lines(t, "SELECT concat(resource_id, ' ', response_status, ' ', metadata->>'code') FROM audit_logs WHERE action = 'archiveThreads' ORDER BY id"))
	code, field, _ := w.refused(t, alice, "archiveThreads", object{"ids": []string{mine, mine}})
	require.Equal(t, []string{"BAD_USER_INPUT", "ids.1"}, []string{code, field})
	code, field, _ = w.refused(t, alice, "archiveThreads", object{"ids": []string{}})
	require.Equal(t, []string{"BAD_USER_INPUT", "ids"}, []string{code, field})
}
