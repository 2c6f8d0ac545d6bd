package store

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

// TestStatements fixes the text of the hot statements: a change here is a change of plans, to be looked at with EXPLAIN.
func TestStatements(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("0d1f5a52-3c1f-4d0c-9f7e-0d5c3c8f1a11")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ctx := as(t, models.Viewer{UserID: 7})
	order := models.MessageOrder{}.Order()
	cursor := (&models.Message{DatabaseID: id, CreatedAt: at}).Cursor(order)

	for name, test := range map[string]struct {
		statement *statement
		text      string
		args      []any
	}{
		"the first page of each parent": {
			messagesOfThread.pages(ctx, []uuid.UUID{id}, models.Page{Limit: 20, Order: order}, Fields{"content"}, messageFilter(nil)),
			"SELECT messages.* FROM (SELECT unnest((SELECT $1::uuid[])::uuid[]) AS key, $2::int AS tenant) AS parent CROSS JOIN LATERAL (SELECT id, thread_id, role, created_at, content" +
				" FROM messages WHERE user_id = parent.tenant AND thread_id = parent.key ORDER BY created_at, id LIMIT 21) AS messages",
			[]any{[]uuid.UUID{id}, 7},
		},
		"a page of which nobody asks whether the list goes on": {
			messagesOfThread.pages(ctx, []uuid.UUID{id}, models.Page{Limit: 20, Order: order, Bare: true}, nil, messageFilter(nil)),
			"SELECT messages.* FROM (SELECT unnest((SELECT $1::uuid[])::uuid[]) AS key, $2::int AS tenant) AS parent CROSS JOIN LATERAL (SELECT id, thread_id, role, created_at" +
				" FROM messages WHERE user_id = parent.tenant AND thread_id = parent.key ORDER BY created_at, id LIMIT 20) AS messages",
			[]any{[]uuid.UUID{id}, 7},
		},
		"a page backwards, filtered, between cursors": {
			messagesOfThread.pages(ctx, []uuid.UUID{id}, models.Page{Limit: 5, Backward: true, Order: order, After: &cursor, Before: &cursor}, nil,
				messageFilter(&models.MessageFilter{Role: []models.MessageRole{models.RoleUser}, CreatedAt: &models.TimeFilter{From: &at}, Metadata: models.JSON(`{"a":1}`)})),
			"SELECT messages.* FROM (SELECT unnest((SELECT $1::uuid[])::uuid[]) AS key, $2::int AS tenant) AS parent CROSS JOIN LATERAL (SELECT id, thread_id, role, created_at" +
				" FROM messages WHERE user_id = parent.tenant AND thread_id = parent.key AND role = ANY($3::text[]) AND created_at >= $4::timestamptz AND metadata @> $5::jsonb" +
				" AND (created_at, id) > ($6::text::timestamptz, $7::text::uuid) AND (created_at, id) < ($8::text::timestamptz, $9::text::uuid)" +
				" ORDER BY created_at DESC, id DESC LIMIT 6) AS messages",
			[]any{[]uuid.UUID{id}, 7, []string{"user"}, at, `{"a":1}`, cursor.Value, cursor.ID, cursor.Value, cursor.ID},
		},
		"counts": {
			threadsOfUser.counts(ctx, []int{7}, threadFilter(&models.ThreadFilter{Status: []models.ThreadStatus{models.ThreadActive}})),
			"SELECT key, count FROM (SELECT unnest((SELECT $1::int[])::int[]) AS key) AS parent CROSS JOIN LATERAL (SELECT count(*) AS count FROM threads" +
				" WHERE user_id = parent.key AND status = ANY((SELECT $2::text[])::text[])) AS counted",
			[]any{[]int{7}, []string{"active"}},
		},
		"messages of anybody's threads": {
			messagesOfThread.counts(as(t, models.Viewer{UserID: 7, Superuser: true}), []uuid.UUID{id}, messageFilter(nil)),
			"SELECT key, count FROM (SELECT id AS key, user_id AS tenant FROM threads WHERE id = ANY((SELECT $1::uuid[])::uuid[])) AS parent" +
				" CROSS JOIN LATERAL (SELECT count(*) AS count FROM messages WHERE user_id = parent.tenant AND thread_id = parent.key) AS counted",
			[]any{[]uuid.UUID{id}},
		},
		"objects by id": {
			users.byID([]int{7}, "int", Fields{"email", "metadata", "metadata", "id; DROP TABLE users"}),
			"SELECT id, email, name, oauth_provider, oauth_id, picture, is_active, is_superuser, created_at, updated_at, last_login_at, metadata FROM users WHERE id = ANY((SELECT $1::int[])::int[])",
			[]any{[]int{7}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.text, test.statement.String())
			require.Equal(t, test.args, test.statement.args)
		})
	}
}

func TestStatements_ThatMayLookForFewRowsInALongListAreNotBounded(t *testing.T) {
	t.Parallel()
	ctx, page := t.Context(), models.Page{Limit: 2, Order: models.Order{Column: "created_at"}}
	for want, filters := range map[bool][]func(*statement){
		true: {
			threadFilter(nil), threadFilter(&models.ThreadFilter{Status: []models.ThreadStatus{models.ThreadActive, models.ThreadArchived}}), // the schema's default
		},
		false: {
			threadFilter(&models.ThreadFilter{Status: []models.ThreadStatus{models.ThreadDeleted}}),
			threadFilter(&models.ThreadFilter{Metadata: models.JSON(`{}`)}),
			threadFilter(&models.ThreadFilter{Status: []models.ThreadStatus{models.ThreadActive}, UpdatedAt: &models.TimeFilter{From: new(time.Time)}}),
			messageFilter(&models.MessageFilter{Model: []string{"none"}}),
			auditLogFilter(&models.AuditLogFilter{ResponseStatus: []int{500}}),
			supplyItemFilter(&models.SupplyItemFilter{Pricing: []models.JSONCondition{{Path: []string{"input"}, Operator: models.JSONGreater, Value: models.JSON(`5`)}}}),
		},
	} {
		for i, filter := range filters {
			require.Equal(t, want, threadsOfUser.pages(ctx, []int{1}, page, nil, filter).rows > 0, "%v: %d", want, i)
		}
	}
}
