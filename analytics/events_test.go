package analytics_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

func TestEventsSQL(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	ctx := models.WithViewer(t.Context(), models.System)
	const columns = "user_id, event_id, timestamp, workload_id, event_type, event_category, metrics.name, metrics.value, metrics.unit, dimensions, metadata"
	const kept = "timestamp >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Milli({to:Int64}, 'UTC')"
	plain, err := analytics.NewEvents(page(t, models.PageArguments{}, models.LatestEvents), nil)
	require.NoError(t, err)

	t.Run("of one user stops when the page is full", func(t *testing.T) {
		t.Parallel()
		text, parameters, err := a.SQL(ctx, plain, alice)
		require.NoError(t, err)
		require.Equal(t, "SELECT tenant, subject, "+columns+" FROM (SELECT user_id AS tenant, '' AS subject, "+columns+" FROM workload_events"+
			" WHERE user_id IN {users:Array(UInt32)} AND "+kept+" ORDER BY user_id DESC, timestamp DESC, event_id DESC LIMIT 21)"+
			" ORDER BY tenant, subject, timestamp DESC, event_id DESC LIMIT 21 BY tenant, subject", text)
		from, err := strconv.ParseInt(parameters["from"], 10, 64)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(-90*day), time.UnixMilli(from), time.Minute)
	})
	t.Run("of many users finds the times first", func(t *testing.T) {
		t.Parallel()
		text, _, err := a.SQL(ctx, plain, alice, bob)
		require.NoError(t, err)
		const mine = "FROM workload_events WHERE user_id IN {users:Array(UInt32)} AND " + kept
		const order = " ORDER BY user_id DESC, timestamp DESC LIMIT 21 BY tenant, subject)"
		require.Equal(t, "SELECT tenant, subject, "+columns+" FROM (SELECT user_id AS tenant, '' AS subject, "+columns+" "+mine+
			" AND (user_id, timestamp) IN (SELECT user_id, timestamp FROM (SELECT user_id AS tenant, '' AS subject, user_id, timestamp "+
			mine+order+order+") ORDER BY tenant, subject, timestamp DESC, event_id DESC LIMIT 21 BY tenant, subject", text)
	})
	t.Run("filters and pages by parameters", func(t *testing.T) {
		t.Parallel()
		at := time.Now().UTC().Truncate(time.Millisecond).Add(-time.Hour)
		id := uuid.New()
		cursor := models.Cursor{Column: "timestamp", Value: models.CursorTime(at), ID: id.String()}.String()
		metric := "la'tency"
		last := 5
		question, err := analytics.NewEvents(page(t, models.PageArguments{Last: &last, Before: &cursor}, models.LatestEvents), &models.WorkloadEventFilter{
			EventType: []string{"metric", "x"}, EventCategory: []string{}, Metric: &metric, Dimensions: models.JSON(`{"b": "2", "a": "1"}`),
			Timestamp: &models.TimeFilter{From: &at, To: &at},
		})
		require.NoError(t, err)
		text, parameters, err := a.SQL(ctx, question, platform)
		require.NoError(t, err)
		require.Equal(t, "SELECT tenant, subject, "+columns+" FROM (SELECT toUInt32(0) AS tenant, '' AS subject, "+columns+" FROM workload_events WHERE 1 AND "+kept+
			" AND event_type IN {event_type:Array(String)} AND event_category IN {event_category:Array(String)} AND hasAny(metrics.name, {metric:Array(String)})"+
			" AND arrayAll((name, value) -> mapContains(dimensions, name) AND dimensions[name] = value, {dimension_names:Array(String)}, {dimension_values:Array(String)})"+
			" AND timestamp >= fromUnixTimestamp64Milli({before_at:Int64}, 'UTC')"+
			" AND (timestamp, event_id) > (fromUnixTimestamp64Milli({before_at:Int64}, 'UTC'), {before_id:UUID})"+
			" ORDER BY timestamp, event_id LIMIT 6) ORDER BY tenant, subject, timestamp, event_id LIMIT 6 BY tenant, subject", text)
		milliseconds := strconv.FormatInt(at.UnixMilli(), 10)
		for name, want := range map[string]string{"event_type": "['metric','x']", "event_category": "[]", "metric": `['la\'tency']`, "dimension_names": "['a','b']",
			"dimension_values": "['1','2']", "from": milliseconds, "to": milliseconds, "before_at": milliseconds, "before_id": id.String()} {
			require.Equal(t, want, parameters[name], name)
		}
	})
}

