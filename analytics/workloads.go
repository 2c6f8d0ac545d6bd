package analytics

import (
	"context"
	"fmt"
	"strconv"
	"strings"

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
		" LIMIT " + strconv.Itoa(q.Rows()) + " BY tenant, subject", parameters
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

// TopWorkloads asks which workloads have the most of a metric.
type TopWorkloads struct {
	values
	first int
}

// Group is the range: those of several metrics over one range are put together.
func (q TopWorkloads) Group() string { return fmt.Sprint(q.borders) }

// NewTopWorkloads asks for the first workloads, 10 unless told. Without a unit it is about the one that most of a subject's values are in.
// It fails with BadUserInput.
func NewTopWorkloads(metric string, unit *string, span models.TimeRange, first *int) (TopWorkloads, error) {
	values, err := oneMetric(metric, unit, span)
	if err != nil {
		return TopWorkloads{}, err
	}
	q := TopWorkloads{values, defaultTop}
	if first != nil {
		q.first = *first
	}
	if q.first < 1 || q.first > maxTop {
		return TopWorkloads{}, models.Errorf(models.BadUserInput, "first: between 1 and %d", maxTop)
	}
	return q, nil
}

// ranking puts questions about top workloads over one range together.
type ranking struct {
	values values
	first  int
}

// SQL adds up the metrics by workload, whole hours from aggregated_metrics and the ends from events.
func (q ranking) SQL(in scope) (string, clickhouse.Parameters) {
	times := times{q.values.parameters(nil, "")}
	var parts []string
	for _, part := range cover(settle(q.values.borders, summedByWorkload, in.now), summedByWorkload) {
		if part.grain.size > 0 {
			parts = append(parts, in.from(part.grain.table, "user_id, workload_id, metric_name, unit, event_count, total_value",
				times.within(part)+q.values.chosen("")))
		} else {
			parts = append(parts, in.from(part.grain.table, "user_id, workload_id, metric_name, unit, toUInt64(1) AS event_count, value AS total_value",
				isMetric+" AND "+times.within(part)+q.values.chosen("")))
		}
	}
	return "SELECT tenant, subject, metric_name, unit, sum(count) OVER (PARTITION BY tenant, subject, metric_name, unit), user_id, workload_id FROM (" +
		"SELECT tenant, subject, metric_name, unit, user_id, workload_id, sum(event_count) AS count, sum(total_value) AS total" +
		" FROM (" + strings.Join(parts, " UNION ALL ") + ") GROUP BY tenant, subject, metric_name, unit, user_id, workload_id" +
		") ORDER BY tenant, subject, metric_name, unit, total DESC, user_id, workload_id LIMIT " + strconv.Itoa(q.first) + " BY tenant, subject, metric_name, unit", times.parameters
}

// TopWorkloads answers questions, of one Group, together: for each subject and question with the workloads, the largest total first. It fails
// with AnalyticsUnavailable, Timeout or TooComplex.
func (a *Analytics) TopWorkloads(ctx context.Context, subjects []models.Subject, questions []TopWorkloads) (map[models.Subject][][]models.Workload, error) {
	found := answers[[]models.Workload](subjects, len(questions))
	ranked := answers[units[[]models.Workload]](subjects, len(questions))
	most := 0
	for _, question := range questions {
		most = max(most, question.first)
	}
	err := a.ask(ctx, ranking{joined(questions), most}, subjects, func(row row) error {
		var metric, unit, id string
		var count uint64
		var user uint32
		subject, err := row.read(&metric, &unit, &count, &user, &id)
		if err != nil {
			return err
		}
		for i, question := range questions {
			if question.has(metric, unit) {
				of := ranked[subject][i].of(unit, 0)
				of.count = count
				of.data = append(of.data, models.Workload{UserID: int(user), WorkloadID: id, Of: subject})
			}
		}
		return nil
	})
	for subject, list := range ranked {
		for i, units := range list {
			found[subject][i] = []models.Workload{}
			if len(units) > 0 {
				workloads := units.largest().data
				found[subject][i] = workloads[:min(len(workloads), questions[i].first)]
			}
		}
	}
	return found, err
}
