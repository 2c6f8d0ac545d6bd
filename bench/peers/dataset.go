package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql
	"golang.org/x/sync/errgroup"

	"github.com/netra-ai/netra/migrations"
)

// firstUser is the id of the first user: all ids have as many digits, so that all users' answers have about one length.
const firstUser = 100_001

const (
	threadsPerUser    = 20
	messagesPerThread = 50
	runsPerThread     = 5
)

// dataset is a database of our own migrations with rows that depend on nothing but the number of users.
type dataset struct {
	users    int
	ownerURL string // without row-level security: the embedded engines' owner has BYPASSRLS
	appURL   string // under it
	name     string
}

func (d *dataset) messages() int { return d.users * threadsPerUser * messagesPerThread }

// plain says that the texts are not broken down for searching, which takes five sixths of the time of loading and which the reference query does not
// read. The rows are as wide as those of the others: each has the same words.
func (d *dataset) plain() bool { return d.users > 1_000 }

const makePlain = `
DROP INDEX idx_messages_search;
ALTER TABLE messages DROP COLUMN search;
ALTER TABLE messages ADD COLUMN search TSVECTOR GENERATED ALWAYS AS
	('''batch'':1 ''budget'':2 ''cach'':3 ''first'':4 ''hour'':5 ''larger'':6 ''latenc'':7 ''model'':8 ''night'':9 ''small'':10 ''spend'':11 ''warm'':12'::tsvector) STORED;`

// populate makes the rows. Threads of all users are begun in turns. Messages are said in sittings of ten, after which other threads go on,
// so that a thread's messages lie in several places, as they would have come about.
const populate = `
INSERT INTO users (id, email, name) SELECT %[1]d + u, 'user' || %[1]d + u || '@example.com', 'User ' || %[1]d + u FROM generate_series(0, %[2]d - 1) u;
INSERT INTO threads (id, user_id, title, created_at, updated_at)
	SELECT md5('thread' || t)::uuid, %[1]d + t %% %[2]d, 'Thread ' || lpad(t::text, 8, '0') || ' about the cost of inference', at, at
	FROM generate_series(0, %[2]d * %[3]d - 1) t, LATERAL (SELECT timestamptz '2026-01-01' + t * interval '1 second' AS at) at;
INSERT INTO runs (id, thread_id, user_id, status, agent_type, input_data, started_at, created_at, version)
	SELECT md5('run' || r)::uuid, md5('thread' || t)::uuid, %[1]d + t %% %[2]d, (ARRAY['completed', 'failed', 'pending', 'processing'])[1 + r %% 4], 'optimizer', '{"goal": "cost"}', at, at, 1
	FROM generate_series(0, %[2]d * %[3]d * %[4]d - 1) r, LATERAL (SELECT r %% (%[2]d * %[3]d) AS t, timestamptz '2026-02-01' + r * interval '1 second' AS at) v;`

// populateMessages makes those numbered from %[3]d to before %[4]d, of %[2]d threads and %[1]d users.
const populateMessages = `
INSERT INTO messages (id, thread_id, user_id, role, content, tokens_used, model, created_at, xid)
	SELECT md5('message' || n)::uuid, md5('thread' || t)::uuid, %[5]d + t %% %[1]d,
		CASE n %% 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
		'No. ' || lpad(n::text, 9, '0') || ': ' || substr(prose, 1 + n * 37 %% 400, 106), 40, CASE n %% 2 WHEN 1 THEN 'example-large' END,
		timestamptz '2026-03-01' + n * interval '1 second', NULL
	FROM generate_series(%[3]d, %[4]d - 1) n, LATERAL (SELECT n / 10 %% %[2]d AS t, repeat(
		'The nightly batch spends most of its budget on a model that is larger than the task needs: "summarise" works as well on the small one, ' ||
		'and the cache — warm after the first hour — answers a third of what is left. Which of the two would you change first, and what would ' ||
		'it cost us while the old one still runs? Latency matters between eight and ten in the morning only; after that, throughput does, ' ||
		'and nobody waits for a single answer. ', 2) AS prose) v;`

