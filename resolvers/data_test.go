package resolvers_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/netra-ai/netra/internal/testdb"
	"github.com/netra-ai/netra/models"
)

// size is how much of everything a data set has. A row has the same id in every size that reaches it.
type size struct{ users, threads, messages, runs, events, others int }

var (
	small = size{users: 4, threads: 4, messages: 6, runs: 3, events: 5, others: 6}
	large = size{users: 12, threads: 14, messages: 20, runs: 9, events: 50, others: 40} // more than ten times of each kind but users
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Users 1 and 2 are ordinary tenants, user 3 is a superuser. Every text of a user has their mark in it.
const (
	tenantA   = 1
	tenantB   = 2
	superuser = 3
)

func key(parts ...any) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(fmt.Sprint(parts...)))
}

func text(s string) *string { return &s }

func pick[T any](list []T, n int) T { return list[n%len(list)] }

// metricEvent is a row of workload_events with one metric.
type metricEvent struct {
	user       int
	workload   string
	at         time.Time
	kind       string
	metric     string
	unit       string
	value      float64
	dimensions map[string]string
}

// dataset is everything that is in the databases.
type dataset struct {
	users    []*models.User
	threads  []*models.Thread
	messages []*models.Message
	runs     []*models.Run
	events   []metricEvent

	transitions []*transition // which the database writes by itself

	references  []*models.Reference
	supplyItems []*models.SupplyItem
	apiKeys     []*models.APIKey
	auditLogs   []*models.AuditLog
}

// transition is a row of run_events.
type transition struct {
	models.RunTransition
	thread *uuid.UUID
	user   int
}

func tag(n int) models.JSON {
	return models.JSON(fmt.Sprintf(`{"n": %d, "tag": %q}`, n, pick([]string{"red", "blue", "green"}, n)))
}

// at gives neighbours the same time, so that pages must break ties by id.
func at(n int) time.Time { return epoch.Add(time.Duration(n/2) * 1234567 * time.Microsecond) }

func generate(s size) dataset {
	var d dataset
	for u := 1; u <= s.users; u++ {
		mark := mark(u)
		d.users = append(d.users, &models.User{DatabaseID: u, Email: fmt.Sprintf("%suser@example.com", mark), Name: text(mark + "name"),
			IsActive: u%5 != 0, IsSuperuser: u == superuser, CreatedAt: at(u), UpdatedAt: at(u), Metadata: tag(u)})
		for t := range s.threads {
			thread := &models.Thread{DatabaseID: key("thread", u, t), UserID: u, Title: text(fmt.Sprintf("%stitle %d", mark, t)),
				Status:    pick([]models.ThreadStatus{models.ThreadActive, models.ThreadArchived, models.ThreadActive, models.ThreadDeleted}, t),
				CreatedAt: at(t), UpdatedAt: at(t * 7 % 16), Metadata: tag(t), Version: t + 1}
			d.threads = append(d.threads, thread)
			for m := range s.messages {
				message := &models.Message{DatabaseID: key("message", u, t, m), ThreadID: thread.DatabaseID,
					Role:    pick([]models.MessageRole{models.RoleSystem, models.RoleUser, models.RoleAssistant, models.RoleTool}, m),
					Content: fmt.Sprintf("%scontent %d", mark, m), CreatedAt: at(m), Metadata: tag(m)}
				if message.Role == models.RoleAssistant {
					message.Model, message.TokensUsed = text(pick([]string{"large", "small"}, m/4)), &[]int{m * 10}[0]
				}
				d.messages = append(d.messages, message)
			}
			for r := range s.runs {
				run := &models.Run{DatabaseID: key("run", u, t, r), UserID: u, ThreadID: &thread.DatabaseID,
					Status:    pick([]models.RunStatus{models.RunPending, models.RunProcessing, models.RunCompleted, models.RunFailed, models.RunCancelled}, t+r),
					AgentType: text(pick([]string{"triage", "data", "report"}, r)), CreatedAt: at(t*s.runs + r), InputData: tag(r), Metadata: tag(r)}
				if r%3 == 2 {
					run.ThreadID = nil
				}
				if run.Status == models.RunFailed {
					run.ErrorMessage = text(mark + "failed")
				}
				if run.Status == models.RunCompleted {
					run.OutputData, run.StartedAt = models.JSON(`{"ok": true}`), &run.CreatedAt
				}
				d.runs = append(d.runs, run)
			}
		}
		for e := range s.events {
			metric := pick([]string{"latency_ms", "tokens_output", "cost_usd", "latency_ms"}, e)
			event := metricEvent{user: u, workload: fmt.Sprintf("%sworkload %d", mark, e%2), at: time.Now().UTC().Truncate(time.Hour).Add(-time.Duration(e) * 20 * time.Minute),
				kind: pick([]string{"metric", "metric", "start"}, e), metric: metric, unit: map[string]string{"latency_ms": "ms", "tokens_output": "", "cost_usd": "usd"}[metric],
				value: float64(u*100 + e), dimensions: map[string]string{"model": mark + pick([]string{"large", "small"}, e), "region": mark + "north"}}
			switch t := e % s.threads; e % 4 {
			case 1: // of a run
				event.workload = key("run", u, t, e%s.runs).String()
			case 2: // of a thread, and perhaps of a run of it or of another thread
				event.dimensions["thread_id"] = key("thread", u, t).String()
				event.workload = key("run", u, (t+e/4)%s.threads, 0).String()
			case 3: // says that it belongs to another tenant's run
				event.workload = key("run", u%s.users+1, t, 0).String()
			}
			d.events = append(d.events, event)
		}
		d.addOthers(u, s.others)
	}
	for n := range s.others {
		d.supplyItems = append(d.supplyItems, supplyItem(n, nil, "system."))
		d.auditLogs = append(d.auditLogs, &models.AuditLog{DatabaseID: int64(n)<<32 + 1, Action: "login.failed", CreatedAt: at(n), Metadata: tag(n)})
	}
	return d
}

