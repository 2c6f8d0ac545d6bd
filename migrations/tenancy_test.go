package migrations_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rowOf inserts one row of a tenant into a table, as the owner; $1 is the tenant and $2 a thread of theirs. A new table needs a line here.
var rowOf = map[string]string{
	"messages":         "INSERT INTO messages (thread_id, user_id, role, content) VALUES ($2, $1, 'user', 'hello')",
	"runs":             "INSERT INTO runs (thread_id, user_id, input_data) VALUES ($2, $1, '{}')",
	"references":       `INSERT INTO "references" (user_id, name, type) SELECT $1, $2::uuid::text, 'document'`,
	"supply_catalog":   "INSERT INTO supply_catalog (user_id, name, category, specifications) SELECT $1, $2::uuid::text, 'compute', '{}'",
	"api_keys":         "INSERT INTO api_keys (user_id, name, key_hash) SELECT $1::int, 'key', $2::uuid::text",
	"audit_logs":       "INSERT INTO audit_logs (user_id, action, resource_id) SELECT $1, 'login', $2::uuid::text",
	"objects":          "INSERT INTO objects (path, user_id, collect_after) SELECT $2::uuid::text, $1, now()",
	"pending_uploads":  "INSERT INTO pending_uploads (user_id, name, type, expires_at) SELECT $1, $2::uuid::text, 'other', now()",
	"idempotency_keys": "INSERT INTO idempotency_keys (user_id, operation, key_hash, input_hash, expires_at) SELECT $1, 'op', uuid_send($2::uuid), '', now()",
	"embedding_jobs":   `INSERT INTO embedding_jobs (reference_id, user_id, holder, due) SELECT coalesce((SELECT id FROM "references" WHERE user_id = $1 LIMIT 1), $2::uuid), $1, $2::uuid, now()`,
	"users":            "SELECT $1::int, $2::uuid", // setup made them
	"threads":          "SELECT $1::int, $2::uuid",
	"run_events":       "SELECT $1::int, $2::uuid", // the run made one
}

func TestEveryTableIsClosedToOtherTenants(t *testing.T) {
	t.Parallel()
	s := setup(t)
	tables := column[string](t, s.owner, `SELECT relname::text FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname NOT LIKE 'goose%'
			AND relname <> ALL ('{run_events_horizon,embedding_settings,user_standing}') ORDER BY relname COLLATE "C" DESC`) // these are of no tenant; references come before embedding_jobs
	require.Len(t, tables, 13)
	for _, table := range tables {
		require.Contains(t, rowOf, table, "a table without a row in this test")
		_, err := s.owner.ExecContext(t.Context(), rowOf[table], s.alice, s.aliceThread)
		require.NoError(t, err, table)
		_, err = s.owner.ExecContext(t.Context(), rowOf[table], s.bob, s.bobThread)
		require.NoError(t, err, table)
	}

	for _, table := range tables {
		t.Run(table, func(t *testing.T) {
			quoted := `public."` + table + `"`
			tenant := "user_id"
			if table == "users" {
				tenant = "id"
			}
			require.True(t, value[bool](t, s.owner,
				"SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = $1::text::regclass", quoted), "row-level security is not forced")
			require.True(t, value[bool](t, s.owner, `SELECT bool_or(policyname = 'owner' AND roles = ARRAY[current_user]::name[] AND qual = 'true' AND with_check = 'true')
				FROM pg_policies WHERE tablename = $1`, table), "the owner needs a policy of its own: BYPASSRLS is not promised")
			all := fmt.Sprintf("SELECT DISTINCT %s FROM %s WHERE %[1]s IS NOT NULL ORDER BY 1", tenant, quoted)

			require.Equal(t, []int{s.alice, s.bob}, column[int](t, s.owner, all))
			require.Empty(t, column[int](t, s.as(t, 0), all), "nobody sees nothing")
			require.Equal(t, []int{s.alice}, column[int](t, s.as(t, s.alice), all))
			require.Equal(t, []int{s.bob}, column[int](t, s.as(t, s.bob), all))
			require.Equal(t, []int{s.alice, s.bob}, column[int](t, s.asSuperuser(t), all))

			alice, nobody := s.as(t, s.alice), s.as(t, 0)
			may := func(verb string) bool {
				return value[bool](t, s.owner, "SELECT has_table_privilege('netra_app', $1::text, $2) OR has_any_column_privilege('netra_app', $1::text, $2)", quoted, verb)
			}
			if may("UPDATE") {
				changed := value[string](t, s.owner, `SELECT attname::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0
					AND has_column_privilege('netra_app', attrelid, attnum, 'UPDATE') AND attname = ANY ('{metadata,name,answer,error,collect_after}') LIMIT 1`, quoted)
				update := fmt.Sprintf("UPDATE %s SET %s = %[2]s WHERE %s = $1", quoted, changed, tenant)
				require.Zero(t, exec(t, alice, update, s.bob))
				require.EqualValues(t, 1, exec(t, alice, update, s.alice))
				require.Zero(t, exec(t, nobody, update, s.alice))
			}
			if value[bool](t, s.owner, "SELECT has_table_privilege('netra_app', $1::text, 'DELETE')", quoted) {
				remove := fmt.Sprintf("DELETE FROM %s WHERE %s = $1", quoted, tenant)
				require.Zero(t, exec(t, alice, remove, s.bob))
				require.Zero(t, exec(t, nobody, remove, s.alice))
			}
			if strings.HasPrefix(rowOf[table], "INSERT") {
				insert := strings.ReplaceAll(strings.ReplaceAll(rowOf[table], "$1", "$1::int"), "$1::int::int", "$1::int")
				refused(t, alice, insufficientRole, insert, s.bob, s.bobThread)
				refused(t, nobody, insufficientRole, insert, s.alice, s.aliceThread)
			}
		})
	}
}

