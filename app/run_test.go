package app_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

func TestMessages_ArePostedAndAppended(t *testing.T) {
	t.Parallel()
	w := setup(t)
	thread := w.thread(t, alice)
	posted := w.done(t, alice, "postMessage", object{"threadId": thread, "content": "Why?", "metadata": object{"a": 1}, "startRun": object{"agentType": "triage", "inputData": []int{1}}},
		"message { role content metadata thread { id } } run { id status agentType inputData thread { id } }")
	require.Equal(t, map[string]any{"role": "USER", "content": "Why?", "metadata": map[string]any{"a": 1.0}, "thread": map[string]any{"id": thread}}, posted["message"])
	require.Equal(t, map[string]any{"id": posted.text("run.id"), "status": "PENDING", "agentType": "triage", "inputData": []any{1.0}, "thread": map[string]any{"id": thread}}, posted["run"])

	say := object{"threadId": thread, "role": "ASSISTANT", "content": "Because.", "tokensUsed": 7, "model": "large"}
	appended := w.done(t, worker(alice), "appendMessage", say, "message { role content tokensUsed model }")
	require.Equal(t, map[string]any{"role": "ASSISTANT", "content": "Because.", "tokensUsed": 7.0, "model": "large"}, appended["message"])
	for viewer, want := range map[models.Viewer]string{alice: "FORBIDDEN", root: "FORBIDDEN", byKey(alice, models.PermissionWrite): "FORBIDDEN", worker(bob): "NOT_FOUND"} {
		code, _, _ := w.refused(t, viewer, "appendMessage", say)
		require.Equal(t, want, code, "%+v", viewer)
	}
	code, _, _ := w.refused(t, worker(alice), "postMessage", object{"threadId": thread, "content": "x"})
	require.Equal(t, "FORBIDDEN", code, "an agent's key does not write as the user")
	w.done(t, byKey(alice, models.PermissionWrite), "postMessage", object{"threadId": thread, "content": "x"}, "")
	w.done(t, alice, "archiveThread", object{"id": thread}, "")
	w.done(t, worker(alice), "appendMessage", say, "")
	code, _, _ = w.refused(t, alice, "postMessage", object{"threadId": thread, "content": "x"})
	require.Equal(t, "CONFLICT", code)
	w.done(t, alice, "deleteThread", object{"id": thread}, "")
	code, _, _ = w.refused(t, worker(alice), "appendMessage", say)
	require.Equal(t, "CONFLICT", code)
	require.Equal(t, []string{"user assistant user assistant"}, w.lines(t, "SELECT string_agg(role, ' ' ORDER BY created_at) FROM messages"))
}

// TestRuns_TakeLegalStepsOnly tries every step.
func TestRuns_TakeLegalStepsOnly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ways := map[string][]string{
		"PENDING": {}, "PROCESSING": {"PROCESSING"}, "COMPLETED": {"PROCESSING", "COMPLETED"}, "FAILED": {"PROCESSING", "FAILED"}, "CANCELLED": {"CANCELLED"},
	}
	legal := map[string]bool{
		"PENDING PROCESSING": true, "PENDING FAILED": true, "PENDING CANCELLED": true,
		"PROCESSING COMPLETED": true, "PROCESSING FAILED": true, "PROCESSING CANCELLED": true,
	}
	at := func(status string) string {
		run := w.run(t, alice)
		for _, step := range ways[status] {
			w.done(t, worker(alice), "advanceRun", object{"id": run, "status": step}, "")
		}
		return run
	}
	for from := range ways {
		for to := range ways {
			input := object{"id": at(from), "status": to}
			if legal[from+" "+to] {
				got := w.done(t, worker(alice), "advanceRun", input, "run { status version startedAt completedAt }")
				require.Equal(t, to, got.text("run.status"))
				require.Equal(t, float64(len(ways[from])+2), got.at("run.version"))
				require.Equal(t, to != "PROCESSING", got.at("run.completedAt") != nil)
				continue
			}
			code, _, message := w.refused(t, worker(alice), "advanceRun", input)
			require.Equal(t, "CONFLICT", code, "%s to %s", from, to)
			require.Equal(t, "a run cannot go from "+from+" to "+to, message)
		}
		if legal[from+" CANCELLED"] {
			w.done(t, alice, "cancelRun", object{"id": at(from)}, "")
		} else {
			code, _, message := w.refused(t, alice, "cancelRun", object{"id": at(from)})
			require.Equal(t, []string{"CONFLICT", "a run cannot go from " + from + " to CANCELLED"}, []string{code, message})
		}
		if from == "FAILED" || from == "CANCELLED" {
			id := at(from)
			again := w.done(t, alice, "retryRun", object{"id": id}, "run { id status version inputData metadata }")
			require.NotEqual(t, id, again.text("run.id"))
			require.Equal(t, "PENDING", again.text("run.status"))
			require.Equal(t, map[string]any{"retry_of": keyOf(t, id)}, again.at("run.metadata"))
			require.Equal(t, map[string]any{"n": 1.0}, again.at("run.inputData"))
		} else {
			code, _, _ := w.refused(t, alice, "retryRun", object{"id": at(from)})
			require.Equal(t, "CONFLICT", code)
		}
	}
}