// addOthers adds n of each of the user's other belongings.
func (d *dataset) addOthers(user, n int) {
	mark := mark(user)
	for n := range n {
		reference := &models.Reference{DatabaseID: key("reference", user, n), UserID: user, Name: fmt.Sprintf("%sreference %02d", mark, n/2),
			Type: pick([]models.ReferenceType{models.ReferenceDocument, models.ReferenceDataset, models.ReferenceOther}, n), MimeType: text(pick([]string{"text/plain", "text/csv"}, n)),
			CreatedAt: at(n), UpdatedAt: at(n * 7 % 16), Metadata: tag(n), Version: n + 1}
		if n%3 > 0 {
			reference.Content, reference.FileSize = text(fmt.Sprintf("%stext %d", mark, n)), &[]int64{int64(n) << 33}[0]
			reference.Embedding = make([]float64, models.EmbeddingDimensions)
			reference.Embedding[n], reference.Embedding[user] = 0.1, -1e-5
		}
		d.references = append(d.references, reference)
		d.supplyItems = append(d.supplyItems, supplyItem(n, &user, mark))
		apiKey := &models.APIKey{DatabaseID: key("api key", user, n), UserID: user, Name: fmt.Sprintf("%skey %02d", mark, n/2), IsActive: n%3 != 0, CreatedAt: at(n), Metadata: tag(n),
			Permissions: models.Permissions()[n%5:]}
		if n%2 == 0 {
			apiKey.ExpiresAt, apiKey.LastUsedAt = &apiKey.CreatedAt, &apiKey.CreatedAt
		}
		d.apiKeys = append(d.apiKeys, apiKey)
		d.auditLogs = append(d.auditLogs, &models.AuditLog{DatabaseID: int64(n)<<32 + int64(user) + 1, UserID: &user, Action: pick([]string{"thread.create", "run.start"}, n),
			ResourceType: text(pick([]string{"thread", "run"}, n)), ResourceID: text(key("thread", user, n).String()), IPAddress: &[]models.Inet{"192.0.2.7", "2001:db8::/32", "10.1.0.0/16"}[n%3],
			UserAgent: text(mark + "browser"), RequestID: text(mark + "request"), ResponseStatus: &[]int{200, 404}[n%2], CreatedAt: at(n), Metadata: tag(n)})
	}
}

// supplyItem has documents in which the same paths hold numbers, texts, lists, null or nothing.
func supplyItem(n int, user *int, mark string) *models.SupplyItem {
	item := &models.SupplyItem{DatabaseID: key("supply item", mark, n), UserID: user, Name: fmt.Sprintf("%sitem %02d", mark, n/2), IsActive: n%4 != 0,
		Category: pick([]string{"compute", "storage"}, n), CreatedAt: at(n), UpdatedAt: at(n), Metadata: tag(n), Version: n + 1,
		Specifications: models.JSON(pick([]string{`{"gpu": {"memory": 80, "tags": ["fast", "hot"]}}`, `{"gpu": {"memory": 9.50, "tags": []}}`, `{"gpu": {"memory": "80"}}`,
			`{"gpu": null}`, `{"gpu": {"memory": 100, "tags": "fast"}}`, `{}`}, n))}
	if n%2 == 0 {
		item.Provider, item.Pricing = text("cloud"), models.JSON(fmt.Sprintf(`{"hour": %d.10}`, n%3))
	}
	if n%3 == 0 {
		item.PerformanceMetrics, item.Availability = models.JSON(`{"gpu": {"memory": [80, {"a": 1}]}}`), models.JSON(`[1, 2]`)
	}
	return item
}

