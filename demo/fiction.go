package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// kind keeps the rows of different tables apart in the source of chance.
type kind uint64

const (
	kindUser kind = iota + 1
	kindThread
	kindMessage
	kindRun
	kindEvent
	kindReference
	kindKey
	kindSupply
	kindTopic
)

// fiction is a source of believable values. It has no memory: what a row is follows from the seed, the table, the user and the row's
// number alone. So any row can be made again where another needs it, and no size needs memory.
type fiction struct {
	*rand.Rand
	source *rand.PCG
	seed   uint64
}

func newFiction(seed uint64) *fiction {
	source := rand.NewPCG(seed, 0)
	return &fiction{rand.New(source), source, seed}
}

// turn goes to the beginning of a row.
func (f *fiction) turn(k kind, user int, rows ...int) {
	state := mix(f.seed ^ mix(uint64(k)<<48^uint64(user)))
	var n uint64
	for _, row := range rows {
		n = mix(n ^ uint64(row))
	}
	f.source.Seed(state, n)
}

// mix is splitmix64's finalizer: neighbours come out far apart, and no two numbers alike.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// id is a UUID of version 4. The plain array takes pgx's fast way.
func (f *fiction) id() (id [16]byte) {
	for half := range 2 {
		for i, x := 0, f.Uint64(); i < 8; i, x = i+1, x>>8 {
			id[half*8+i] = byte(x)
		}
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

func one[T any](f *fiction, list []T) T { return list[f.IntN(len(list))] }

// about is a positive number that varies around a median, seldom far above it.
func (f *fiction) about(median, spread float64) float64 {
	return median * math.Exp(f.NormFloat64()*spread)
}

func (f *fiction) share(d time.Duration) time.Duration {
	return time.Duration(f.Float64() * float64(d))
}

// The lengths of the two lists have no common divisor, so that user n has a full name of their own for the first 1,517 of them.
var (
	firstNames = []string{
		"Ada", "Grace", "Linus", "Barbara", "Ken", "Margaret", "Edsger", "Radia", "Donald", "Frances", "Alan", "Hedy", "Niklaus", "Sophie",
		"Tim", "Joan", "Amara", "Kenji", "Priya", "Mateo", "Ingrid", "Omar", "Yuki", "Chloe", "Tomasz", "Zainab", "Lars", "Mei", "Diego", "Noor",
		"Elif", "Kwame", "Anna", "Ravi", "Lucia", "Pavel", "Nia", "Jonas", "Leila", "Bruno", "Salma",
	}
	lastNames = []string{
		"Lovell", "Hoppner", "Torvik", "Lindqvist", "Tompsett", "Hamlin", "Dykstra", "Perlov", "Knutsen", "Allende", "Turner", "Lamar", "Wirtz",
		"Willson", "Bernard", "Clarkson", "Okafor", "Tanaka", "Sharma", "Rossi", "Berg", "Haddad", "Sato", "Moreau", "Nowak", "Bello", "Holm",
		"Chen", "Vega", "Rahman", "Demir", "Mensah", "Keller", "Iyer", "Costa", "Novak", "Achebe",
	}
	companies = []string{"northwind", "halden-labs", "brightloop", "orchard-ai", "meridian", "tallgrass", "quayside", "fernhill"}

	subjects = []string{
		"inference latency", "token spend", "GPU utilisation", "cold-start time", "batch size", "cache hit rate", "prompt length",
		"fallback routing", "retry rate", "embedding backfill time", "context window use", "error rate", "queue depth", "throughput",
	}
	places = []string{
		"checkout assistant", "support triage", "search ranking", "fraud review", "document intake", "sales copilot", "code review bot",
		"data pipeline", "onboarding guide", "contract reader", "voice agent", "recommendation feed",
	}
	verbs        = []string{"Reduce", "Explain", "Compare", "Forecast", "Investigate", "Plan for", "Review", "Cap", "Benchmark", "Report on"}
	environments = []string{"production", "production", "production", "staging", "development"}
	channels     = []string{"web", "web", "web", "slack", "api"}
	priorities   = []string{"low", "normal", "normal", "high"}
	regions      = []string{"eu-west-1", "us-east-1", "us-west-2", "ap-southeast-1"}
	tools        = []string{"query_metrics", "read_logs", "estimate_cost", "list_deployments", "run_benchmark"}
	agentTypes   = []string{"triage", "data", "optimizations", "actions", "reporting"}
	failures     = []string{
		"model provider answered 429 three times in a row",
		"tool query_metrics timed out after 30 s",
		"context of 131072 tokens exceeded",
		"no data for the period asked for",
		"deployment is locked by a release in progress",
		"tool run_benchmark: connection reset by peer",
	}
)

// model is a language model with its price in USD per million tokens.
type model struct {
	name          string
	input, output float64
	latency       float64 // milliseconds, median
}

var languageModels = []model{
	{"gpt-4o", 2.5, 10, 1450},
	{"gpt-4o-mini", 0.15, 0.6, 620},
	{"claude-sonnet", 3, 15, 1700},
	{"claude-haiku", 0.8, 4, 540},
	{"llama-3-70b", 0.6, 0.8, 980},
}

// topic is what a conversation is about.
type topic struct {
	subject, place string
}

func (f *fiction) topic() topic { return topic{one(f, subjects), one(f, places)} }

// topicOf is what a question is about, where it names it.
func (f *fiction) topicOf(question string) topic {
	t := f.topic()
	for _, subject := range subjects {
		if strings.Contains(question, subject) {
			t.subject = subject
		}
	}
	for _, place := range places {
		if strings.Contains(question, place) {
			t.place = place
		}
	}
	return t
}

func (t topic) title(f *fiction) string {
	return one(f, verbs) + " " + t.subject + " of the " + t.place
}

// Templates are given the subject, the place, a percentage, a model and a count of days. Each must name at least one of them.
func (t topic) say(f *fiction, template string) string {
	return fmt.Sprintf(template, t.subject, t.place, 4+f.IntN(58), one(f, languageModels).name, 2+f.IntN(27))
}

var (
	opening = []string{
		"Why has the %[1]s of the %[2]s changed since last week?",
		"Can we improve the %[1]s of the %[2]s by %[3]d %% without losing quality?",
		"Show me the %[1]s of the %[2]s for the last %[5]d days, by model.",
		"What would the %[1]s of the %[2]s look like if we moved it to %[4]s?",
	}
	following = []string{
		"And how does %[4]s compare on the same traffic?",
		"Please break the %[1]s down by hour for the last %[5]d days.",
		"Is this the same in staging, or only where the %[2]s has real traffic?",
		"What is the cheapest change that gets us %[3]d %%?",
		"Good. Try it on %[3]d %% of the requests and report back.",
		"Which prompts of the %[2]s are the worst?",
		"Thanks. Could you write that up for the team of the %[2]s?",
		"Are you sure? The dashboard of the %[2]s shows something else.",
	}
	findings = []string{
		"Over the last %[5]d days the %[1]s of the %[2]s moved by %[3]d %%, mostly with traffic.",
		"Two deployments stand out: both send everything to %[4]s, whatever the length of the prompt.",
		"The likely cause is a cold cache: after each release the first minutes of the %[2]s account for %[3]d %% of it.",
		"The median is steady; the 95th percentile of the %[2]s is what has grown.",
		"%[4]s would answer the short requests as well and cost %[3]d %% less.",
		"Retries add %[3]d %% to the %[1]s, nearly all of them within the first %[5]d seconds.",
		"I see no change in staging, so the prompts of real users of the %[2]s matter here.",
		"System prompts take %[3]d %% of the input tokens of the %[2]s and hardly ever change.",
	}
	advice = []string{
		"I suggest to route short prompts to %[4]s and to look again in %[5]d days.",
		"Batching the nightly part of the %[2]s would save %[3]d %% on its own.",
		"Caching the system prompt is the smallest change: about %[3]d %% of the %[1]s.",
		"Shall I apply it to %[3]d %% of the traffic of the %[2]s first?",
		"I would leave it as it is: the gain in %[1]s is within the noise.",
		"Next I can compare %[4]s on a sample of %[5]d00 requests.",
	}
)

func (t topic) question(f *fiction, first bool) string {
	if first {
		return t.say(f, one(f, opening))
	}
	return t.say(f, one(f, following))
}

func (t topic) answer(f *fiction) string {
	var text strings.Builder
	at := f.IntN(len(findings))
	for i := range 1 + f.IntN(3) {
		text.WriteString(t.say(f, findings[(at+i*3)%len(findings)]))
		text.WriteByte(' ')
	}
	text.WriteString(t.say(f, one(f, advice)))
	return text.String()
}

// toolResult is what a tool hands back to the model: JSON.
func (t topic) toolResult(f *fiction, tool string) string {
	return fmt.Sprintf(`{"tool": %q, "metric": %q, "rows": %d, "took_ms": %d, "change_percent": %.1f}`,
		tool, t.subject, f.IntN(500), int(f.about(240, 0.8)), f.NormFloat64()*12)
}

// input is what an agent of a type is given: JSON, as output is.
func (t topic) input(f *fiction, agent string) string {
	detail := ""
	switch agent {
	case "triage":
		detail = fmt.Sprintf(`"channel": %q`, one(f, channels))
	case "data":
		detail = fmt.Sprintf(`"period_days": %d, "tools": [%q, "query_metrics"]`, 1+f.IntN(30), one(f, tools[1:]))
	case "optimizations":
		detail = fmt.Sprintf(`"goal": "cost", "budget_usd": %d, "max_latency_ms": %d`, 50*(1+f.IntN(40)), 100*(2+f.IntN(30)))
	case "actions":
		detail = fmt.Sprintf(`"dry_run": %t, "region": %q`, f.IntN(3) > 0, one(f, regions))
	default:
		detail = fmt.Sprintf(`"format": "markdown", "period_days": %d`, 7*(1+f.IntN(4)))
	}
	return fmt.Sprintf(`{"question": %q, "workload": %q, %s}`, t.question(f, true), t.place, detail)
}

func (t topic) output(f *fiction, agent string) string {
	detail := ""
	switch agent {
	case "triage":
		detail = fmt.Sprintf(`"intent": %q, "confidence": %.2f, "next_agent": %q`, t.subject, 0.6+0.4*f.Float64(), one(f, agentTypes[1:]))
	case "data":
		detail = fmt.Sprintf(`"rows": %d, "median": %.1f, "p95": %.1f`, int(f.about(4000, 1)), f.about(300, 0.4), f.about(1400, 0.5))
	case "optimizations":
		detail = fmt.Sprintf(`"saving_percent": %d, "saving_usd": %.2f, "recommended_model": %q`, 4+f.IntN(58), f.about(120, 0.9), one(f, languageModels).name)
	case "actions":
		detail = fmt.Sprintf(`"applied": %t, "changes": %d`, f.IntN(4) > 0, 1+f.IntN(5))
	case "reporting":
		detail = fmt.Sprintf(`"sections": %d, "words": %d`, 2+f.IntN(5), int(f.about(600, 0.5)))
	default: // a run that somebody else has asked for may be of any type, or of none
		detail = fmt.Sprintf(`"steps": %d`, 1+f.IntN(5))
	}
	return fmt.Sprintf(`{"summary": %q, %s}`, t.say(f, one(f, findings)), detail)
}
