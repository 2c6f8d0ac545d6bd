package app_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/models"
)

// model is what the graph should hold, in plain memory. Everything that hangs together is a family with a lock of its own, which a client holds from before
// it asks until the model has followed: what different families do is concurrent, what one does has an order.
type model struct {
	mu       sync.Mutex
	families []*family
	audit    []string
}

type family struct {
	sync.Mutex
	owner  models.Viewer
	thread *modelThread // nil outside of threads
	runs   []*modelRun
}

type modelThread struct {
	id       string
	title    any
	status   string // "" when it is gone for good
	version  int
	messages []string
}

type modelRun struct {
	id       string
	agent    any
	status   string
	version  int
	inThread bool
}

// client is one program, which acts for both tenants.
type client struct {
	*rand.Rand
	w *world
	m *model
}

func pick[T any](c *client, list ...T) T { return list[c.IntN(len(list))] }

// use calls a mutation and holds the code of its answer against the one expected; it records what the audit log should have.
func (c *client) use(ctx context.Context, viewer models.Viewer, mutation string, input object, want, selection string) (object, error) {
	got := c.w.ask(ctx, viewer, "mutation($input: "+pascal(mutation)+"Input!) { payload: "+mutation+"(input: $input) { userErrors { code message } "+selection+" } }", map[string]any{"input": input})
	if len(got.Errors) > 0 {
		return nil, fmt.Errorf("%s %v: %w", mutation, input, got.Errors)
	}
	var data struct{ Payload object }
	if err := json.Unmarshal(got.Data, &data); err != nil {
		return nil, err
	}
	if code := data.Payload.text("userErrors.0.code"); code != want {
		return nil, fmt.Errorf("%s %v as %d: %q, expected %q: %s", mutation, input, viewer.UserID, code, want, data.Payload.text("userErrors.0.message"))
	}
	return data.Payload, nil
}

var statuses = map[string]int{"": 200, "NOT_FOUND": 404, "CONFLICT": 409, "FORBIDDEN": 403, "BAD_USER_INPUT": 400}

// audited notes a line that the audit log must have.
func (c *client) audited(viewer models.Viewer, mutation string, kind models.Kind, id, code string) {
	key := ""
	if id != "" {
		parsed, _ := models.ParseID(id) // the graph gave it
		key = parsed.Key
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.audit = append(c.m.audit, fmt.Sprintf("%d %s %s %s %d", viewer.UserID, mutation, kind, key, statuses[code]))
}

func (c *client) add(f *family) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.families = append(c.m.families, f)
}

// some are up to n families, in the one order in which they are locked.
func (c *client) some(n int) []*family {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	var places []int
	for range n {
		if len(c.m.families) > 0 {
			places = append(places, c.IntN(len(c.m.families)))
		}
	}
	slices.Sort(places)
	var chosen []*family
	for _, place := range slices.Compact(places) {
		chosen = append(chosen, c.m.families[place])
	}
	return chosen
}

// act does one random thing and returns how the graph differs from the model, if it does.
func (c *client) act(ctx context.Context) error {
	viewer := pick(c, alice, bob)
	if c.IntN(10) == 0 {
		return c.create(ctx, viewer)
	}
	if c.IntN(8) == 0 {
		return c.bulk(ctx, viewer)
	}
	chosen := c.some(1)
	if len(chosen) == 0 {
		return c.create(ctx, viewer)
	}
	f := chosen[0]
	f.Lock()
	defer f.Unlock()
	if c.IntN(10) > 0 {
		viewer = f.owner // mostly one's own
	}
	if f.thread != nil && (len(f.runs) == 0 || c.IntN(2) == 0) {
		return c.useThread(ctx, viewer, f)
	}
	return c.useRun(ctx, viewer, f, f.runs[c.IntN(len(f.runs))])
}

