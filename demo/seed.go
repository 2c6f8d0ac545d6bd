package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/crypto/bcrypt"
)

// Size is how much of everything there is to be.
type Size struct {
	Users, ThreadsPerUser, MessagesPerThread, RunsPerThread, Events int
}

// DefaultSize loads in a few seconds.
var DefaultSize = Size{Users: 20, ThreadsPerUser: 25, MessagesPerThread: 30, RunsPerThread: 5, Events: 40_000}

// SeedConfig says where to put how much.
type SeedConfig struct {
	OwnerURL      string // of PostgreSQL; COPY needs an owner that row-level security does not apply to
	ClickHouseURL string
	Size          Size
	Seed          uint64       // the same seed gives the same data, but for times, which end now
	Progress      func(string) // a line as the work goes on; may be nil
}

// Seed fills an empty database. Runs are written in their last state, so that each has one row of history.
func Seed(ctx context.Context, cfg SeedConfig) (err error) {
	s := cfg.Size
	if s.Users < 3 || min(s.ThreadsPerUser, s.MessagesPerThread, s.RunsPerThread, s.Events) < 0 {
		return errors.New("a seed has at least 3 users, and not less than none of anything else")
	}
	conn, err := connect(ctx, cfg.OwnerURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	seeder := &seeder{cfg: cfg, fiction: newFiction(cfg.Seed), began: time.Now()}
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return seeder.postgres(ctx, tx) }); err != nil {
		return explain(err)
	}
	for _, table := range []string{"users", "threads", "messages", "runs"} {
		if _, err := conn.Exec(ctx, "ANALYZE "+table); err != nil {
			return fmt.Errorf("analyse %s: %w", table, err)
		}
	}
	if err := seeder.events(ctx); err != nil {
		return fmt.Errorf("write events to ClickHouse: %w", err)
	}
	return nil
}

func explain(err error) error {
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == "0A000" && strings.Contains(refused.Message, "row-level security") {
		return errors.New("the owner role lacks BYPASSRLS, which COPY needs: ALTER ROLE … BYPASSRLS as a superuser")
	}
	return err
}

type seeder struct {
	cfg SeedConfig
	*fiction
	began time.Time
	runs  []workload // what events are reported for: a bounded sample
}

// workload is a run as ClickHouse knows it.
type workload struct {
	id, thread uuid.UUID
	user       int
	agent      string
	status     string
	at         time.Time
}

const (
	sampled   = 20_000 // workloads kept for events
	demoUsers = 3
)

func (s *seeder) say(format string, args ...any) {
	if s.cfg.Progress != nil {
		s.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// copyRows streams n rows into a table, a line of progress every so often.
func (s *seeder) copyRows(ctx context.Context, tx pgx.Tx, table string, columns []string, n int, row func(i int) []any) error {
	began, told, i := time.Now(), time.Now(), 0
	rate := func() float64 { return float64(i) / max(time.Since(began).Seconds(), 0.001) }
	_, err := tx.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		if i == n {
			return nil, nil
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			s.say("seeding %s: %d of %d (%.0f/s)", table, i, n, rate())
		}
		i++
		return row(i - 1), nil
	}))
	if err != nil {
		return fmt.Errorf("copy %s: %w", table, err)
	}
	s.say("seeded %s: %d (%.0f/s)", table, n, rate())
	return nil
}

// thread is what its messages and runs need to know.
type thread struct {
	id      uuid.UUID
	created time.Time
	updated time.Time
}

