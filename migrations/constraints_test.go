package migrations_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConstraintsRefuseWhatTheSpecificationForbids(t *testing.T) {
	t.Parallel()
	s := setup(t)
	tx := begin(t, s.owner)
	for _, c := range []struct{ name, code, constraint, statement string }{
		{"thread status", checkViolation, "check_status", "INSERT INTO threads (user_id, status) VALUES ($1, 'open')"},
		{"message role", checkViolation, "check_role", "INSERT INTO messages (thread_id, role, content) SELECT id, 'robot', '' FROM threads WHERE user_id = $1"},
		{"run status", checkViolation, "check_status", "INSERT INTO runs (user_id, input_data, status) VALUES ($1, '{}', 'queued')"},
		{"reference type", checkViolation, "check_type", `INSERT INTO "references" (user_id, name, type) VALUES ($1, 'name', 'image')`},
		{"second user of an email", uniqueViolation, "users_email_key", "INSERT INTO users (email) SELECT email FROM users WHERE id = $1"},
		{"thread of nobody", foreignKey, "threads_user_id_fkey", "INSERT INTO threads (user_id) VALUES (-$1::int)"},
		{"run of nobody", foreignKey, "runs_user_id_fkey", "INSERT INTO runs (user_id, input_data) VALUES (-$1::int, '{}')"},
		{"status unknown", notNull, "", "INSERT INTO runs (user_id, input_data, status) VALUES ($1, '{}', NULL)"},
		{"creation unknown", notNull, "", "INSERT INTO threads (user_id, created_at) VALUES ($1, NULL)"},
		{"input absent", notNull, "", "INSERT INTO runs (user_id) VALUES ($1)"},
	} {
		refusal := refused(t, tx, c.code, c.statement, s.alice)
		require.Equal(t, c.constraint, refusal.ConstraintName, c.name)
	}
}

func TestEveryValueOfACheckIsAccepted(t *testing.T) {
	t.Parallel()
	s := setup(t)
	exec(t, s.owner, "INSERT INTO threads (user_id, status) SELECT $1, unnest('{active,archived,deleted}'::text[])", s.alice)
	exec(t, s.owner, "INSERT INTO messages (thread_id, role, content) SELECT $1, unnest('{user,assistant,system,tool}'::text[]), ''", s.aliceThread)
	exec(t, s.owner, "INSERT INTO runs (user_id, input_data, status) SELECT $1, '{}', unnest('{pending,processing,completed,failed,cancelled}'::text[])", s.alice)
	exec(t, s.owner, `INSERT INTO "references" (user_id, name, type) SELECT $1, '', unnest('{document,dataset,configuration,model,other}'::text[])`, s.alice)
}

func TestUpdatedAtFollowsEveryUpdate(t *testing.T) {
	t.Parallel()
	s := setup(t)
	exec(t, s.owner, `INSERT INTO "references" (user_id, name, type) VALUES ($1, 'name', 'other')`, s.alice)
	exec(t, s.owner, "INSERT INTO supply_catalog (name, category, specifications) VALUES ('item', 'compute', '{}')")
	for _, table := range []string{"users", "threads", `"references"`, "supply_catalog"} {
		require.Positive(t, exec(t, s.owner, "UPDATE "+table+" SET updated_at = 'epoch'"))
		require.Equal(t, 0, value[int](t, s.owner, "SELECT count(*) FROM "+table+" WHERE updated_at < created_at"), table)
	}
}

// The names are the specification's; queries of operators and other programs may rely on them.
func TestUpdatedAtNeverGoesBack(t *testing.T) {
	t.Parallel()
	s := setup(t)
	early := s.as(t, s.alice)
	exec(t, early, "SELECT now()") // its time is from before the other's
	late := s.as(t, s.alice)
	exec(t, late, "UPDATE threads SET title = 'second' WHERE id = $1", s.aliceThread)
	latest := value[time.Time](t, late, "SELECT updated_at FROM threads WHERE id = $1", s.aliceThread)
	require.NoError(t, late.Commit())
	exec(t, early, "UPDATE threads SET title = 'first' WHERE id = $1", s.aliceThread)
	require.Equal(t, latest, value[time.Time](t, early, "SELECT updated_at FROM threads WHERE id = $1", s.aliceThread))
}

func TestEveryIndexOfTheSpecificationExists(t *testing.T) {
	t.Parallel()
	s := setup(t)
	require.Subset(t, column[string](t, s.owner, "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public'"), []string{
		"idx_users_email", "idx_users_oauth", "idx_users_created_at",
		"idx_threads_user_id", "idx_threads_created_at", "idx_threads_status",
		"idx_messages_thread_id", "idx_messages_created_at", "idx_messages_role",
		"idx_runs_user_id", "idx_runs_thread_id", "idx_runs_status", "idx_runs_created_at", "idx_runs_agent_type",
		"idx_references_user_id", "idx_references_type", "idx_references_created_at", "idx_references_embedding",
		"idx_supply_catalog_category", "idx_supply_catalog_provider", "idx_supply_catalog_is_active", "idx_supply_catalog_user_id",
		"idx_supply_catalog_performance",
		"idx_api_keys_user_id", "idx_api_keys_key_hash", "idx_api_keys_is_active",
		"idx_audit_logs_user_id", "idx_audit_logs_action", "idx_audit_logs_created_at", "idx_audit_logs_resource",
	})
	require.Empty(t, column[string](t, s.owner, `
		SELECT concat(table_name, '.', column_name) FROM information_schema.columns c
		WHERE table_schema = 'public' AND data_type = 'jsonb' AND table_name <> 'pending_uploads' /* read by id only */ AND NOT EXISTS (
			SELECT FROM pg_indexes i WHERE i.schemaname = 'public' AND i.tablename = c.table_name
				AND i.indexdef ~ format('USING gin \(%s( jsonb_path_ops)?\)', c.column_name))`), "JSONB columns without a GIN index")
	require.Empty(t, column[string](t, s.owner, `
		SELECT concat(k.conrelid::regclass, '.', k.conname) FROM pg_constraint k
		WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace AND NOT EXISTS (
			SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indkey[0] = k.conkey[1])`), "foreign keys without an index")
}
