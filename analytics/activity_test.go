package analytics_test

import (
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

var (
	alice    = models.Subject{Kind: models.SubjectUser, UserID: 1}
	bob      = models.Subject{Kind: models.SubjectUser, UserID: 2}
	platform = models.Subject{Kind: models.SubjectPlatform}
)

func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

func TestActivitySQL(t *testing.T) {
	t.Parallel()
	a := open(t, "http://127.0.0.1:1/netra_analytics")
	ctx := models.WithViewer(t.Context(), models.System)
	span := models.TimeRange{From: noon, To: noon.Add(day)}
	activity, err := analytics.NewActivity(span)
	require.NoError(t, err)
	text, parameters, err := a.SQL(ctx, activity, alice, bob)
	require.NoError(t, err)
	require.Equal(t, "SELECT tenant, subject, date, action, sum(count), sum(total_duration_ms)"+
		" FROM (SELECT user_id AS tenant, '' AS subject, date, action, count, total_duration_ms FROM user_activity"+
		" WHERE user_id IN {users:Array(UInt32)} AND date >= {from:Date} AND date < {to:Date})"+
		" GROUP BY tenant, subject, date, action ORDER BY tenant, date, action", text)
	require.Equal(t, clickhouse.Parameters{"from": "2026-11-20", "to": "2026-11-22"}, parameters)

	for step, want := range map[models.TimeStep][3]string{
		models.StepDay:   {"date", "2026-11-20", "2026-11-22"},
		models.StepWeek:  {"toMonday(date)", "2026-11-16", "2026-11-23"},
		models.StepMonth: {"toStartOfMonth(date)", "2026-11-01", "2026-12-01"},
	} {
		users, err := analytics.NewActiveUsers(span, step)
		require.NoError(t, err)
		text, parameters, err = a.SQL(ctx, users, platform)
		require.NoError(t, err)
		require.Equal(t, "SELECT tenant, subject, "+want[0]+" AS begin, uniqExact(user_id)"+
			" FROM (SELECT toUInt32(0) AS tenant, '' AS subject, date, user_id FROM user_activity"+
			" WHERE 1 AND date >= {from:Date} AND date < {to:Date} AND count > 0) GROUP BY tenant, subject, begin ORDER BY begin", text)
		require.Equal(t, clickhouse.Parameters{"from": want[1], "to": want[2]}, parameters)
	}
}

func TestNewActiveUsersRefuses(t *testing.T) {
	t.Parallel()
	for _, step := range []models.TimeStep{models.StepHour, models.StepFifteenMinutes, ""} {
		_, err := analytics.NewActiveUsers(models.TimeRange{From: noon, To: noon.Add(day)}, step)
		require.Equal(t, models.BadUserInput, models.CodeOf(err))
	}
	_, err := analytics.NewActiveUsers(models.TimeRange{From: noon, To: noon}, models.StepDay)
	require.Equal(t, models.BadUserInput, models.CodeOf(err))
	_, err = analytics.NewActivity(models.TimeRange{From: noon, To: noon})
	require.Equal(t, models.BadUserInput, models.CodeOf(err))
}

const day = 24 * time.Hour

func TestActivity(t *testing.T) {
	t.Parallel()
	db := testdb.NewClickHouse(t)
	_, err := db.ClickHouse(t).ExecContext(t.Context(), "ALTER TABLE user_activity REMOVE TTL") // weeks and months are of these days
	require.NoError(t, err)
	for _, row := range []string{"('2026-11-20', 1, 'login', 1, 10)", "('2026-11-20', 1, 'login', 2, 30)", "('2026-11-20', 2, 'login', 5, 0)",
		"('2026-11-22', 1, 'query', 1, 7)", "('2026-11-23', 3, 'query', 1, 7)"} {
		_, err := db.ClickHouse(t).ExecContext(t.Context(), "INSERT INTO user_activity (date, user_id, action, count, total_duration_ms) VALUES "+row)
		require.NoError(t, err)
	}
	a := open(t, db.ClickHouseURL)
	all, err := analytics.NewActivity(models.TimeRange{From: date(2026, 11, 20).Add(time.Hour), To: date(2026, 11, 22).Add(time.Millisecond)})
	require.NoError(t, err)

	t.Run("is added up by day and action, for the days that the range touches", func(t *testing.T) {
		t.Parallel()
		found, err := a.Activity(models.WithViewer(t.Context(), models.Viewer{UserID: 1}), []models.Subject{alice, bob}, all)
		require.NoError(t, err)
		require.Equal(t, map[models.Subject][]*models.ActivityDay{
			alice: {{Date: date(2026, 11, 20), Action: "login", Count: 3, TotalDurationMs: 40}, {Date: date(2026, 11, 22), Action: "query", Count: 1, TotalDurationMs: 7}},
			bob:   {},
		}, found, "bob's is not for alice to see")
	})
	t.Run("of the platform is everybody's", func(t *testing.T) {
		t.Parallel()
		found, err := a.Activity(models.WithViewer(t.Context(), models.Viewer{UserID: 9, Superuser: true}), []models.Subject{platform}, all)
		require.NoError(t, err)
		require.EqualValues(t, 8, found[platform][0].Count)
	})
	t.Run("of the platform is for superusers", func(t *testing.T) {
		t.Parallel()
		ctx := models.WithViewer(t.Context(), models.Viewer{UserID: 1})
		_, err := a.Activity(ctx, []models.Subject{platform}, all)
		require.Equal(t, models.Forbidden, models.CodeOf(err))
		users, err := analytics.NewActiveUsers(models.TimeRange{From: noon, To: noon.Add(day)}, models.StepDay)
		require.NoError(t, err)
		_, err = a.ActiveUsers(ctx, users)
		require.Equal(t, models.Forbidden, models.CodeOf(err))
	})
	for step, want := range map[models.TimeStep][]*models.ActiveUsers{
		models.StepDay:   {{Date: date(2026, 11, 20), Count: 2}, {Date: date(2026, 11, 21)}, {Date: date(2026, 11, 22), Count: 1}, {Date: date(2026, 11, 23), Count: 1}},
		models.StepWeek:  {{Date: date(2026, 11, 16), Count: 2}, {Date: date(2026, 11, 23), Count: 1}},
		models.StepMonth: {{Date: date(2026, 11, 1), Count: 3}},
	} {
		t.Run("counts users once a "+string(step)+", steps without anybody included", func(t *testing.T) {
			t.Parallel()
			question, err := analytics.NewActiveUsers(models.TimeRange{From: date(2026, 11, 20), To: date(2026, 11, 24)}, step)
			require.NoError(t, err)
			found, err := a.ActiveUsers(models.WithViewer(t.Context(), models.System), question)
			require.NoError(t, err)
			require.Equal(t, want, found)
		})
	}
}