// load writes the data set into a new pair of databases and reads it back as the databases have it.
func load(t *testing.T, s size) (*testdb.DB, dataset) {
	t.Helper()
	db := testdb.New(t)
	d := generate(s)
	owner := bun.NewDB(db.Owner(t), pgdialect.New())
	require.NoError(t, owner.RunInTx(t.Context(), nil, func(ctx context.Context, tx bun.Tx) error {
		keys := make([]storedKey, len(d.apiKeys))
		for i, k := range d.apiKeys {
			keys[i] = storedKey{APIKey: *k, KeyHash: "secret " + k.DatabaseID.String()}
		}
		for _, rows := range []any{&d.users, &d.threads, &d.messages, &d.runs, &d.references, &d.supplyItems, &keys, &d.auditLogs} {
			if _, err := tx.NewInsert().Model(rows).Exec(ctx); err != nil {
				return fmt.Errorf("insert %T: %w", rows, err)
			}
		}
		return nil
	}))
	// Some runs have a history, and of their thread's messages some were said at the same instants.
	for _, statement := range []string{
		`UPDATE runs SET status = 'processing' WHERE agent_type = 'data'`,
		`UPDATE runs SET status = 'cancelled' WHERE agent_type = 'data'`,
		`UPDATE run_events e SET at = r.created_at FROM runs r WHERE r.id = e.run_id AND e.version < 3`,
	} {
		_, err := owner.ExecContext(t.Context(), statement)
		require.NoError(t, err)
	}
	stored := dataset{events: d.events}
	for _, rows := range []any{&stored.users, &stored.threads, &stored.messages, &stored.runs, &stored.references, &stored.supplyItems, &stored.apiKeys, &stored.auditLogs} {
		require.NoError(t, owner.NewSelect().Model(rows).Scan(t.Context()))
	}
	for _, reference := range stored.references {
		reference.HasEmbedding, reference.EmbeddingStatus = reference.Embedding != nil, models.EmbeddingNone // there is no endpoint
		if reference.HasEmbedding {
			reference.EmbeddingStatus = models.EmbeddingReady
		}
	}
	require.Len(t, stored.messages, len(d.messages))
	stored.transitions = transitions(t, owner)
	insertEvents(t, db.ClickHouse(t), d.events)
	return db, stored
}

// workloads are those of the events, once each.
func (d dataset) workloads() []*models.Workload {
	var all []*models.Workload
	for _, e := range d.events {
		if _, known := find(all, func(w *models.Workload) bool { return w.UserID == e.user && w.WorkloadID == e.workload }); !known {
			all = append(all, &models.Workload{UserID: e.user, WorkloadID: e.workload, LastSeen: e.at})
		}
	}
	return all
}

func transitions(t *testing.T, owner *bun.DB) []*transition {
	t.Helper()
	rows, err := owner.QueryContext(t.Context(), `SELECT seq, run_id, version, old_status, new_status, at, thread_id, user_id FROM run_events`)
	require.NoError(t, err)
	defer rows.Close()
	var all []*transition
	for rows.Next() {
		one := new(transition)
		require.NoError(t, rows.Scan(&one.Seq, &one.RunID, &one.Version, &one.OldStatus, &one.NewStatus, &one.At, &one.thread, &one.user))
		all = append(all, one)
	}
	require.NoError(t, rows.Err())
	return all
}

// storedKey is an API key with what the graph never has.
type storedKey struct {
	bun.BaseModel `bun:"table:api_keys"`
	models.APIKey
	KeyHash string `bun:"key_hash"`
}

func insertEvents(t *testing.T, clickhouse *sql.DB, events []metricEvent) {
	t.Helper()
	tx, err := clickhouse.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	batch, err := tx.PrepareContext(t.Context(), "INSERT INTO workload_events (timestamp, user_id, workload_id, event_type, event_category, metrics.name, metrics.value, metrics.unit, dimensions)")
	require.NoError(t, err)
	for _, e := range events {
		_, err := batch.ExecContext(t.Context(), e.at, uint32(e.user), e.workload, e.kind, "compute", []string{e.metric}, []float64{e.value}, []string{e.unit}, e.dimensions)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit())
}

// mark is in every text of a user and in nobody else's. Its shape sorts alike in every collation.
func mark(user int) string { return fmt.Sprintf("tenant%02d.", user) }
