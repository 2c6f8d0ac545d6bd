// Package demo makes believable data of any size, and simulated agents: programs that, like the platform's own, write straight to the
// databases and know nothing of the server.
package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The demo users are the first three of every seeded database. They have one password, for development only.
const (
	Alice    = "alice@example.com"
	Bob      = "bob@example.com"
	Admin    = "admin@example.com" // a superuser
	Password = "netra-demo"
)

// connect opens a connection that sees every tenant.
func connect(ctx context.Context, ownerURL string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(ownerURL)
	if err != nil {
		return nil, errors.New("parse the owner's URL of PostgreSQL: it is malformed") // the cause repeats the password
	}
	cfg.RuntimeParams["netra.superuser"] = "on"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

// Empty says whether the database has no users yet.
func Empty(ctx context.Context, ownerURL string) (empty bool, err error) {
	conn, err := connect(ctx, ownerURL)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT FROM users)").Scan(&empty); err != nil {
		return false, fmt.Errorf("look for users: %w", err)
	}
	return empty, nil
}

// fiction is a source of believable values, the same for the same seed.
type fiction struct {
	*rand.Rand
	now time.Time
}

func newFiction(seed uint64) *fiction {
	return &fiction{rand.New(rand.NewPCG(seed, 0x6e65747261)), time.Now().UTC().Truncate(time.Millisecond)}
}

func one[T any](f *fiction, list []T) T { return list[f.IntN(len(list))] }

func (f *fiction) id() uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(f.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
	return id
}

// past is a time within so many days, more often a recent one.
func (f *fiction) past(days float64) time.Time {
	x := f.Float64()
	return f.now.Add(-time.Duration(x * x * days * float64(24*time.Hour))).Truncate(time.Millisecond)
}

var (
	firstNames = []string{"Ada", "Grace", "Linus", "Barbara", "Ken", "Margaret", "Edsger", "Radia", "Donald", "Frances", "Alan", "Hedy", "Niklaus", "Sophie", "Tim", "Joan"}
	lastNames  = []string{"Lovell", "Hoppner", "Torvik", "Lindqvist", "Tompsett", "Hamlin", "Dykstra", "Perlov", "Knutsen", "Allende", "Turner", "Lamar", "Wirtz", "Willson", "Bernard", "Clarkson"}
	subjects   = []string{"inference latency", "token spend", "GPU utilisation", "cold starts", "batch sizes", "cache hit rate", "prompt length", "fallback routing", "nightly evaluation", "retry storms", "embedding backfill", "context windows"}
	places     = []string{"checkout assistant", "support triage", "search ranking", "fraud review", "document intake", "sales copilot", "code review bot", "data pipeline"}
	verbs      = []string{"Reduce", "Explain", "Compare", "Forecast", "Investigate", "Plan for", "Review", "Cap"}
	agentTypes = []string{"triage", "data", "optimizations", "actions", "reporting"}
	modelNames = []string{"gpt-4o", "gpt-4o-mini", "claude-sonnet", "claude-haiku", "llama-3-70b"}
	tools      = []string{"query_metrics", "read_logs", "estimate_cost", "list_deployments", "run_benchmark"}
	failures   = []string{"model provider answered 429 three times", "tool query_metrics timed out after 30 s", "context of 131072 tokens exceeded", "no data for the period asked"}
	questions  = []string{
		"Why did %s of the %s rise since Monday?", "Can we halve %s of the %s without losing quality?",
		"Show me %s for the %s, by model.", "What would %s of the %s cost us next quarter?",
	}
	answers = []string{
		"Over the last seven days %s of the %s moved mostly with traffic; two deployments stand out.",
		"I compared three configurations. The cheapest keeps %s of the %s within its target at 38 %% less.",
		"There is one likely cause: since the last release %s of the %s doubles whenever the cache is cold.",
		"Here is the plan for %s of the %s: route short prompts to the small model, batch the rest, and re-check tomorrow.",
	}
)

func (f *fiction) title() string {
	return fmt.Sprintf("%s %s of the %s", one(f, verbs), one(f, subjects), one(f, places))
}

func (f *fiction) question() string {
	return fmt.Sprintf(one(f, questions), one(f, subjects), one(f, places))
}

func (f *fiction) answer() string {
	sentences := make([]string, 1+f.IntN(4))
	for i := range sentences {
		sentences[i] = fmt.Sprintf(one(f, answers), one(f, subjects), one(f, places))
	}
	return strings.Join(sentences, " ")
}