func TestRuns_AreNotRetriedInAThreadThatHasBeenPutAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	thread := w.thread(t, alice)
	run := w.done(t, alice, "startRun", object{"threadId": thread, "inputData": 1}, "run { id }").text("run.id")
	w.done(t, alice, "cancelRun", object{"id": run}, "")
	for mutation, status := range map[string]string{"archiveThread": "ARCHIVED", "deleteThread": "DELETED"} {
		w.done(t, alice, "restoreThread", object{"id": thread}, "")
		w.done(t, alice, mutation, object{"id": thread}, "")
		code, _, message := w.refused(t, alice, "retryRun", object{"id": run})
		require.Equal(t, []string{"CONFLICT", "the thread is " + status + ": restore it first"}, []string{code, message})
	}
	w.done(t, alice, "restoreThread", object{"id": thread}, "")
	again := w.done(t, alice, "retryRun", object{"id": run}, "run { status thread { id } }")
	require.Equal(t, []string{"PENDING", thread}, []string{again.text("run.status"), again.text("run.thread.id")})
}

func TestRuns_AreAdvancedByTheirOwnAgents(t *testing.T) {
	t.Parallel()
	w := setup(t)
	run := w.run(t, alice)
	step := object{"id": run, "status": "PROCESSING", "expectedVersion": 1}
	for viewer, want := range map[models.Viewer]string{alice: "FORBIDDEN", root: "FORBIDDEN", byKey(alice, models.PermissionWrite): "FORBIDDEN", worker(bob): "NOT_FOUND"} {
		code, _, _ := w.refused(t, viewer, "advanceRun", step)
		require.Equal(t, want, code, "%+v", viewer)
	}
	w.done(t, worker(alice), "advanceRun", step, "")
	code, _, message := w.refused(t, worker(alice), "advanceRun", object{"id": run, "status": "COMPLETED", "expectedVersion": 1})
	require.Equal(t, "CONFLICT", code)
	require.Contains(t, message, "its version is 2 and not 1")
	code, field, _ := w.refused(t, worker(alice), "advanceRun", object{"id": run, "status": "COMPLETED", "errorMessage": "x"})
	require.Equal(t, []string{"BAD_USER_INPUT", "errorMessage"}, []string{code, field})
	ended := w.done(t, worker(alice), "advanceRun", object{"id": run, "status": "FAILED", "errorMessage": "out of memory", "outputData": object{"part": 1}}, "run { errorMessage outputData startedAt completedAt }")
	require.Equal(t, "out of memory", ended.text("run.errorMessage"))
	require.Equal(t, map[string]any{"part": 1.0}, ended.at("run.outputData"))
	require.NotNil(t, ended.at("run.startedAt"))
	require.Equal(t, []string{"pending", "processing", "failed"}, w.lines(t, "SELECT new_status FROM run_events ORDER BY seq"))
}

func TestRuns_SeveralAreCancelledEachForItself(t *testing.T) {
	t.Parallel()
	w := setup(t)
	mine, over, theirs := w.run(t, alice), w.run(t, alice), w.run(t, bob)
	w.done(t, alice, "cancelRun", object{"id": over}, "")
	got := w.done(t, alice, "cancelRuns", object{"ids": []string{theirs, mine, over}}, "results { id run { status } userErrors { code } }")
	require.Equal(t, []any{
		map[string]any{"id": theirs, "run": nil, "userErrors": []any{map[string]any{"code": "NOT_FOUND"}}},
		map[string]any{"id": mine, "run": map[string]any{"status": "CANCELLED"}, "userErrors": []any{}},
		map[string]any{"id": over, "run": nil, "userErrors": []any{map[string]any{"code": "CONFLICT"}}},
	}, got["results"])
	require.Equal(t, []string{"pending"}, w.lines(t, "SELECT status FROM runs WHERE user_id = 2"))
}