func (s *seeder) postgres(ctx context.Context, tx pgx.Tx) error {
	var occupied bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM users)").Scan(&occupied); err != nil {
		return fmt.Errorf("look for users: %w", err)
	}
	if occupied {
		return errors.New("the database has users already: seed an empty one")
	}
	if err := s.users(ctx, tx); err != nil {
		return err
	}
	size := s.cfg.Size
	threads := make([]thread, size.Users*size.ThreadsPerUser)
	owner := func(thread int) int { return thread/size.ThreadsPerUser + 1 }
	if err := s.copyRows(ctx, tx, "threads", []string{"id", "user_id", "title", "status", "created_at", "updated_at", "metadata"}, len(threads), func(i int) []any {
		created := s.past(90)
		threads[i] = thread{s.id(), created, created.Add(time.Duration(s.Float64() * float64(min(s.now.Sub(created), 48*time.Hour))))}
		status := one(s.fiction, []string{"active", "active", "active", "active", "active", "active", "archived", "archived", "deleted"})
		return []any{threads[i].id, owner(i), s.title(), status, created, threads[i].updated, map[string]any{"priority": one(s.fiction, []string{"low", "normal", "high"}), "pinned": s.IntN(8) == 0}}
	}); err != nil {
		return err
	}
	if err := s.copyRows(ctx, tx, "messages", []string{"id", "thread_id", "user_id", "role", "content", "tokens_used", "model", "created_at", "metadata"}, len(threads)*size.MessagesPerThread, func(i int) []any {
		t, place := threads[i/size.MessagesPerThread], i%size.MessagesPerThread
		at := t.created.Add(t.updated.Sub(t.created) * time.Duration(place) / time.Duration(size.MessagesPerThread)).Truncate(time.Microsecond)
		role, content := "user", ""
		var tokens *int
		var model *string
		switch {
		case place == 0:
			role, content = "system", "You help the team of the "+one(s.fiction, places)+" to run its workloads well."
		case place%2 == 1:
			content = s.question()
		case s.IntN(5) == 0:
			role, content = "tool", fmt.Sprintf(`{"tool": %q, "rows": %d, "took_ms": %d}`, one(s.fiction, tools), s.IntN(500), 20+s.IntN(2000))
		default:
			n, name := 80+s.IntN(1500), one(s.fiction, modelNames)
			role, content, tokens, model = "assistant", s.answer(), &n, &name
		}
		return []any{s.id(), t.id, owner(i / size.MessagesPerThread), role, content, tokens, model, at, map[string]any{}}
	}); err != nil {
		return err
	}
	if err := s.copyRows(ctx, tx, "runs", []string{"id", "thread_id", "user_id", "status", "agent_type", "input_data", "output_data", "error_message", "started_at", "completed_at", "created_at", "metadata"},
		len(threads)*size.RunsPerThread, func(i int) []any { return s.run(threads[i/size.RunsPerThread], owner(i/size.RunsPerThread), i) }); err != nil {
		return err
	}
	return s.library(ctx, tx)
}

func (s *seeder) run(t thread, user, n int) []any {
	at := t.created.Add(time.Duration(s.Float64() * float64(t.updated.Sub(t.created)))).Truncate(time.Microsecond)
	w := workload{id: s.id(), thread: t.id, user: user, agent: one(s.fiction, agentTypes), at: at,
		status: one(s.fiction, []string{"completed", "completed", "completed", "completed", "completed", "completed", "completed", "failed", "cancelled", "pending"})}
	var output, failure, started, completed any
	if w.status != "pending" {
		began := at.Add(time.Duration(s.IntN(2000)) * time.Millisecond)
		started, completed = began, began.Add(time.Duration(500+s.IntN(60_000))*time.Millisecond)
	}
	switch w.status {
	case "completed":
		output = map[string]any{"summary": s.answer(), "saving_percent": s.IntN(60)}
	case "failed":
		failure = one(s.fiction, failures)
	}
	if len(s.runs) < sampled {
		s.runs = append(s.runs, w)
	} else if place := s.IntN(n + 1); place < sampled && (s.runs[place].user > demoUsers || user <= demoUsers) {
		s.runs[place] = w // the demo users' pages are the ones that are looked at
	}
	return []any{w.id, t.id, user, w.status, w.agent, map[string]any{"question": s.question(), "budget_usd": 1 + s.IntN(20)}, output, failure, started, completed, at, map[string]any{"environment": one(s.fiction, environments)}}
}

var environments = []string{"production", "production", "staging"}