func TestTheViewerIsGoneAfterTheTransaction(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.app.SetMaxOpenConns(1)
	tx := s.as(t, s.alice)
	exec(t, tx, "SELECT set_config('netra.superuser', 'on', true)")
	require.Len(t, column[string](t, tx, "SELECT id FROM threads"), 2)
	require.NoError(t, tx.Commit())
	require.Empty(t, column[string](t, s.app, "SELECT id FROM threads"))
}

func TestTheApplicationHasOnlyTheRightsItNeeds(t *testing.T) {
	t.Parallel()
	s := setup(t)
	rights := column[string](t, s.owner, `
		SELECT concat_ws(' ', c.relname, (SELECT string_agg(verb, ',' ORDER BY ordinality)
			FROM unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) WITH ORDINALITY AS verbs(verb, ordinality)
			WHERE has_table_privilege('netra_app', c.oid, verb)))
		FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') ORDER BY relname COLLATE "C"`)
	require.Equal(t, []string{
		"api_keys DELETE", // the rest by column
		"audit_logs SELECT,INSERT",
		"embedding_jobs SELECT,INSERT,UPDATE,DELETE",
		"embedding_settings SELECT,INSERT,UPDATE",
		"goose_db_version",
		"idempotency_keys SELECT,INSERT,UPDATE,DELETE",
		"messages SELECT,INSERT,UPDATE,DELETE",
		"objects SELECT,INSERT,UPDATE,DELETE",
		"pending_uploads SELECT,INSERT,UPDATE,DELETE",
		"references SELECT,INSERT,UPDATE,DELETE",
		"run_events SELECT",
		"run_events_horizon SELECT",
		"runs SELECT,INSERT,UPDATE,DELETE",
		"supply_catalog SELECT,INSERT,UPDATE,DELETE",
		"threads SELECT,INSERT,UPDATE,DELETE",
		"user_standing SELECT",
		"users", // by column
	}, rights)
	require.Equal(t, []string{"audit_logs_id_seq", "users_id_seq"}, column[string](t, s.owner, `SELECT relname::text FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND CASE relkind WHEN 'S' THEN has_sequence_privilege('netra_app', oid, 'USAGE') END ORDER BY relname`))
	require.Equal(t, []string{"authenticate_api_key", "expire_run_events", "find_login", "find_supply_items", "search_documents", "usable_api_keys"}, column[string](t, s.owner, `SELECT proname::text FROM pg_proc
		WHERE pronamespace = 'public'::regnamespace AND prosecdef AND has_function_privilege('netra_app', oid, 'EXECUTE') ORDER BY proname`))
	require.Empty(t, column[string](t, s.owner, `SELECT proname::text FROM pg_proc
		WHERE pronamespace = 'public'::regnamespace AND prosecdef AND NOT coalesce(array_to_string(proconfig, ',') LIKE 'search_path=pg_catalog, pg_temp%', false)`),
		"a function with the owner's rights looks names up where its caller says")

	require.Empty(t, column[string](t, s.owner, `SELECT DISTINCT p.proname::text FROM pg_depend d JOIN pg_proc p ON p.oid = d.refobjid
		JOIN pg_index i ON i.indexrelid = d.objid WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_proc'::regclass
		AND p.pronamespace = 'public'::regnamespace AND NOT has_function_privilege('public', p.oid, 'EXECUTE')`),
		"an index calls its functions with the rights of whoever inserts: a platform's own roles could not write")

	admin := s.asSuperuser(t)
	for _, statement := range []string{
		"SELECT password_hash FROM users",
		"SELECT * FROM users",
		"SELECT key_hash FROM api_keys",
		"UPDATE users SET is_superuser = true",
		"INSERT INTO users (email, is_superuser) VALUES ('eve@example.com', true)",
		"DELETE FROM users",
		"UPDATE audit_logs SET action = ''",
		"DELETE FROM audit_logs",
		"INSERT INTO run_events (run_id, version, user_id, new_status) VALUES (gen_random_uuid(), 1, 1, 'pending')",
		"DELETE FROM run_events",
		"TRUNCATE messages",
		"CREATE TABLE mine (id int)",
		"ALTER TABLE threads DISABLE ROW LEVEL SECURITY",
		"DROP POLICY viewer ON threads",
		"SET ROLE netra_owner",
		"SELECT record_run_event()",
	} {
		refused(t, admin, insufficientRole, statement)
	}
}

