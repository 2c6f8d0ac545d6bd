package analytics

import (
	"context"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

const day = 24 * time.Hour

// days are whole days in UTC, from the first to before the end.
type days struct{ first, end time.Time }

// daysOf are the days that a range touches.
func daysOf(span models.TimeRange) days {
	return days{span.From.UTC().Truncate(day), span.To.UTC().Add(day - 1).Truncate(day)}
}

func (d days) parameters() clickhouse.Parameters {
	return clickhouse.Parameters{"from": d.first.Format(time.DateOnly), "to": d.end.Format(time.DateOnly)}
}

const withinDays = "date >= {from:Date} AND date < {to:Date}"

// Activity asks what users did, by day and action.
type Activity struct{ days days }

// NewActivity asks about the days (UTC) that the range touches. It fails with BadUserInput.
func NewActivity(span models.TimeRange) (Activity, error) {
	if err := checkRange(span); err != nil {
		return Activity{}, err
	}
	return Activity{daysOf(span)}, nil
}

// SQL reads user_activity. Parts that have not merged yet hold several rows of one key.
func (q Activity) SQL(in scope) (string, clickhouse.Parameters) {
	return "SELECT tenant, subject, date, action, sum(count), sum(total_duration_ms) FROM (" +
		in.from(userActivity, "date, action, count, total_duration_ms", withinDays) +
		") GROUP BY tenant, subject, date, action ORDER BY tenant, date, action", q.days.parameters()
}

// Activity answers for users or the platform, by day and action; days without any are left out. It fails with AnalyticsUnavailable or Timeout.
func (a *Analytics) Activity(ctx context.Context, subjects []models.Subject, question Activity) (map[models.Subject][]*models.ActivityDay, error) {
	found := lists[*models.ActivityDay](subjects)
	err := a.ask(ctx, question, subjects, func(row row) error {
		var count, duration uint64
		did := new(models.ActivityDay)
		subject, err := row.read(&did.Date, &did.Action, &count, &duration)
		if err != nil {
			return err
		}
		did.Count, did.TotalDurationMs = int64(count), int64(duration)
		found[subject] = append(found[subject], did)
		return nil
	})
	return found, err
}

// ActiveUsers asks how many users did something, by day, week or month.
type ActiveUsers struct {
	days days // whole steps
	step models.TimeStep
}

// NewActiveUsers asks about the days, weeks (from Monday) or months (UTC) that the range touches, each of them whole. It fails with BadUserInput.
func NewActiveUsers(span models.TimeRange, step models.TimeStep) (ActiveUsers, error) {
	if err := checkRange(span); err != nil {
		return ActiveUsers{}, err
	}
	q := ActiveUsers{daysOf(span), step}
	switch step {
	case models.StepDay, models.StepWeek, models.StepMonth:
	default:
		return ActiveUsers{}, models.Errorf(models.BadUserInput, "step: active users are counted by DAY, WEEK or MONTH")
	}
	q.days.first = q.begin(q.days.first)
	q.days.end = q.next(q.begin(q.days.end.Add(-day)))
	return q, nil
}

// begin is the first day of the step that a day is in.
func (q ActiveUsers) begin(date time.Time) time.Time {
	switch q.step {
	case models.StepWeek:
		return date.AddDate(0, 0, -(int(date.Weekday())+6)%7)
	case models.StepMonth:
		return date.AddDate(0, 0, 1-date.Day())
	default:
		return date
	}
}

func (q ActiveUsers) next(begin time.Time) time.Time {
	switch q.step {
	case models.StepWeek:
		return begin.AddDate(0, 0, 7)
	case models.StepMonth:
		return begin.AddDate(0, 1, 0)
	default:
		return begin.AddDate(0, 0, 1)
	}
}

// SQL counts each user once a step.
func (q ActiveUsers) SQL(in scope) (string, clickhouse.Parameters) {
	begin := "date"
	switch q.step {
	case models.StepWeek:
		begin = "toMonday(date)"
	case models.StepMonth:
		begin = "toStartOfMonth(date)"
	}
	return "SELECT tenant, subject, " + begin + " AS begin, uniqExact(user_id) FROM (" +
		in.from(userActivity, "date, user_id", withinDays+" AND count > 0") +
		") GROUP BY tenant, subject, begin ORDER BY begin", q.days.parameters()
}

// ActiveUsers answers for the platform; steps without anybody are there. It fails with Forbidden, AnalyticsUnavailable or Timeout.
func (a *Analytics) ActiveUsers(ctx context.Context, question ActiveUsers) ([]*models.ActiveUsers, error) {
	var steps []*models.ActiveUsers
	at := map[int64]*models.ActiveUsers{}
	for date := question.days.first; date.Before(question.days.end); date = question.next(date) {
		step := &models.ActiveUsers{Date: date}
		steps, at[date.Unix()] = append(steps, step), step
	}
	err := a.ask(ctx, question, []models.Subject{{Kind: models.SubjectPlatform}}, func(row row) error {
		var begin time.Time
		var users uint64
		if _, err := row.read(&begin, &users); err != nil {
			return err
		}
		if step, known := at[begin.Unix()]; known { // the week of 1970-01-01 begins before ClickHouse's first date
			step.Count = int(users)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return steps, nil
}

// lists has an empty list for each subject, so that nobody's is missing.
func lists[V any](subjects []models.Subject) map[models.Subject][]V {
	found := make(map[models.Subject][]V, len(subjects))
	for _, subject := range subjects {
		found[subject] = []V{}
	}
	return found
}
