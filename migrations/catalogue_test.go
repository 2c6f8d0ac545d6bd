package migrations_test

import (
	"database/sql"
	"strings"
	"testing"
)

// postgresCatalogue describes everything of ours in a PostgreSQL database, one line each, in a fixed order. What extensions brought and
// goose's own table are left out.
const postgresCatalogue = `
WITH relations AS (
	SELECT c.* FROM pg_class c
	WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE 'goose_db_version%'
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
), functions AS (
	SELECT p.* FROM pg_proc p
	WHERE p.pronamespace = 'public'::regnamespace
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
)
SELECT line FROM (
	SELECT concat_ws(' | ', 'relation', relname, relkind, relowner::regrole, relrowsecurity, relforcerowsecurity, relacl, reloptions) AS line FROM relations
	UNION ALL
	SELECT concat_ws(' | ', 'column', c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
			format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attacl)
		FROM relations c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
	UNION ALL
	SELECT concat_ws(' | ', 'index', pg_get_indexdef(i.indexrelid), i.indisvalid) FROM relations c JOIN pg_index i ON i.indrelid = c.oid
	UNION ALL
	SELECT concat_ws(' | ', 'constraint', c.relname, k.conname, pg_get_constraintdef(k.oid)) FROM relations c JOIN pg_constraint k ON k.conrelid = c.oid
	UNION ALL
	SELECT concat_ws(' | ', 'trigger', pg_get_triggerdef(g.oid), g.tgenabled, obj_description(g.oid, 'pg_trigger'))
		FROM relations c JOIN pg_trigger g ON g.tgrelid = c.oid WHERE NOT g.tgisinternal
	UNION ALL
	SELECT concat_ws(' | ', 'policy', tablename, policyname, permissive, roles, cmd, qual, with_check) FROM pg_policies WHERE schemaname = 'public'
	UNION ALL
	SELECT concat_ws(' | ', 'function', pg_get_functiondef(oid), proowner::regrole, proacl, obj_description(oid, 'pg_proc')) FROM functions
	UNION ALL
	SELECT concat_ws(' | ', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'
) lines ORDER BY line COLLATE "C"`

func describePostgres(t *testing.T, owner *sql.DB) string {
	t.Helper()
	return strings.Join(column[string](t, owner, postgresCatalogue), "\n")
}

// clickhouseCatalogue is the same for a ClickHouse database, whose own name is left out.
const clickhouseCatalogue = `
SELECT line FROM (
	SELECT concat('table | ', name, ' | ', replaceAll(create_table_query, currentDatabase(), 'database')) AS line
		FROM system.tables WHERE database = currentDatabase() AND name != 'goose_db_version'
	UNION ALL
	SELECT concat('column | ', table, ' | ', toString(position), ' | ', name, ' | ', type, ' | ', default_kind, ' | ', default_expression)
		FROM system.columns WHERE database = currentDatabase() AND table != 'goose_db_version'
	UNION ALL
	SELECT concat('index | ', table, ' | ', name, ' | ', type_full, ' | ', expr, ' | ', toString(granularity))
		FROM system.data_skipping_indices WHERE database = currentDatabase()
) ORDER BY line`

func describeClickHouse(t *testing.T, clickhouse *sql.DB) string {
	t.Helper()
	return strings.Join(column[string](t, clickhouse, clickhouseCatalogue), "\n")
}