func TestEveryFunctionAndTriggerIsExplained(t *testing.T) {
	t.Parallel()
	s := setup(t)
	require.Empty(t, column[string](t, s.owner, `
		SELECT proname::text FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
			AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
		UNION ALL SELECT tgname::text FROM pg_trigger g WHERE NOT tgisinternal AND obj_description(g.oid, 'pg_trigger') IS NULL`))
}

func TestSystemItemsAreForEveryViewerAndWrittenBySuperusers(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const insert = "INSERT INTO supply_catalog (user_id, name, category, specifications) VALUES (NULLIF($1, 0), 'item', 'compute', '{}')"
	admin := s.asSuperuser(t)
	exec(t, admin, insert, 0)
	require.NoError(t, admin.Commit())

	alice := s.as(t, s.alice)
	require.Equal(t, 1, value[int](t, alice, "SELECT count(*) FROM supply_catalog"))
	require.Equal(t, 0, value[int](t, s.as(t, 0), "SELECT count(*) FROM supply_catalog"))
	refused(t, alice, insufficientRole, insert, 0)
	require.Zero(t, exec(t, alice, "UPDATE supply_catalog SET name = 'mine'"))
	require.Zero(t, exec(t, alice, "UPDATE supply_catalog SET user_id = $1", s.alice))
	require.Zero(t, exec(t, alice, "DELETE FROM supply_catalog"))
	require.EqualValues(t, 1, exec(t, alice, insert, s.alice))
	refused(t, alice, insufficientRole, "UPDATE supply_catalog SET user_id = NULL WHERE user_id = $1", s.alice)
	require.EqualValues(t, 1, exec(t, s.asSuperuser(t), "UPDATE supply_catalog SET name = 'better'"))
}

func TestADeletedUsersItemsDoNotBecomeSystemItems(t *testing.T) {
	t.Parallel()
	s := setup(t)
	exec(t, s.owner, "INSERT INTO supply_catalog (user_id, name, category, specifications) VALUES ($1, 'private', 'compute', '{}')", s.alice)
	exec(t, s.owner, "INSERT INTO messages (thread_id, role, content) VALUES ($1, 'user', 'hello')", s.aliceThread)
	exec(t, s.owner, "INSERT INTO runs (thread_id, user_id, input_data) VALUES ($1, $2, '{}')", s.aliceThread, s.alice)
	exec(t, s.owner, "INSERT INTO audit_logs (user_id, action) VALUES ($1, 'login')", s.alice)
	exec(t, s.owner, "DELETE FROM users WHERE id = $1", s.alice)

	require.Equal(t, 0, value[int](t, s.as(t, s.bob), "SELECT count(*) FROM supply_catalog"))
	for _, table := range []string{"supply_catalog", "messages", "runs", "run_events"} {
		require.Equal(t, 0, value[int](t, s.owner, "SELECT count(*) FROM "+table), table)
	}
	require.Equal(t, 1, value[int](t, s.owner, "SELECT count(*) FROM audit_logs WHERE user_id IS NULL"))
	require.Equal(t, 0, value[int](t, s.as(t, s.bob), "SELECT count(*) FROM audit_logs"))
}

