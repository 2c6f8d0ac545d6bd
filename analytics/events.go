package analytics

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

// eventsKept is how long ClickHouse keeps events. What is older is left out even while it is still there: when exactly it goes is chance.
const eventsKept = 90 * day

const (
	maxFilterValues = 100
	maxDimensions   = 20
)

// Events asks for one page of events for each subject, the latest first.
type Events struct {
	rows       int // one more than the page has, unless nobody asks whether the list goes on
	backward   bool
	from, to   time.Time
	where      string
	within     string // the page's cursors
	parameters clickhouse.Parameters
}

// NewEvents fails with BadUserInput.
func NewEvents(page models.Page, filter *models.WorkloadEventFilter) (Events, error) {
	q := Events{rows: page.Rows(), backward: page.Backward, to: time.Unix(1<<32, 0).UTC(), parameters: clickhouse.Parameters{}}
	if filter != nil {
		if err := q.filter(filter); err != nil {
			return Events{}, err
		}
	}
	for _, bound := range []struct {
		cursor         *models.Cursor
		name, operator string
	}{{page.After, "after", "<"}, {page.Before, "before", ">"}} {
		if bound.cursor == nil {
			continue
		}
		at, err := cursorTime(bound.cursor)
		if err != nil {
			return Events{}, err
		}
		q.parameters[bound.name+"_at"], q.parameters[bound.name+"_id"] = milliseconds(at), bound.cursor.ID
		timestamp := "fromUnixTimestamp64Milli({" + bound.name + "_at:Int64}, 'UTC')"
		// The first condition says nothing new, but the primary key understands it.
		q.within += " AND timestamp " + bound.operator + "= " + timestamp +
			" AND (timestamp, event_id) " + bound.operator + " (" + timestamp + ", {" + bound.name + "_id:UUID})"
	}
	return q, nil
}

func (q *Events) filter(filter *models.WorkloadEventFilter) error {
	for _, one := range []struct {
		name, column string
		values       []string
	}{{"eventType", "event_type", filter.EventType}, {"eventCategory", "event_category", filter.EventCategory}} {
		if one.values == nil {
			continue
		}
		if len(one.values) > maxFilterValues {
			return models.Errorf(models.BadUserInput, "filter: %s: at most %d values", one.name, maxFilterValues)
		}
		q.where += " AND " + one.column + " IN {" + one.column + ":Array(String)}"
		q.parameters[one.column] = texts(one.values)
	}
	if filter.Metric != nil {
		q.where += " AND hasAny(metrics.name, {metric:Array(String)})"
		q.parameters["metric"] = texts([]string{*filter.Metric})
	}
	if filter.Timestamp != nil {
		if filter.Timestamp.From != nil {
			q.from = filter.Timestamp.From.UTC()
		}
		if filter.Timestamp.To != nil && filter.Timestamp.To.Before(q.to) {
			q.to = filter.Timestamp.To.UTC()
		}
	}
	if len(filter.Dimensions) == 0 {
		return nil
	}
	var dimensions map[string]string
	if err := json.Unmarshal(filter.Dimensions, &dimensions); err != nil {
		return models.Errorf(models.BadUserInput, "filter: dimensions: an object whose values are strings")
	}
	if len(dimensions) > maxDimensions {
		return models.Errorf(models.BadUserInput, "filter: dimensions: at most %d", maxDimensions)
	}
	names := slices.Sorted(maps.Keys(dimensions))
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = dimensions[name]
	}
	q.where += " AND arrayAll((name, value) -> mapContains(dimensions, name) AND dimensions[name] = value," +
		" {dimension_names:Array(String)}, {dimension_values:Array(String)})"
	q.parameters["dimension_names"], q.parameters["dimension_values"] = texts(names), texts(values)
	return nil
}

// cursorTime reads what models.CursorTime wrote. It fails with BadUserInput.
func cursorTime(cursor *models.Cursor) (time.Time, error) {
	at, err := time.Parse(time.RFC3339Nano, cursor.Value)
	if err != nil || at.Year() < 1970 || at.Year() > 2105 {
		return time.Time{}, models.Errorf(models.BadUserInput, "malformed cursor: use a cursor as the API gave it")
	}
	return at, nil
}

// milliseconds is the first millisecond of ClickHouse's that is not before t.
func milliseconds(t time.Time) string {
	return strconv.FormatInt(t.Add(time.Millisecond-1).UnixMilli(), 10)
}