// open finds the dataset from an earlier run or makes it. It gets its name only when it is complete.
func openDataset(ctx context.Context, e engines, users int) (*dataset, error) {
	sum := sha256.Sum256([]byte(populate + populateMessages + makePlain + migrations.Fingerprint()))
	d := &dataset{users: users, name: fmt.Sprintf("netra_peers_%d_%s", users, hex.EncodeToString(sum[:6]))}
	d.ownerURL, d.appURL = withDatabase(e.ownerURL, d.name), withDatabase(e.appURL, d.name)
	admin, err := sql.Open("pgx", e.ownerURL)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	var exists bool
	if err := admin.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", d.name).Scan(&exists); err != nil {
		return nil, err
	}
	if exists {
		return d, d.clean(ctx)
	}
	if err := d.dropStale(ctx, admin); err != nil {
		return nil, err
	}
	unfinished := fmt.Sprintf("netra_peers_%d_unfinished", users)
	if err := execAll(ctx, admin, "DROP DATABASE IF EXISTS "+unfinished+" WITH (FORCE)", "CREATE DATABASE "+unfinished); err != nil {
		return nil, err
	}
	if err := d.load(ctx, e, withDatabase(e.ownerURL, unfinished)); err != nil {
		return nil, fmt.Errorf("load %d messages: %w", d.messages(), err)
	}
	return d, execAll(ctx, admin, "ALTER DATABASE "+unfinished+" RENAME TO "+d.name)
}

// settle has PostgreSQL do what it would otherwise do while somebody has a turn: it vacuums what was written, and writes out its buffers.
func (d *dataset) settle(ctx context.Context) error {
	owner, err := sql.Open("pgx", d.ownerURL)
	if err != nil {
		return err
	}
	defer owner.Close()
	// Only a superuser may say CHECKPOINT, but creating a database by copying its files waits for one, and so does dropping it.
	const copied = "netra_peers_checkpoint"
	return execAll(ctx, owner, "VACUUM", "DROP DATABASE IF EXISTS "+copied, "CREATE DATABASE "+copied+" STRATEGY FILE_COPY", "DROP DATABASE "+copied)
}