func TestNothingHangsOnAnotherTenantsThread(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const (
		message       = "INSERT INTO messages (thread_id, user_id, role, content) VALUES ($1, $2, 'user', 'hello')"
		tenantMessage = "INSERT INTO messages (thread_id, role, content) VALUES ($1, 'user', 'hello')"
		run           = "INSERT INTO runs (thread_id, user_id, input_data) VALUES ($1, $2, '{}')"
		absent        = "00000000-0000-0000-0000-000000000000"
	)
	for _, session := range []*sql.Tx{begin(t, s.owner), s.as(t, s.alice), s.asSuperuser(t)} {
		require.Equal(t, "messages_thread_id_fkey", refused(t, session, foreignKey, message, s.bobThread, s.alice).ConstraintName)
		require.Equal(t, "runs_thread_id_fkey", refused(t, session, foreignKey, run, s.bobThread, s.alice).ConstraintName)
		exec(t, session, message, s.aliceThread, s.alice)
		exec(t, session, run, s.aliceThread, s.alice)
		refused(t, session, foreignKey, "UPDATE messages SET thread_id = $1 WHERE user_id = $2", s.bobThread, s.alice)
		refused(t, session, foreignKey, "UPDATE runs SET thread_id = $1 WHERE user_id = $2", s.bobThread, s.alice)
		require.NoError(t, session.Rollback())
	}

	alice := s.as(t, s.alice)
	foreign, missing := refused(t, alice, foreignKey, tenantMessage, s.bobThread), refused(t, alice, foreignKey, tenantMessage, absent)
	require.Equal(t, "messages_thread_id_fkey", missing.ConstraintName)
	require.Equal(t, missing.Message, foreign.Message, "another tenant's thread and an absent one are told apart")
	require.Equal(t, missing.ConstraintName, foreign.ConstraintName)
}

func TestAMessageTakesTheTenantOfItsThread(t *testing.T) {
	t.Parallel()
	s := setup(t)
	const insert = "INSERT INTO messages (thread_id, role, content) VALUES ($1, 'user', 'hello') RETURNING user_id"
	require.Equal(t, s.alice, value[int](t, s.owner, insert, s.aliceThread))
	require.Equal(t, s.bob, value[int](t, s.as(t, s.bob), insert, s.bobThread))
	require.Equal(t, s.bob, value[int](t, s.asSuperuser(t), insert, s.bobThread))
	refused(t, begin(t, s.owner), notNull, "INSERT INTO messages (role, content) VALUES ('user', 'hello')")
}

func TestADeletedThreadLeavesItsRuns(t *testing.T) {
	t.Parallel()
	s := setup(t)
	run := value[string](t, s.owner, "INSERT INTO runs (thread_id, user_id, input_data) VALUES ($1, $2, '{}') RETURNING id", s.aliceThread, s.alice)
	exec(t, s.owner, "INSERT INTO messages (thread_id, role, content) VALUES ($1, 'user', 'hello')", s.aliceThread)
	alice := s.as(t, s.alice)
	require.EqualValues(t, 1, exec(t, alice, "DELETE FROM threads"))
	require.Equal(t, 0, value[int](t, alice, "SELECT count(*) FROM messages"))
	require.Equal(t, 1, value[int](t, alice, "SELECT count(*) FROM runs WHERE id = $1 AND thread_id IS NULL AND user_id = $2 AND version = 1", run, s.alice))
}

func TestALoginFindsItsHashAndNothingElse(t *testing.T) {
	t.Parallel()
	s := setup(t)
	exec(t, s.owner, "UPDATE users SET password_hash = 'hash' WHERE id = $1", s.alice)
	nobody := s.as(t, 0)
	const login = "SELECT concat_ws(' ', id, password_hash, is_active) FROM find_login($1)"
	require.Equal(t, []string{fmt.Sprint(s.alice, " hash t")}, column[string](t, nobody, login, "alice@example.com"))
	require.Empty(t, column[string](t, nobody, login, "%"))

	const key = "SELECT user_id FROM authenticate_api_key((SELECT md5($1)::uuid), $1)"
	for hash, unusable := range map[string]string{
		"good": "", "inactive": "UPDATE api_keys SET is_active = false WHERE key_hash = $1", "expired": "UPDATE api_keys SET expires_at = now() WHERE key_hash = $1",
	} {
		exec(t, s.owner, "INSERT INTO api_keys (id, user_id, name, key_hash) VALUES (md5($2)::uuid, $1, 'key', $2::text)", s.alice, hash)
		if unusable != "" {
			exec(t, s.owner, unusable, hash)
		}
	}
	require.NoError(t, nobody.Rollback())
	nobody = s.as(t, 0)
	require.Equal(t, []int{s.alice}, column[int](t, nobody, key, "good"))
	require.Empty(t, column[int](t, nobody, key, "inactive"))
	require.Empty(t, column[int](t, nobody, key, "expired"))
	require.Empty(t, column[int](t, nobody, key, "unknown"))
	exec(t, s.owner, "UPDATE users SET is_active = false")
	require.Empty(t, column[int](t, s.as(t, 0), key, "good"), "an inactive user's key")
}