func TestNewEventsRefuses(t *testing.T) {
	t.Parallel()
	many := make([]string, 101)
	dimensions := map[string]string{}
	for i := range 21 {
		dimensions[strconv.Itoa(i)] = ""
	}
	raw, err := json.Marshal(dimensions)
	require.NoError(t, err)
	for name, filter := range map[string]models.WorkloadEventFilter{
		"more types than a list may have":      {EventType: many},
		"more categories than a list may have": {EventCategory: many},
		"more dimensions than a list may have": {Dimensions: raw},
		"dimensions that are no object":        {Dimensions: models.JSON(`["a"]`)},
		"dimensions that are no strings":       {Dimensions: models.JSON(`{"a": 1}`)},
	} {
		_, err := analytics.NewEvents(page(t, models.PageArguments{}, models.LatestEvents), &filter)
		require.Equal(t, models.BadUserInput, models.CodeOf(err), name)
	}
	cursor := models.Cursor{Column: "timestamp", Value: "9999-01-01T00:00:00.000000Z", ID: uuid.NewString()}.String()
	_, err = analytics.NewEvents(page(t, models.PageArguments{After: &cursor}, models.LatestEvents), nil)
	require.Equal(t, models.BadUserInput, models.CodeOf(err))
}

func page(t *testing.T, arguments models.PageArguments, order models.Order) models.Page {
	t.Helper()
	page, err := models.NewPage(arguments, order)
	require.NoError(t, err)
	return page
}

// recent is an hour within the retention of everything.
func recent() time.Time { return time.Now().UTC().Truncate(time.Hour).Add(-2 * day) }

// event is what a test reports: one metric, cost_usd.
type event struct {
	at             time.Time
	user           int
	workload, kind string
	value          float64
	dimensions     map[string]string
}