func (s *seeder) users(ctx context.Context, tx pgx.Tx) error {
	hash, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.DefaultCost)
	if err != nil {
		return fmt.Errorf("hash the demo password: %w", err)
	}
	if err := s.copyRows(ctx, tx, "users", []string{"id", "email", "name", "password_hash", "oauth_provider", "oauth_id", "picture", "is_superuser", "created_at", "updated_at", "last_login_at", "metadata"}, s.cfg.Size.Users, func(i int) []any {
		first, last := one(s.fiction, firstNames), one(s.fiction, lastNames)
		email, name := fmt.Sprintf("%s.%s.%d@example.com", strings.ToLower(first), strings.ToLower(last), i+1), first+" "+last
		var password, provider, subject, picture any
		switch i {
		case 0:
			email, name = Alice, "Alice Example"
		case 1:
			email, name = Bob, "Bob Example"
		case 2:
			email, name = Admin, "Admin Example"
		default:
			provider, subject = one(s.fiction, []string{"google", "github"}), fmt.Sprint(100_000+i)
		}
		if i < demoUsers {
			password = string(hash)
		}
		created := s.now.AddDate(0, 0, -90-s.IntN(300))
		if i < demoUsers {
			created = s.now.AddDate(-2, 0, i) // in their order, before everybody else
		}
		return []any{i + 1, email, name, password, provider, subject, picture, email == Admin, created, created, s.past(7), map[string]any{"team": one(s.fiction, places), "theme": one(s.fiction, []string{"light", "dark"})}}
	}); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) FROM users"); err != nil {
		return fmt.Errorf("set the sequence of users: %w", err)
	}
	return nil
}

// library writes what there is little of: references, supply items and API keys.
func (s *seeder) library(ctx context.Context, tx pgx.Tx) error {
	batch := new(pgx.Batch)
	for user := 1; user <= min(s.cfg.Size.Users, 100); user++ {
		for range 2 {
			var embedding any // the rest wait for theirs, as they would in life
			if user <= demoUsers {
				embedding = s.embedding()
			}
			content := s.answer()
			batch.Queue(`INSERT INTO "references" (id, user_id, name, type, content, file_size, mime_type, embedding, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::vector, $9)`,
				s.id(), user, s.title()+".md", one(s.fiction, []string{"document", "dataset", "configuration"}), content, len(content), "text/markdown", embedding, s.past(60))
		}
	}
	for user := 1; user <= demoUsers; user++ {
		secret := sha256.Sum256([]byte(s.id().String())) // nobody knows the key: it shows in lists and signs nobody in
		batch.Queue("INSERT INTO api_keys (id, user_id, name, key_hash, created_at) VALUES ($1, $2, 'notebook', $3, $4)", s.id(), user, hex.EncodeToString(secret[:]), s.past(60))
	}
	for _, item := range supply {
		specifications, pricing, performance := map[string]any{"memory_gb": item.memory, "context_tokens": item.context}, map[string]any{"usd_per_hour": item.price}, map[string]any{"tokens_per_second": item.speed}
		batch.Queue("INSERT INTO supply_catalog (id, name, category, provider, specifications, pricing, availability, performance_metrics) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
			s.id(), item.name, item.category, item.provider, specifications, pricing, map[string]any{"regions": []string{"eu-west", "us-east"}}, performance)
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("write references, supply items and API keys: %w", err)
	}
	s.say("seeded references, supply items and API keys")
	return nil
}

var supply = []struct {
	name, category, provider string
	memory, context          int
	price                    float64
	speed                    int
}{
	{"a100-80gb", "compute", "aws", 80, 0, 4.1, 2400}, {"h100-80gb", "compute", "gcp", 80, 0, 9.8, 5200}, {"l4-24gb", "compute", "gcp", 24, 0, 0.7, 420},
	{"gpt-4o", "model", "openai", 0, 128_000, 0, 95}, {"gpt-4o-mini", "model", "openai", 0, 128_000, 0, 160}, {"claude-sonnet", "model", "anthropic", 0, 200_000, 0, 80},
	{"llama-3-70b", "model", "self-hosted", 160, 8_192, 8.2, 60}, {"vector-store-m", "storage", "aws", 64, 0, 0.9, 0}, {"object-storage", "storage", "gcp", 0, 0, 0.02, 0},
	{"egress-standard", "network", "aws", 0, 0, 0.09, 0},
}

// embedding is a unit vector as pgvector reads it.
func (s *seeder) embedding() string {
	values := make([]float32, 1536)
	for i := range values {
		values[i] = float32(s.NormFloat64() / 39.2)
	}
	raw, _ := json.Marshal(values) // numbers: cannot fail
	return string(raw)
}
