package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Size is how much of everything there is to be. References, supply items and API keys are few whatever the size.
type Size struct {
	Users             int
	ThreadsPerUser    int
	MessagesPerThread int
	RunsPerThread     int
	Events            int // workload events of all runs together
}

// DefaultSize shows several pages of everything and takes a few seconds on two cores.
var DefaultSize = Size{Users: 20, ThreadsPerUser: 25, MessagesPerThread: 30, RunsPerThread: 5, Events: 100_000}

const (
	maxUsers = 10_000_000
	maxRows  = 10_000_000_000 // of one table
)

func (s Size) check() error {
	threads := int64(s.Users) * int64(s.ThreadsPerUser)
	switch {
	case s.Users < demoUsers || s.Users > maxUsers:
		return fmt.Errorf("%d users: from %d, the demo users, to %s", s.Users, demoUsers, grouped(maxUsers))
	case min(s.ThreadsPerUser, s.MessagesPerThread, s.RunsPerThread, s.Events) < 0:
		return errors.New("sizes are not negative")
	case s.Events > maxRows || s.ThreadsPerUser > maxRows/s.Users || threads > 0 && int64(max(s.MessagesPerThread, s.RunsPerThread)) > maxRows/threads:
		return fmt.Errorf("more than %s rows in one table", grouped(maxRows))
	case s.Events > 0 && threads*int64(s.RunsPerThread) == 0:
		return errors.New("events are reported for runs: without runs there are no events")
	}
	return nil
}

// SeedConfig says where to put how much.
type SeedConfig struct {
	OwnerURL      string
	ClickHouseURL string
	Size          Size
	Seed          uint64       // the same seed gives the same data, but for times, which end now
	Append        bool         // into a database with users: as many again, the demo users apart
	Progress      func(string) // a line for each thing that is done; may be nil
	// Interim is told how far the present thing is; each line stands in for the one before it. nil: Progress, every two seconds.
	Interim func(string)
}

// Seed fills both databases, which must be migrated. Users must be none, unless there is Append. Runs are written as they ended, so
// that run_events has one row for each.
//
// PostgreSQL gets everything or, after an error or the end of ctx, nothing. What then is left in ClickHouse is removed by the next Seed.
func Seed(ctx context.Context, cfg SeedConfig) (err error) {
	if err := cfg.Size.check(); err != nil {
		return err
	}
	conn, err := connect(ctx, cfg.OwnerURL)
	if err != nil {
		return explain(err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	events, err := openClickHouse(cfg.ClickHouseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, events.Close()) }()

	s := &seeder{cfg: cfg, clickhouse: events}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return s.fill(ctx, tx) })
	if err == nil {
		err = s.tidy(ctx, conn)
	}
	if ctx.Err() != nil {
		return ctx.Err() // what a driver says of a connection that was cut says less
	}
	return explain(err)
}

// explain puts what a person can do something about into one line of their words.
func explain(err error) error {
	const unmigrated = "has no schema yet: run `netra migrate up`"
	var refused *pgconn.PgError
	var unreached *pgconn.ConnectError
	var undialled *net.OpError
	var exception *clickhouse.Exception
	var unposted *url.Error
	switch {
	case errors.As(err, &unreached): // many lines, one for each way that was tried
		if errors.As(err, &undialled) {
			return fmt.Errorf("PostgreSQL is not to be reached: %w", undialled)
		}
		return errors.New("PostgreSQL is not to be reached: " + strings.Join(strings.Fields(unreached.Unwrap().Error()), " "))
	case errors.As(err, &refused) && refused.Code == "42P01":
		return errors.New("PostgreSQL " + unmigrated)
	case errors.As(err, &refused) && refused.Code == "55P03":
		return errors.New("somebody else is writing users, perhaps another seed: try again later")
	case errors.As(err, &exception) && (exception.Code == 60 || exception.Code == 81):
		return errors.New("ClickHouse " + unmigrated)
	case errors.As(err, &unposted): // with the whole statement in its address
		return fmt.Errorf("ClickHouse is not to be reached: %w", unposted.Err)
	}
	return err
}

type seeder struct {
	cfg        SeedConfig
	clickhouse driver.Conn
	*history
}