// report inserts events as one block.
func report(t *testing.T, db *testdb.DB, events ...event) {
	t.Helper()
	tx, err := db.ClickHouse(t).BeginTx(t.Context(), nil)
	require.NoError(t, err)
	insert, err := tx.PrepareContext(t.Context(), `INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, event_category,
		metrics.name, metrics.value, metrics.unit, dimensions, metadata)`)
	require.NoError(t, err)
	for _, e := range events {
		_, err = insert.ExecContext(t.Context(), e.at, uint32(e.user), e.workload, e.kind, "llm", []string{"cost_usd"}, []float64{e.value}, []string{"USD"}, e.dimensions, `{"n": 1}`)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

func TestEvents(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t)
	thread, run := uuid.New(), uuid.New()
	start := recent()
	reported := []event{
		{start, 1, "w'2", "start", 0, map[string]string{"region": ""}},
		{start.Add(-100 * day), 1, "w", "metric", 0, nil},
		{start.Add(time.Minute), 3, run.String(), "metric", 1, map[string]string{"thread_id": thread.String()}},
		{start.Add(2 * time.Minute), 3, run.String(), "metric", 2, nil},
		{start.Add(3 * time.Minute), 3, "elsewhere", "metric", 3, map[string]string{"thread_id": thread.String()}},
	}
	for i := range 7 { // of alice three pairs at one time, and one
		reported = append(reported, event{start.Add(time.Duration(i/2) * time.Minute), 1, "w", "metric", float64(i), map[string]string{"model": fmt.Sprintf("m%d", i%2)}},
			event{start.Add(time.Duration(i) * time.Minute), 2, "w", "metric", 100, nil})
	}
	report(t, db, reported...)
	a, err := analytics.Open(analytics.Config{URL: db.ClickHouseURL, RunsOfThreads: func(context.Context, []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
		return map[uuid.UUID]uuid.UUID{run: thread}, nil
	}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	everyone := models.WithViewer(t.Context(), models.System)
	first := func(n int) models.PageArguments { return models.PageArguments{First: &n} }
	last := func(n int) models.PageArguments { return models.PageArguments{Last: &n} }
	// walk pages through a subject's list and returns the values, the latest first.
	walk := func(t *testing.T, arguments models.PageArguments, filter *models.WorkloadEventFilter, subject models.Subject) (values []float64) {
		t.Helper()
		for range 20 {
			page := page(t, arguments, models.LatestEvents)
			question, err := analytics.NewEvents(page, filter)
			require.NoError(t, err)
			events, err := a.Events(everyone, []models.Subject{subject}, question)
			require.NoError(t, err)
			more := len(events) > page.Limit
			events = events[:min(page.Limit, len(events))]
			for _, event := range events {
				require.Equal(t, subject, event.Of)
				values = append(values, event.Metrics[0].Value)
			}
			if !more {
				break
			}
			cursor := events[len(events)-1].Cursor(models.LatestEvents).String()
			if page.Backward {
				arguments.Before = &cursor
			} else {
				arguments.After = &cursor
			}
		}
		if page(t, arguments, models.LatestEvents).Backward {
			slices.Reverse(values)
		}
		return values
	}

	t.Run("come page by page, each once, in both directions", func(t *testing.T) {
		t.Parallel()
		whole := walk(t, first(100), nil, alice)
		require.Len(t, whole, 8, "what has expired is left out")
		require.Equal(t, 6.0, whole[0])
		for _, n := range []int{1, 2, 3} {
			require.Equal(t, whole, walk(t, first(n), nil, alice))
			require.Equal(t, whole, walk(t, last(n), nil, alice))
		}
	})
	t.Run("tell everything that was reported", func(t *testing.T) {
		t.Parallel()
		question, err := analytics.NewEvents(page(t, first(1), models.LatestEvents), nil)
		require.NoError(t, err)
		events, err := a.Events(everyone, []models.Subject{bob}, question)
		require.NoError(t, err)
		require.Len(t, events, 2, "one more than the page")
		event := events[0]
		require.NotEqual(t, uuid.Nil, event.EventID)
		require.True(t, start.Add(6*time.Minute).Equal(event.Timestamp))
		event.EventID, event.Timestamp = uuid.Nil, time.Time{}
		require.Equal(t, &models.WorkloadEvent{UserID: 2, WorkloadID: "w", EventType: "metric", EventCategory: "llm", Metrics: []*models.EventMetric{{Name: "cost_usd", Value: 100, Unit: "USD"}},
			Dimensions: models.JSON("{}"), Metadata: models.JSON(`{"n": 1}`), Of: bob}, event)
	})
	t.Run("of many subjects come in one question, a page for each", func(t *testing.T) {
		t.Parallel()
		tally := new(models.Tally)
		question, err := analytics.NewEvents(page(t, first(2), models.LatestEvents), nil)
		require.NoError(t, err)
		events, err := a.Events(models.WithTally(everyone, tally), []models.Subject{alice, bob}, question)
		require.NoError(t, err)
		require.EqualValues(t, 1, tally.Questions.Load())
		of := map[models.Subject][]float64{}
		for _, event := range events {
			of[event.Of] = append(of[event.Of], event.Metrics[0].Value)
		}
		require.Equal(t, []float64{100, 100, 100}, of[bob])
		require.Len(t, of[alice], 3)
		require.Equal(t, 6.0, of[alice][0])
		counts, err := a.CountEvents(everyone, []models.Subject{alice, bob, {Kind: models.SubjectUser, UserID: 99}}, question)
		require.NoError(t, err)
		require.Equal(t, map[models.Subject]int{alice: 8, bob: 7}, counts)
	})
	t.Run("of one tenant's workload are not another's of the same id", func(t *testing.T) {
		t.Parallel()
		mine := models.Subject{Kind: models.SubjectWorkload, UserID: 1, ID: "w"}
		question, err := analytics.NewEvents(page(t, first(100), models.LatestEvents), nil)
		require.NoError(t, err)
		for name, viewer := range map[string]models.Viewer{"the tenant": {UserID: 1}, "a superuser": {UserID: 9, Superuser: true}} {
			events, err := a.Events(models.WithViewer(t.Context(), viewer), []models.Subject{mine, {Kind: models.SubjectWorkload, UserID: 2, ID: "w'2"}}, question)
			require.NoError(t, err)
			require.Len(t, events, 7, name)
			for _, event := range events {
				require.Equal(t, mine, event.Of)
			}
		}
	})
	t.Run("of a thread are its runs' and those that name it", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, []float64{3, 2, 1}, walk(t, first(2), nil, models.Subject{Kind: models.SubjectThread, UserID: 3, ID: thread.String()}))
	})
	t.Run("of the platform are everybody's", func(t *testing.T) {
		t.Parallel()
		require.Len(t, walk(t, first(4), nil, platform), 18)
		_, err := a.Events(models.WithViewer(t.Context(), models.Viewer{UserID: 1}), []models.Subject{platform}, analytics.Events{})
		require.Equal(t, models.Forbidden, models.CodeOf(err))
	})
	from, to := start.Add(time.Minute), start.Add(2*time.Minute)
	metric, none := "cost_usd", "none"
	for name, test := range map[string]struct {
		filter models.WorkloadEventFilter
		count  int
	}{
		"type":                            {models.WorkloadEventFilter{EventType: []string{"start", "stop"}}, 1},
		"no type":                         {models.WorkloadEventFilter{EventType: []string{}}, 0},
		"category":                        {models.WorkloadEventFilter{EventCategory: []string{"llm"}}, 8},
		"metric":                          {models.WorkloadEventFilter{Metric: &metric}, 8},
		"a metric that nobody has":        {models.WorkloadEventFilter{Metric: &none}, 0},
		"dimension":                       {models.WorkloadEventFilter{Dimensions: models.JSON(`{"model": "m1"}`)}, 3},
		"an empty value of a dimension":   {models.WorkloadEventFilter{Dimensions: models.JSON(`{"region": ""}`)}, 1},
		"half open range":                 {models.WorkloadEventFilter{Timestamp: &models.TimeFilter{From: &from, To: &to}}, 2},
		"two dimensions that nobody has ": {models.WorkloadEventFilter{Dimensions: models.JSON(`{"model": "m1", "region": ""}`)}, 0},
	} {
		t.Run("can be filtered by "+name, func(t *testing.T) {
			t.Parallel()
			require.Len(t, walk(t, first(3), &test.filter, alice), test.count)
			question, err := analytics.NewEvents(page(t, first(1), models.LatestEvents), &test.filter)
			require.NoError(t, err)
			counts, err := a.CountEvents(everyone, []models.Subject{alice}, question)
			require.NoError(t, err)
			require.Equal(t, test.count, counts[alice])
		})
	}
}
