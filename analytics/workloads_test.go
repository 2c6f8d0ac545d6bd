package analytics_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

func workload(user int, id string) models.Subject {
	return models.Subject{Kind: models.SubjectWorkload, UserID: user, ID: id}
}

func TestRecentWorkloads(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t)
	thread, run := uuid.New(), uuid.New()
	start := recent()
	report(t, db,
		event{start, 1, "tied'1", "start", 0, nil}, event{start, 1, "tied2", "start", 0, nil},
		event{start.Add(time.Minute), 1, "later", "start", 0, nil}, event{start.Add(-time.Minute), 1, "later", "metric", 1, nil},
		event{start.Add(-time.Hour), 1, "earlier", "start", 0, nil}, event{start.Add(-6 * day), 1, "old", "start", 0, nil},
		event{start.Add(time.Second), 2, "tied2", "start", 0, nil},
		event{start.Add(time.Minute), 3, run.String(), "start", 0, nil},
		event{start.Add(2 * time.Minute), 3, "elsewhere", "start", 0, map[string]string{"thread_id": thread.String()}},
		event{start.Add(3 * time.Minute), 3, "elsewhere", "start", 0, nil}, event{start, 3, "other", "start", 0, nil},
	)
	a, err := analytics.Open(analytics.Config{URL: db.ClickHouseURL, RunsOfThreads: func(context.Context, []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
		return map[uuid.UUID]uuid.UUID{run: thread}, nil
	}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	everyone := models.WithViewer(t.Context(), models.System)
	of := models.Subject{Kind: models.SubjectThread, UserID: 3, ID: thread.String()}
	ids := func(workloads []*models.Workload) (ids []string) {
		for _, workload := range workloads {
			ids = append(ids, workload.WorkloadID)
		}
		return ids
	}

	t.Run("come page by page, the latest first, in both directions", func(t *testing.T) {
		t.Parallel()
		want := []string{"later", "tied2", "tied'1", "earlier"}
		for _, n := range []int{1, 2, 3, 4} {
			var found []string
			arguments := models.PageArguments{First: &n}
			for more := true; more; {
				workloads, err := a.RecentWorkloads(everyone, []models.Subject{alice}, page(t, arguments, models.RecentWorkloads))
				require.NoError(t, err)
				more = len(workloads) > n
				workloads = workloads[:min(n, len(workloads))]
				cursor := workloads[len(workloads)-1].Cursor(models.RecentWorkloads).String()
				arguments.After = &cursor
				found = append(found, ids(workloads)...)
			}
			require.Equal(t, want, found)
		}
		one := 1
		workloads, err := a.RecentWorkloads(everyone, []models.Subject{alice}, page(t, models.PageArguments{Last: &one}, models.RecentWorkloads))
		require.NoError(t, err)
		require.Equal(t, []string{"earlier", "tied'1"}, ids(workloads), "reversed, with one more")
		cursor := workloads[1].Cursor(models.RecentWorkloads).String()
		workloads, err = a.RecentWorkloads(everyone, []models.Subject{alice}, page(t, models.PageArguments{Before: &cursor}, models.RecentWorkloads))
		require.NoError(t, err)
		require.Equal(t, []string{"tied2", "later"}, ids(workloads))
	})
	t.Run("of many subjects come in one question, and are counted in one", func(t *testing.T) {
		t.Parallel()
		one := 1
		tally := new(models.Tally)
		ctx := models.WithTally(everyone, tally)
		workloads, err := a.RecentWorkloads(ctx, []models.Subject{alice, bob}, page(t, models.PageArguments{First: &one}, models.RecentWorkloads))
		require.NoError(t, err)
		require.Equal(t, []string{"later", "tied2", "tied2"}, ids(workloads))
		require.Equal(t, bob, workloads[2].Of)
		require.True(t, start.Add(time.Second).Equal(workloads[2].LastSeen))
		counts, err := a.CountRecentWorkloads(ctx, []models.Subject{alice, bob, {Kind: models.SubjectUser, UserID: 99}})
		require.NoError(t, err)
		require.Equal(t, map[models.Subject]int{alice: 4, bob: 1}, counts)
		require.EqualValues(t, 2, tally.Questions.Load())
	})
	t.Run("of the platform keep tenants apart", func(t *testing.T) {
		t.Parallel()
		counts, err := a.CountRecentWorkloads(everyone, []models.Subject{platform})
		require.NoError(t, err)
		require.Equal(t, map[models.Subject]int{platform: 8}, counts)
	})
	t.Run("of a thread are its runs and what names it", func(t *testing.T) {
		t.Parallel()
		workloads, err := a.RecentWorkloads(everyone, []models.Subject{of}, page(t, models.PageArguments{}, models.RecentWorkloads))
		require.NoError(t, err)
		require.Equal(t, []string{"elsewhere", run.String()}, ids(workloads))
		require.True(t, start.Add(2*time.Minute).Equal(workloads[0].LastSeen), "what else the workload did is not the thread's")
	})
	t.Run("are never another tenant's", func(t *testing.T) {
		t.Parallel()
		workloads, err := a.RecentWorkloads(models.WithViewer(t.Context(), models.Viewer{UserID: 2}), []models.Subject{alice, bob}, page(t, models.PageArguments{}, models.RecentWorkloads))
		require.NoError(t, err)
		require.Equal(t, []string{"tied2"}, ids(workloads))
	})
	t.Run("say how recent they are", func(t *testing.T) {
		t.Parallel()
		found, err := a.Recency(everyone, []models.Subject{workload(1, "later"), workload(1, "old"), workload(2, "tied2"), workload(2, "later")})
		require.NoError(t, err)
		require.Len(t, found, 2)
		later := found[workload(1, "later")]
		require.True(t, start.Add(time.Minute).Equal(later.LastSeen))
		require.EqualValues(t, 2, later.EventCount)
		require.Equal(t, 2, later.UniqueEventTypes)
	})
	t.Run("refuse a cursor of no time", func(t *testing.T) {
		t.Parallel()
		cursor := models.Cursor{Column: "last_seen", Value: "9999-01-01T00:00:00.000000Z", ID: "1:w"}.String()
		_, err := a.RecentWorkloads(everyone, []models.Subject{alice}, page(t, models.PageArguments{After: &cursor}, models.RecentWorkloads))
		require.Equal(t, models.BadUserInput, models.CodeOf(err))
	})
}

func TestWorkloads(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t)
	report(t, db, event{recent(), 1, "quiet", "start", 0, nil}, event{recent(), 1, "w", "metric", 1, nil}, event{recent(), 2, "other", "metric", 1, nil})
	_, err := db.ClickHouse(t).ExecContext(t.Context(), "INSERT INTO aggregated_metrics (hour, user_id, workload_id, metric_name, event_count) VALUES (now() - INTERVAL 100 DAY, 1, 'aggregates only', 'm', 1)")
	require.NoError(t, err)
	a := open(t, db.ClickHouseURL)
	subjects := []models.Subject{workload(1, "quiet"), workload(1, "w"), workload(1, "aggregates only"), workload(1, "other"), workload(2, "other"), workload(1, "none")}
	for name, test := range map[string]struct {
		viewer models.Viewer
		want   []models.Subject
	}{
		"exist when events or aggregates do": {models.Viewer{UserID: 9, Superuser: true}, []models.Subject{workload(1, "quiet"), workload(1, "w"), workload(1, "aggregates only"), workload(2, "other")}},
		"exist for their tenant only":        {models.Viewer{UserID: 2}, []models.Subject{workload(2, "other")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := a.Workloads(models.WithViewer(t.Context(), test.viewer), subjects)
			require.NoError(t, err)
			var got []models.Subject
			for _, workload := range found {
				got = append(got, workload.Subject())
			}
			require.ElementsMatch(t, test.want, got)
		})
	}
}