// condition is what every event of the list fulfils.
func (q Events) condition(in scope) (string, clickhouse.Parameters) {
	parameters := maps.Clone(q.parameters)
	from := q.from
	if kept := in.now.Add(-eventsKept); from.Before(kept) {
		from = kept
	}
	parameters["from"], parameters["to"] = milliseconds(from), milliseconds(q.to)
	return "timestamp >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND timestamp < fromUnixTimestamp64Milli({to:Int64}, 'UTC')" + q.where, parameters
}

const eventColumns = "user_id, event_id, timestamp, workload_id, event_type, event_category," +
	" metrics.name, metrics.value, metrics.unit, dimensions, metadata"

// SQL reads from the list's end for a single subject: ClickHouse stops as soon as the page is full. For many it would read all columns of all
// their events, so the pages' times are found first. That the last of them may be many events' does no harm: the page is cut afterwards.
func (q Events) SQL(in scope) (string, clickhouse.Parameters) {
	where, parameters := q.condition(in)
	where += q.within
	direction := " DESC"
	if q.backward {
		direction = ""
	}
	limit := strconv.Itoa(q.rows)
	position := "timestamp" + direction + ", event_id" + direction
	inTableOrder := " ORDER BY user_id" + direction + ", " + position
	switch {
	case in.kind == models.SubjectPlatform:
		where += " ORDER BY " + position + " LIMIT " + limit
	case in.single():
		where += inTableOrder + " LIMIT " + limit
	default:
		page := " LIMIT " + limit + " BY tenant, subject"
		inTableOrder = " ORDER BY user_id" + direction + ", timestamp" + direction
		where += " AND (user_id, timestamp) IN (SELECT user_id, timestamp FROM (" +
			in.from(workloadEvents, "user_id, timestamp", where+inTableOrder+page) + ")" + inTableOrder + page + ")"
	}
	return "SELECT tenant, subject, " + eventColumns + " FROM (" + in.from(workloadEvents, eventColumns, where) +
		") ORDER BY tenant, subject, " + position + " LIMIT " + limit + " BY tenant, subject", parameters
}

// Events answers for each subject with its events in the page's order, with one more where the list goes on. It fails with
// AnalyticsUnavailable or Timeout.
func (a *Analytics) Events(ctx context.Context, subjects []models.Subject, question Events) ([]*models.WorkloadEvent, error) {
	var events []*models.WorkloadEvent
	err := a.ask(ctx, question, subjects, func(row row) error {
		var user uint32
		var names, units []string
		var values []float64
		var dimensions map[string]string
		var metadata string
		event := new(models.WorkloadEvent)
		subject, err := row.read(&user, &event.EventID, &event.Timestamp, &event.WorkloadID, &event.EventType, &event.EventCategory,
			&names, &values, &units, &dimensions, &metadata)
		if err != nil {
			return err
		}
		event.Of, event.UserID = subject, int(user)
		event.Metrics = make([]*models.EventMetric, len(names))
		for i := range names {
			event.Metrics[i] = &models.EventMetric{Name: names[i], Value: values[i], Unit: units[i]}
		}
		if event.Dimensions, err = json.Marshal(dimensions); err != nil {
			return err
		}
		if event.Metadata, err = document(metadata); err != nil {
			return err
		}
		events = append(events, event)
		return nil
	})
	return events, err
}

// document is the text as JSON: what it is, or a string. Nothing is null.
func document(text string) (models.JSON, error) {
	switch {
	case text == "":
		return nil, nil
	case json.Valid([]byte(text)):
		return models.JSON(text), nil
	default:
		return json.Marshal(text)
	}
}

// eventCount asks for the length of the list.
type eventCount struct{ Events }

func (q eventCount) SQL(in scope) (string, clickhouse.Parameters) {
	where, parameters := q.condition(in)
	return "SELECT tenant, subject, count() FROM (" + in.from(workloadEvents, "timestamp", where) + ") GROUP BY tenant, subject", parameters
}

// CountEvents leaves out subjects without any. The question's page does not matter. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) CountEvents(ctx context.Context, subjects []models.Subject, question Events) (map[models.Subject]int, error) {
	return a.count(ctx, eventCount{question}, subjects)
}

// count reads one number for each subject that has any.
func (a *Analytics) count(ctx context.Context, q question, subjects []models.Subject) (map[models.Subject]int, error) {
	counts := make(map[models.Subject]int, len(subjects))
	err := a.ask(ctx, q, subjects, func(row row) error {
		var n uint64
		subject, err := row.read(&n)
		counts[subject] = int(n)
		return err
	})
	return counts, err
}

// single is whether all rows are one subject's.
func (s scope) single() bool {
	return s.kind == models.SubjectPlatform || s.kind == models.SubjectUser && len(s.users) == 1 || len(s.keys) == 1
}