func (c *client) create(ctx context.Context, viewer models.Viewer) error {
	f := &family{owner: viewer}
	if c.IntN(3) == 0 {
		got, err := c.use(ctx, viewer, "startRun", object{"inputData": 1, "agentType": "lone"}, "", "run { id }")
		if err != nil {
			return err
		}
		f.runs = []*modelRun{{id: got.text("run.id"), agent: "lone", status: "PENDING", version: 1}}
		c.audited(viewer, "startRun", models.KindRun, f.runs[0].id, "")
	} else {
		title := fmt.Sprint("thread ", c.IntN(100))
		got, err := c.use(ctx, viewer, "createThread", object{"title": title}, "", "thread { id }")
		if err != nil {
			return err
		}
		f.thread = &modelThread{id: got.text("thread.id"), title: title, status: "ACTIVE", version: 1}
		c.audited(viewer, "createThread", models.KindThread, f.thread.id, "")
	}
	c.add(f)
	return nil
}

func (f *family) absent(viewer models.Viewer) bool {
	return f.owner.UserID != viewer.UserID || f.thread != nil && f.thread.status == ""
}

func (t *modelThread) move(to string) {
	if t.status != to {
		t.status = to
		t.version++
	}
}

func (c *client) useThread(ctx context.Context, viewer models.Viewer, f *family) error {
	t := f.thread
	want := ""
	if f.absent(viewer) {
		want = "NOT_FOUND"
	}
	conflict := func(is bool) {
		if is && want == "" {
			want = "CONFLICT"
		}
	}
	mutation := pick(c, "updateThread", "updateThread", "archiveThread", "restoreThread", "restoreThread", "deleteThread", "purge", "postMessage", "postMessage", "postMessage", "appendMessage", "startRun")
	input, selection := object{"id": t.id}, ""
	kind, on := models.KindThread, t.id
	follow := func(object) {}
	switch mutation {
	case "updateThread":
		if c.IntN(2) == 0 {
			expected := t.version - c.IntN(2)
			input["expectedVersion"] = expected
			conflict(expected != t.version)
		}
		conflict(t.status == "DELETED")
		title := pick[any](c, nil, "one", "two", "three")
		input["title"] = title
		follow = func(object) {
			if t.title != title {
				t.version++
			}
			t.title = title
		}
	case "archiveThread":
		conflict(t.status == "DELETED")
		follow = func(object) { t.move("ARCHIVED") }
	case "restoreThread":
		follow = func(object) { t.move("ACTIVE") }
	case "deleteThread":
		follow = func(object) { t.move("DELETED") }
	case "purge":
		mutation, input["purge"] = "deleteThread", true
		follow = func(object) {
			t.status, t.messages = "", nil
			for _, r := range f.runs {
				r.inThread = false
			}
		}
	case "postMessage":
		content := fmt.Sprint("message ", c.IntN(1000))
		input, selection = object{"threadId": t.id, "content": content}, "message { id } run { id }"
		started := c.IntN(3) == 0
		if started {
			input["startRun"] = object{"agentType": "posted"}
		}
		conflict(t.status != "ACTIVE")
		follow = func(got object) {
			kind, on = models.KindMessage, got.text("message.id")
			t.messages = append(t.messages, "USER "+content)
			if started {
				f.runs = append(f.runs, &modelRun{id: got.text("run.id"), agent: "posted", status: "PENDING", version: 1, inThread: true})
			}
		}
	case "appendMessage":
		if c.IntN(5) > 0 {
			viewer = worker(viewer)
		} else {
			want = "FORBIDDEN"
		}
		content := fmt.Sprint("answer ", c.IntN(1000))
		input, selection = object{"threadId": t.id, "content": content, "role": "ASSISTANT"}, "message { id }"
		conflict(t.status == "DELETED")
		follow = func(got object) {
			kind, on = models.KindMessage, got.text("message.id")
			t.messages = append(t.messages, "ASSISTANT "+content)
		}
	case "startRun":
		input, selection = object{"threadId": t.id, "inputData": 1, "agentType": "started"}, "run { id }"
		conflict(t.status != "ACTIVE")
		follow = func(got object) {
			kind, on = models.KindRun, got.text("run.id")
			f.runs = append(f.runs, &modelRun{id: got.text("run.id"), agent: "started", status: "PENDING", version: 1, inThread: true})
		}
	}
	got, err := c.use(ctx, viewer, mutation, input, want, selection)
	if err != nil {
		return err
	}
	if want == "" {
		follow(got)
	}
	c.audited(viewer, mutation, kind, on, want)
	return nil
}