// fill is one transaction of PostgreSQL. ClickHouse comes last within it, so that a failure there leaves nothing here.
func (s *seeder) fill(ctx context.Context, tx pgx.Tx) error {
	// The lock keeps the ids that are about to be given out from being taken by others, and another seed out.
	if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = 0;
		LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE`); err != nil {
		return fmt.Errorf("lock users: %w", err)
	}
	var last int
	if err := tx.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM users").Scan(&last); err != nil {
		return fmt.Errorf("look for users: %w", err)
	}
	if last > 0 && !s.cfg.Append {
		return errors.New("the database has users already: seed an empty one, or append")
	}
	s.history = &history{size: s.cfg.Size, first: last + 1, now: time.Now().UTC().Truncate(time.Millisecond), fiction: newFiction(s.cfg.Seed)}
	if err := s.forget(ctx); err != nil {
		return fmt.Errorf("look for events of an earlier attempt: %w", err)
	}
	force, err := s.unforce(ctx, tx)
	if err != nil {
		return err
	}
	for _, table := range s.tables() {
		if err := s.copy(ctx, tx, table); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, "SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) FROM users"); err != nil {
		return fmt.Errorf("set the sequence of users: %w", err)
	}
	if err := s.library(ctx, tx); err != nil {
		return err
	}
	if err := force(); err != nil {
		return err
	}
	return s.report(ctx)
}

// table is rows for COPY. A row may be overwritten by the next.
type table struct {
	name    string
	columns []string
	count   int
	rows    iter.Seq[[]any]
}

func (s *seeder) tables() []table {
	users, threads := s.size.Users, s.size.Users*s.size.ThreadsPerUser
	return []table{
		{"users", []string{"id", "email", "name", "password_hash", "oauth_provider", "oauth_id", "picture", "is_superuser", "created_at", "updated_at",
			"last_login_at", "metadata"}, users, s.userRows()},
		{"threads", []string{"id", "user_id", "title", "status", "created_at", "updated_at", "metadata"}, threads, s.threadRows()},
		{"messages", []string{"id", "thread_id", "user_id", "role", "content", "tokens_used", "model", "created_at", "metadata"},
			threads * s.size.MessagesPerThread, s.messageRows()},
		{"runs", []string{"id", "thread_id", "user_id", "status", "agent_type", "input_data", "output_data", "error_message", "started_at", "completed_at",
			"created_at", "metadata"}, threads * s.size.RunsPerThread, s.runRows()},
	}
}

// unforce lets COPY, which no policy of row-level security allows, into the tables of an owner without BYPASSRLS. It returns what
// undoes that. Only the transaction sees it, and only the owner could profit.
func (s *seeder) unforce(ctx context.Context, tx pgx.Tx) (force func() error, err error) {
	var bypasses bool
	if err := tx.QueryRow(ctx, "SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&bypasses); err != nil {
		return nil, fmt.Errorf("look for the rights of the owner: %w", err)
	}
	if bypasses {
		return func() error { return nil }, nil
	}
	alter := func(change string) error {
		for _, table := range s.tables() {
			if _, err := tx.Exec(ctx, "ALTER TABLE "+table.name+" "+change+" ROW LEVEL SECURITY"); err != nil {
				return fmt.Errorf("row-level security of %s: %w", table.name, err)
			}
		}
		return nil
	}
	return func() error { return alter("FORCE") }, alter("NO FORCE")
}

// copyRows is how many rows one COPY takes. The server keeps a note of each row until the statement's end, for its triggers.
const copyRows = 100_000

func (s *seeder) copy(ctx context.Context, tx pgx.Tx, t table) error {
	next, stop := iter.Pull(t.rows)
	defer stop()
	progress := s.begin(t.name, t.count)
	for written := 0; written < t.count; {
		end := min(written+copyRows, t.count)
		_, err := tx.CopyFrom(ctx, pgx.Identifier{t.name}, t.columns, pgx.CopyFromFunc(func() ([]any, error) {
			if written == end {
				return nil, nil
			}
			progress.at(written)
			written++
			row, _ := next()
			return row, nil
		}))
		if err != nil {
			return fmt.Errorf("copy %s: %w", t.name, err)
		}
	}
	progress.done(t.count)
	return nil
}

func (s *seeder) userRows() iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for id := s.first; id < s.first+s.size.Users; id++ {
			if !yield(s.userRow(id)) {
				return
			}
		}
	}
}

func (s *seeder) userRow(id int) []any {
	s.turn(kindUser, id)
	created := s.now.Add(-past - s.share(300*24*time.Hour)).Truncate(time.Millisecond)
	seen := s.now.Add(-s.share(7 * 24 * time.Hour)).Truncate(time.Millisecond)
	company := one(s.fiction, companies)
	metadata := fmt.Sprintf(`{"team": %q, "company": %q, "theme": %q}`, one(s.fiction, places), company, one(s.fiction, []string{"light", "dark"}))
	if id <= demoUsers {
		created = s.now.AddDate(-2, 0, id) // in their order, before everybody else
		demo := []struct{ email, name string }{{Alice, "Alice Example"}, {Bob, "Bob Example"}, {Admin, "Admin Example"}}[id-1]
		return []any{id, demo.email, demo.name, passwordHash, nil, nil, nil, demo.email == Admin, created, created, seen, metadata}
	}
	first, last := firstNames[id%len(firstNames)], lastNames[id%len(lastNames)]
	address := strings.ToLower(first + "." + last)
	if namesakes := id / (len(firstNames) * len(lastNames)); namesakes > 0 {
		address += fmt.Sprint(namesakes + 1)
	}
	return []any{id, address + "@" + company + ".example", first + " " + last, nil, one(s.fiction, []string{"google", "github"}),
		fmt.Sprint(100_000_000 + mix(uint64(id))%900_000_000), nil, false, created, created, seen, metadata}
}

// threads are those of all users, by user.
func (s *seeder) threads() iter.Seq[thread] {
	return func(yield func(thread) bool) {
		for user := s.first; user < s.first+s.size.Users; user++ {
			for n := range s.size.ThreadsPerUser {
				if !yield(s.thread(user, n)) {
					return
				}
			}
		}
	}
}

func (s *seeder) threadRows() iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for t := range s.threads() {
			title, priority, pinned := t.topic.title(s.fiction), one(s.fiction, priorities), s.IntN(8) == 0
			status := one(s.fiction, []string{"active", "active", "active", "active", "active", "active", "active", "archived", "archived", "deleted"})
			if t.user <= demoUsers && t.n < 2*agentThreads || t.open {
				status = "active" // what is looked at first, and what agents work in
			}
			metadata := fmt.Sprintf(`{"priority": %q, "pinned": %t, "workload": %q}`, priority, pinned, t.topic.place)
			if !yield([]any{t.id, t.user, title, status, t.created, s.updated(t), metadata}) {
				return
			}
		}
	}
}

func (s *seeder) messageRows() iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for t := range s.threads() {
			for n := range s.size.MessagesPerThread {
				if !yield(s.messageRow(t, n)) {
					return
				}
			}
		}
	}
}

// messageRow is one of a conversation that repeats: a question and its answer, a question, what a tool found, its answer.
func (s *seeder) messageRow(t thread, n int) []any {
	id, at := s.messageAt(t, n)
	row := func(role, content string, tokens, model any, metadata string) []any {
		return []any{id, t.id, t.user, role, content, tokens, model, at, metadata}
	}
	switch place := (n - 1) % 5; {
	case n == 0:
		return row("system", "You help the team of the "+t.topic.place+" to run its workloads well. Answer with figures.", nil, nil, "{}")
	case place == 0, place == 2:
		return row("user", t.topic.question(s.fiction, n == 1), nil, nil, fmt.Sprintf(`{"channel": %q}`, one(s.fiction, channels)))
	case place == 3:
		tool := one(s.fiction, tools)
		return row("tool", t.topic.toolResult(s.fiction, tool), nil, nil, fmt.Sprintf(`{"tool": %q}`, tool))
	default:
		answer := t.topic.answer(s.fiction)
		return row("assistant", answer, len(answer)/4+s.IntN(900), t.model.name, `{"finish_reason": "stop"}`)
	}
}

func (s *seeder) runRows() iter.Seq[[]any] {
	return func(yield func([]any) bool) {
		for t := range s.threads() {
			for n := range s.size.RunsPerThread {
				if !yield(s.runRow(t, n)) {
					return
				}
			}
		}
	}
}

func (s *seeder) runRow(t thread, n int) []any {
	r := s.run(t, n)
	input := t.topic.input(s.fiction, r.agent)
	var output, failure any
	switch r.status {
	case "completed":
		output = t.topic.output(s.fiction, r.agent)
	case "failed":
		failure = one(s.fiction, failures)
	}
	metadata := fmt.Sprintf(`{"environment": %q, "model": %q}`, r.environment, t.model.name)
	if r.status == "processing" {
		metadata = fmt.Sprintf(`{"environment": %q, "model": %q, "worker": %q}`, r.environment, t.model.name, worker)
	}
	return []any{r.id, t.id, t.user, r.status, r.agent, input, output, failure, known(r.started), known(r.ended), r.created, metadata}
}

// known is a time, or NULL.
func known(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at
}

const (
	// block is how many events go into one insert.
	block = 100_000
	// seeded marks our events.
	seeded = `{"source": "netra seed"}`
)

// forget removes the events that an attempt which failed has left: they are marked as ours and of users whom PostgreSQL does not have.
func (s *seeder) forget(ctx context.Context) error {
	const ours = "workload_events WHERE user_id BETWEEN $1 AND $2 AND metadata = $3"
	arguments := []any{uint32(s.first), uint32(s.first + s.size.Users - 1), seeded}
	var left uint64
	if err := s.clickhouse.QueryRow(ctx, "SELECT count() FROM "+ours, arguments...).Scan(&left); err != nil {
		return err
	}
	if left == 0 {
		return nil
	}
	if err := s.clickhouse.Exec(ctx, "DELETE FROM aggregated_metrics WHERE user_id BETWEEN $1 AND $2 AND workload_id IN (SELECT workload_id FROM "+ours+")", arguments...); err != nil {
		return err
	}
	if err := s.clickhouse.Exec(ctx, "DELETE FROM "+ours, arguments...); err != nil {
		return err
	}
	s.say("removed %s events of an earlier attempt", grouped(int(left)))
	return nil
}

// report writes the events, block by block.
func (s *seeder) report(ctx context.Context) error {
	if s.size.Events == 0 {
		return nil
	}
	next, stop := iter.Pull(s.events())
	defer stop()
	progress := s.begin("events", s.size.Events)
	written := 0
	for written < s.size.Events {
		if err := writeEvents(ctx, s.clickhouse, func(yield func(event) bool) {
			for range block {
				e, ok := next()
				if !ok || !yield(e) {
					return
				}
				written++
			}
		}, seeded); err != nil {
			return fmt.Errorf("write events to ClickHouse: %w", err)
		}
		progress.at(written)
	}
	progress.done(written)
	return nil
}

// tidy does what bulk loading leaves undone: statistics and visibility for the planner, GIN's pending entries, the centroids of the index of
// embeddings, which were chosen when the table was empty.
func (s *seeder) tidy(ctx context.Context, conn *pgx.Conn) error {
	began := time.Now()
	for _, statement := range []string{
		`VACUUM (ANALYZE) users, threads, messages, runs, run_events, "references", supply_catalog, api_keys`,
		"REINDEX INDEX idx_references_embedding",
	} {
		s.interim("tidying up after loading")
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("tidy up after loading: %w", err)
		}
	}
	s.say("gathered statistics (%s)", time.Since(began).Round(10*time.Millisecond))
	return nil
}

func (s *seeder) say(format string, args ...any) {
	if s.cfg.Progress != nil {
		s.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

func (s *seeder) interim(line string) {
	if s.cfg.Interim != nil {
		s.cfg.Interim(line)
	}
}

// progress tells of one thing that takes time.
type progress struct {
	s           *seeder
	name        string
	total       int
	began, told time.Time
}

func (s *seeder) begin(name string, total int) *progress {
	return &progress{s, name, total, time.Now(), time.Now()}
}

// at looks at the clock only now and then: rows come faster than it is worth.
func (p *progress) at(n int) {
	if n%256 != 0 && p.name != "events" {
		return
	}
	tell, pause := p.s.cfg.Interim, 100*time.Millisecond
	if tell == nil {
		tell, pause = p.s.cfg.Progress, 2*time.Second
	}
	if tell == nil || time.Since(p.told) < pause {
		return
	}
	p.told = time.Now()
	tell(fmt.Sprintf("writing %s: %s of %s (%s)", p.name, grouped(n), grouped(p.total), p.rate(n)))
}

func (p *progress) done(n int) {
	p.s.say("wrote %s: %s (%s)", p.name, grouped(n), p.rate(n))
}

func (p *progress) rate(n int) string {
	return grouped(int(float64(n)/max(time.Since(p.began).Seconds(), 0.001))) + " a second"
}

// grouped is a number as people read it.
func grouped(n int) string {
	digits := fmt.Sprint(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}