// dropStale removes what an earlier schema or populate left for as many users.
func (d *dataset) dropStale(ctx context.Context, admin *sql.DB) error {
	rows, err := admin.QueryContext(ctx, "SELECT datname FROM pg_database WHERE datname LIKE $1 AND datname <> $2", fmt.Sprintf(`netra\_peers\_%d\_%%`, d.users), d.name)
	if err != nil {
		return err
	}
	stale, err := texts(rows)
	for _, name := range stale {
		if err == nil {
			_, err = admin.ExecContext(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		}
	}
	return err
}

// writtenTitle is the title of the threads that the mutation makes.
const writtenTitle = "A thread that a benchmark began"

// clean takes away what mutations have written, here or in a run that was interrupted: new threads would come first in everybody's lists.
func (d *dataset) clean(ctx context.Context) error {
	owner, err := sql.Open("pgx", d.ownerURL)
	if err != nil {
		return err
	}
	defer owner.Close()
	deleted, err := owner.ExecContext(ctx, "DELETE FROM threads WHERE title = $1", writtenTitle)
	if err != nil {
		return fmt.Errorf("delete what was written: %w", err)
	}
	if n, err := deleted.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return execAll(ctx, owner, "TRUNCATE audit_logs", "VACUUM (ANALYZE) threads")
}

// drop removes the dataset: ten million messages are not kept from run to run.
func (d *dataset) drop(ctx context.Context, e engines) error {
	admin, err := sql.Open("pgx", e.ownerURL)
	if err != nil {
		return err
	}
	defer admin.Close()
	_, err = admin.ExecContext(ctx, "DROP DATABASE "+d.name+" WITH (FORCE)")
	return err
}

// load migrates and populates. Indexes, the messages' primary key and foreign keys are taken away before the rows come and made again after, which ends in
// the same database in a third of the time.
func (d *dataset) load(ctx context.Context, e engines, ownerURL string) error {
	owner, err := sql.Open("pgx", ownerURL)
	if err != nil {
		return err
	}
	defer owner.Close()
	clickhouse, err := migrations.OpenClickHouse(ctx, e.clickHouseURL)
	if err != nil {
		return err
	}
	defer clickhouse.Close()
	if err := migrations.Up(ctx, owner, clickhouse, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if d.plain() {
		if err := execAll(ctx, owner, makePlain); err != nil {
			return err
		}
	}
	const tables = "('public.messages'::regclass, 'public.runs'::regclass, 'public.threads'::regclass)"
	foreignKeys := "FROM pg_constraint WHERE contype = 'f' AND conrelid IN " + tables
	indexes := "FROM pg_index i WHERE indrelid IN " + tables + " AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)"
	key := "FROM pg_constraint WHERE contype = 'p' AND conrelid = 'public.messages'::regclass"
	triggers := "FROM pg_trigger WHERE NOT tgisinternal AND tgrelid IN " + tables
	remove, err := queryTexts(ctx, owner,
		"SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) "+foreignKeys,
		"SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) "+key,
		"SELECT format('DROP INDEX %s', indexrelid::regclass) "+indexes,
		"SELECT format('ALTER TABLE %s DISABLE TRIGGER %I', tgrelid::regclass, tgname) "+triggers)
	if err != nil {
		return err
	}
	restore, err := queryTexts(ctx, owner,
		"SELECT pg_get_indexdef(indexrelid) "+indexes+" ORDER BY indrelid",
		"SELECT pg_get_indexdef(conindid) "+key,
		"SELECT format('ALTER TABLE %s ADD CONSTRAINT %2$I PRIMARY KEY USING INDEX %2$I', conrelid::regclass, conname) "+key,
		"SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) "+foreignKeys,
		"SELECT format('ALTER TABLE %s ENABLE '||CASE tgenabled WHEN 'A' THEN 'ALWAYS ' ELSE '' END||'TRIGGER %I', tgrelid::regclass, tgname) "+triggers)
	if err != nil {
		return err
	}
	if err := execAll(ctx, owner, remove...); err != nil {
		return err
	}
	if err := execAll(ctx, owner, fmt.Sprintf(populate, firstUser, d.users, threadsPerUser, runsPerThread)); err != nil {
		return err
	}
	inserting, insertCtx := errgroup.WithContext(ctx)
	const loaders = 2
	for i := range loaders {
		from, to := d.messages()*i/loaders, d.messages()*(i+1)/loaders
		inserting.Go(func() error {
			return execAll(insertCtx, owner, fmt.Sprintf(populateMessages, d.users, d.users*threadsPerUser, from, to, firstUser))
		})
	}
	if err := inserting.Wait(); err != nil {
		return err
	}
	if err := inParallel(ctx, owner, restore); err != nil {
		return err
	}
	return execAll(ctx, owner, "SELECT setval('users_id_seq', max(id)) FROM users", "VACUUM (ANALYZE) users", "VACUUM (ANALYZE) threads", "VACUUM (ANALYZE) runs", "VACUUM (ANALYZE) messages")
}

// inParallel runs CREATE INDEX statements two at a time, and what comes after them in order.
func inParallel(ctx context.Context, db *sql.DB, statements []string) error {
	building, buildCtx := errgroup.WithContext(ctx)
	building.SetLimit(2)
	var rest []string
	for _, statement := range statements {
		if strings.HasPrefix(statement, "CREATE ") {
			building.Go(func() error { return execAll(buildCtx, db, statement) })
		} else {
			rest = append(rest, statement)
		}
	}
	if err := building.Wait(); err != nil {
		return err
	}
	return execAll(ctx, db, rest...)
}

func execAll(ctx context.Context, db *sql.DB, statements ...string) error {
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.80s: %w", strings.TrimSpace(statement), err)
		}
	}
	return nil
}

func queryTexts(ctx context.Context, db *sql.DB, queries ...string) ([]string, error) {
	var all []string
	for _, query := range queries {
		rows, err := db.QueryContext(ctx, query)
		if err != nil {
			return nil, err
		}
		found, err := texts(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func texts(rows *sql.Rows) ([]string, error) {
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}

func withDatabase(rawURL, name string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic(err) // netra made it
	}
	u.Path = "/" + name
	return u.String()
}