// legalSteps is the model's own opinion of what a run may do.
var legalSteps = map[string][]string{"PENDING": {"PROCESSING", "FAILED", "CANCELLED"}, "PROCESSING": {"COMPLETED", "FAILED", "CANCELLED"}}

func (c *client) useRun(ctx context.Context, viewer models.Viewer, f *family, r *modelRun) error {
	want := ""
	if f.owner.UserID != viewer.UserID {
		want = "NOT_FOUND"
	}
	conflict := func(is bool) {
		if is && want == "" {
			want = "CONFLICT"
		}
	}
	mutation := pick(c, "cancelRun", "retryRun", "advanceRun", "advanceRun", "advanceRun")
	input, selection := object{"id": r.id}, ""
	follow := func(object) {}
	step := func(to string) {
		conflict(!slices.Contains(legalSteps[r.status], to))
		follow = func(object) { r.status, r.version = to, r.version+1 }
	}
	switch mutation {
	case "cancelRun":
		step("CANCELLED")
	case "advanceRun":
		viewer = worker(viewer)
		to := pick(c, "PENDING", "PROCESSING", "PROCESSING", "COMPLETED", "COMPLETED", "FAILED", "CANCELLED")
		input["status"] = to
		if c.IntN(3) == 0 {
			expected := r.version - c.IntN(2)
			input["expectedVersion"] = expected
			conflict(expected != r.version)
		}
		step(to)
	case "retryRun":
		selection = "run { id }"
		conflict(r.status != "FAILED" && r.status != "CANCELLED" || r.inThread && f.thread.status != "ACTIVE")
		follow = func(got object) {
			f.runs = append(f.runs, &modelRun{id: got.text("run.id"), agent: r.agent, status: "PENDING", version: 1, inThread: r.inThread})
		}
	}
	got, err := c.use(ctx, viewer, mutation, input, want, selection)
	if err != nil {
		return err
	}
	if want == "" {
		follow(got)
	}
	c.audited(viewer, mutation, models.KindRun, r.id, want)
	return nil
}

func (c *client) bulk(ctx context.Context, viewer models.Viewer) error {
	chosen := c.some(4)
	for _, f := range chosen {
		f.Lock()
		defer f.Unlock()
	}
	type item struct {
		id, want string
		follow   func()
	}
	var items []item
	mutation, kind := "archiveThreads", models.KindThread
	if c.IntN(2) == 0 {
		mutation, kind = "cancelRuns", models.KindRun
	}
	for _, f := range chosen {
		switch {
		case kind == models.KindThread && f.thread != nil:
			want := ""
			if f.absent(viewer) {
				want = "NOT_FOUND"
			} else if f.thread.status == "DELETED" {
				want = "CONFLICT"
			}
			items = append(items, item{f.thread.id, want, func() { f.thread.move("ARCHIVED") }})
		case kind == models.KindRun:
			for _, r := range f.runs {
				want := ""
				if f.owner.UserID != viewer.UserID {
					want = "NOT_FOUND"
				} else if !slices.Contains(legalSteps[r.status], "CANCELLED") {
					want = "CONFLICT"
				}
				items = append(items, item{r.id, want, func() { r.status, r.version = "CANCELLED", r.version+1 }})
			}
		}
	}
	if len(items) == 0 {
		return nil
	}
	c.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	ids := make([]string, len(items))
	for i, item := range items {
		ids[i] = item.id
	}
	got, err := c.use(ctx, viewer, mutation, object{"ids": ids}, "", "results { id userErrors { code } }")
	if err != nil {
		return err
	}
	for i, item := range items {
		if code := got.text(fmt.Sprintf("results.%d.userErrors.0.code", i)); code != item.want || got.text(fmt.Sprintf("results.%d.id", i)) != item.id {
			return fmt.Errorf("%s: %q for %s, expected %q", mutation, code, item.id, item.want)
		}
		if item.want == "" {
			item.follow()
		}
		c.audited(viewer, mutation, kind, item.id, item.want)
	}
	return nil
}

