package analytics

import (
	"context"
	"strconv"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

// recentWorkloads is a view of events: what was reported within seven days.
var recentWorkloads = table{name: "recent_workloads", thread: "''"}

// recentColumns selects the scope's recent workloads, perhaps in several rows each. The view does not know threads, events do.
func recentColumns(in scope) string {
	if in.kind == models.SubjectThread {
		return in.from(workloadEvents, "user_id, workload_id, timestamp AS seen", "timestamp > now() - INTERVAL 7 DAY")
	}
	return in.from(recentWorkloads, "user_id, workload_id, last_seen AS seen", "1")
}

// recentPage asks for one page of recent workloads for each subject.
type recentPage struct {
	models.Page
}

func (q recentPage) SQL(in scope) (string, clickhouse.Parameters) {
	parameters := clickhouse.Parameters{}
	having := "1"
	for _, bound := range []struct {
		cursor         *models.Cursor
		name, operator string
	}{{q.After, "after", "<"}, {q.Before, "before", ">"}} {
		if bound.cursor == nil {
			continue
		}
		at, _ := cursorTime(bound.cursor) // RecentWorkloads has checked the cursors
		user, workload, _ := models.ParseWorkloadKey(bound.cursor.ID)
		parameters[bound.name+"_at"], parameters[bound.name+"_user"] = milliseconds(at), strconv.Itoa(user)
		parameters[bound.name+"_workload"] = texts([]string{workload})
		having += " AND (last_seen, user_id, workload_id) " + bound.operator + " (fromUnixTimestamp64Milli({" + bound.name + "_at:Int64}, 'UTC'), {" +
			bound.name + "_user:UInt32}, {" + bound.name + "_workload:Array(String)}[1])"
	}
	direction := " DESC"
	if q.Backward {
		direction = ""
	}
	return "SELECT tenant, subject, user_id, workload_id, max(seen) AS last_seen FROM (" + recentColumns(in) +
		") GROUP BY tenant, subject, user_id, workload_id HAVING " + having +
		" ORDER BY tenant, subject, last_seen" + direction + ", user_id" + direction + ", workload_id" + direction +
		" LIMIT " + strconv.Itoa(q.Limit+1) + " BY tenant, subject", parameters
}

// RecentWorkloads are each subject's workloads of the last seven days in the page's order, with one more where the list goes on.
// It fails with BadUserInput, AnalyticsUnavailable or Timeout.
func (a *Analytics) RecentWorkloads(ctx context.Context, subjects []models.Subject, page models.Page) ([]*models.Workload, error) {
	for _, cursor := range []*models.Cursor{page.After, page.Before} {
		if cursor == nil {
			continue
		}
		if _, err := cursorTime(cursor); err != nil {
			return nil, err
		}
		if _, _, err := models.ParseWorkloadKey(cursor.ID); err != nil {
			return nil, err
		}
	}
	var workloads []*models.Workload
	err := a.ask(ctx, recentPage{page}, subjects, func(row row) error {
		var user uint32
		workload := new(models.Workload)
		subject, err := row.read(&user, &workload.WorkloadID, &workload.LastSeen)
		if err != nil {
			return err
		}
		workload.UserID, workload.Of = int(user), subject
		workloads = append(workloads, workload)
		return nil
	})
	return workloads, err
}

// recentCount asks how many workloads are recent.
type recentCount struct{}

func (recentCount) SQL(in scope) (string, clickhouse.Parameters) {
	return "SELECT tenant, subject, uniqExact(user_id, workload_id) FROM (" + recentColumns(in) + ") GROUP BY tenant, subject", clickhouse.Parameters{}
}

// CountRecentWorkloads leaves out subjects without any. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) CountRecentWorkloads(ctx context.Context, subjects []models.Subject) (map[models.Subject]int, error) {
	return a.count(ctx, recentCount{}, subjects)
}

// recency asks what the view says about workloads.
type recency struct{}

func (recency) SQL(in scope) (string, clickhouse.Parameters) {
	return in.from(recentWorkloads, "last_seen, event_count, unique_event_types", "1"), clickhouse.Parameters{}
}

// Recency is what is known of those of workloads that were active within seven days. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) Recency(ctx context.Context, workloads []models.Subject) (map[models.Subject]*models.WorkloadRecency, error) {
	found := make(map[models.Subject]*models.WorkloadRecency, len(workloads))
	err := a.ask(ctx, recency{}, workloads, func(row row) error {
		var count, types uint64
		recency := new(models.WorkloadRecency)
		workload, err := row.read(&recency.LastSeen, &count, &types)
		recency.EventCount, recency.UniqueEventTypes = int64(count), int(types)
		found[workload] = recency
		return err
	})
	return found, err
}

// existing asks which workloads there are: some report no metrics, of some only the aggregates are left.
type existing struct{}

func (existing) SQL(in scope) (string, clickhouse.Parameters) {
	return "SELECT DISTINCT tenant, subject FROM (" + in.from(aggregatedMetrics, "hour", "1") + " UNION ALL " +
			in.from(workloadEvents, "toDateTime(timestamp) AS hour", "timestamp >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')") + ")",
		clickhouse.Parameters{"from": milliseconds(in.now.Add(-eventsKept))}
}

// Workloads are those of subjects that exist, in any order. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) Workloads(ctx context.Context, subjects []models.Subject) ([]*models.Workload, error) {
	var workloads []*models.Workload
	err := a.ask(ctx, existing{}, subjects, func(row row) error {
		subject, err := row.read()
		workloads = append(workloads, &models.Workload{UserID: subject.UserID, WorkloadID: subject.ID, Of: subject})
		return err
	})
	return workloads, err
}