// TestTheGraphFollowsTheModel lets several clients do random things for two tenants at once, and compares afterwards everything that the tenants see, and the audit log.
func TestTheGraphFollowsTheModel(t *testing.T) {
	t.Parallel()
	w := setup(t)
	m := new(model)
	const clients, steps = 8, 150
	running, ctx := errgroup.WithContext(t.Context())
	for n := range clients {
		c := &client{Rand: rand.New(rand.NewPCG(uint64(n), 5)), w: w, m: m}
		running.Go(func() error {
			for range steps {
				if err := c.act(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, running.Wait())

	for _, viewer := range []models.Viewer{alice, bob} {
		var want []string
		for _, f := range m.families {
			if f.owner != viewer {
				continue
			}
			thread := ""
			if f.thread != nil && f.thread.status != "" {
				thread = f.thread.id
				want = append(want, fmt.Sprint("thread ", thread, " ", f.thread.title, " ", f.thread.status, " ", f.thread.version, " ", strings.Join(f.thread.messages, ", ")))
			}
			for _, r := range f.runs {
				in := ""
				if r.inThread {
					in = thread
				}
				want = append(want, fmt.Sprint("run ", r.id, " ", r.agent, " ", r.status, " ", r.version, " in ", in))
			}
		}
		require.ElementsMatch(t, want, w.everything(t, viewer))
		require.Greater(t, len(want), 30)
	}
	audit := w.lines(t, "SELECT concat_ws(' ', user_id, action, coalesce(resource_type, ''), coalesce(resource_id, ''), response_status) FROM audit_logs")
	require.ElementsMatch(t, m.audit, audit, "the audit log has a line for each mutation")
	require.Greater(t, len(audit), clients*steps*9/10)
	for _, code := range []int{200, 403, 404, 409} {
		require.Contains(t, strings.Join(audit, "\n"), fmt.Sprint(" ", code), "the clients met every outcome")
	}
}

// everything is what a viewer's threads and runs are, as the graph says.
func (w *world) everything(t *testing.T, viewer models.Viewer) []string {
	t.Helper()
	var lines []string
	for after := "null"; after != ""; {
		page := w.query(t, viewer, `{ viewer { threads(first: 20, after: `+after+`, filter: {status: null}) { pageInfo { hasNextPage endCursor } nodes { id title status version messages(first: 100) { nodes { role content } } } } } }`)
		for _, node := range page.at("viewer.threads.nodes").([]any) {
			thread := object(node.(map[string]any))
			var said []string
			for _, message := range thread.at("messages.nodes").([]any) {
				said = append(said, object(message.(map[string]any)).text("role")+" "+object(message.(map[string]any)).text("content"))
			}
			lines = append(lines, fmt.Sprint("thread ", thread["id"], " ", thread["title"], " ", thread["status"], " ", thread["version"], " ", strings.Join(said, ", ")))
		}
		after = next(page, "viewer.threads.pageInfo")
	}
	for after := "null"; after != ""; {
		page := w.query(t, viewer, `{ viewer { runs(first: 100, after: `+after+`) { pageInfo { hasNextPage endCursor } nodes { id agentType status version thread { id } } } } }`)
		for _, node := range page.at("viewer.runs.nodes").([]any) {
			run := object(node.(map[string]any))
			lines = append(lines, fmt.Sprint("run ", run["id"], " ", run["agentType"], " ", run["status"], " ", run["version"], " in ", run.text("thread.id")))
		}
		after = next(page, "viewer.runs.pageInfo")
	}
	return lines
}

func next(page object, info string) string {
	if page.at(info+".hasNextPage") == true {
		return `"` + page.text(info+".endCursor") + `"`
	}
	return ""
}
