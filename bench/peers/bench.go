package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/netra-ai/netra/bench/proc"
	"github.com/netra-ai/netra/server"
)

// bench is one run of everything.
type bench struct {
	plan
	engines
	dir      string
	secret   string
	tokens   []string // of the users of the largest dataset, whose ids the others share
	postgres *postgres
	results  results
}

// results are the series by workload and contender, and what was measured on the side.
type results struct {
	began      time.Time
	took       time.Duration
	stolen     time.Duration // processor time that the host took meanwhile
	contenders []string      // in order of appearance
	series     map[string]map[string]*series
	memory     map[string]int // peak resident kB
	growth     []int          // numbers of messages
	same       float64        // requests a second, at which latency was measured of all
}

func (r *results) of(w, contender string) *series {
	if r.series[w] == nil {
		r.series[w] = map[string]*series{}
	}
	if r.series[w][contender] == nil {
		r.series[w][contender] = &series{}
		if !slices.Contains(r.contenders, contender) {
			r.contenders = append(r.contenders, contender)
		}
	}
	return r.series[w][contender]
}

func (b *bench) wants(contender string) bool {
	return len(b.only) == 0 || slices.Contains(b.only, contender)
}

// priced are the workloads on which netra is compared with itself without its parts.
var priced = []string{reference.name, point.name}

// times is how many rounds or slices a workload has. Those of which nothing is promised have one less.
func (w workload) times(n int) int {
	if slices.Contains(priced, w.name) {
		return n
	}
	return max(min(n, 1), n-1)
}

const (
	nameOurs     = "netra"
	nameBypass   = "netra without row-level security"
	nameBare     = "netra's graph without limits, hooks and metrics"
	nameSockets  = "netra with 1,000 subscriptions open"
	nameJSON     = "PostgreSQL's own JSON"
	nameHTTP     = "net/http from memory"
	tokenMinutes = 120
)

func (b *bench) run(ctx context.Context) (err error) {
	b.results = results{began: time.Now(), series: map[string]map[string]*series{}, memory: map[string]int{}}
	if b.results.stolen, err = proc.Stolen(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "netra-peers-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.secret = strings.Repeat("s", server.MinSecret)
	users := max(1_000, slices.Max(append(b.growth, 0)))
	for u := range users {
		token, err := server.NewToken([]byte(b.secret), firstUser+u, tokenMinutes*time.Minute)
		if err != nil {
			return err
		}
		b.tokens = append(b.tokens, token)
	}
	b.say("loading 1,000,000 messages, unless an earlier run did")
	data, err := openDataset(ctx, b.engines, 1_000)
	if err != nil {
		return err
	}
	if b.postgres, err = openPostgres(ctx, data.ownerURL); err != nil {
		return err
	}
	defer b.postgres.owner.Close()
	if b.flame != "" {
		return b.draw(ctx, data)
	}
	if err := b.race(ctx, data); err != nil {
		return err
	}
	if len(b.growth) > 0 {
		if err := b.grow(ctx); err != nil {
			return fmt.Errorf("growth: %w", err)
		}
	}
	b.results.took = time.Since(b.results.began)
	if now, err := proc.Stolen(); err == nil {
		b.results.stolen = now - b.results.stolen
	}
	return b.report()
}

func (b *bench) say(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "%7s "+format+"\n", append([]any{time.Since(b.results.began).Round(time.Second)}, arguments...)...)
}

// race measures all contenders on all workloads, in rounds in which each has its turn.
func (b *bench) race(ctx context.Context, data *dataset) (err error) {
	contenders, err := b.startAll(ctx, data)
	defer func() {
		for _, c := range contenders {
			err = errors.Join(err, c.stop())
		}
	}()
	if err != nil {
		return err
	}
	for i, w := range b.workloads {
		// Whoever has nothing more to do gives its connections back: PostgreSQL takes 200.
		contenders, err = b.dismiss(contenders, b.workloads[i:])
		if err != nil {
			return err
		}
		if err := b.raceOn(ctx, w, data, contenders); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if w.writes {
			if err := data.clean(ctx); err != nil {
				return err
			}
		}
	}
	contenders, err = b.dismiss(contenders, nil)
	return err
}

// dismiss stops those who take part in none of the workloads to come, and notes how much memory they had.
func (b *bench) dismiss(contenders []*contender, ahead []workload) (staying []*contender, err error) {
	for _, c := range contenders {
		if slices.ContainsFunc(ahead, c.takesPartIn) {
			staying = append(staying, c)
			continue
		}
		kilobytes, failure := proc.Status(c.pid, "VmHWM")
		b.results.memory[c.name] = kilobytes
		err = errors.Join(err, failure, c.stop())
	}
	return staying, err
}

func (b *bench) startAll(ctx context.Context, data *dataset) ([]*contender, error) {
	var contenders []*contender
	for _, own := range []struct {
		name, title, databaseURL string
		only                     []string
	}{
		{"netra", nameOurs, data.appURL, nil},
		// Whoever has the rights of the owner has BYPASSRLS: the same binary, queries and rows without the policies.
		{"bypass", nameBypass, data.ownerURL, priced},
		{"bare", nameBare, data.appURL, priced},
		{"sockets", nameSockets, data.appURL, []string{reference.name}},
	} {
		if !b.wants(own.name) {
			continue
		}
		start := b.startOurs
		if own.name == "bare" {
			start = b.startBare
		}
		c, err := start(ctx, own.title, data, own.databaseURL)
		if err != nil {
			return contenders, err
		}
		c.only = own.only
		contenders = append(contenders, c)
		if own.name == "sockets" {
			closeAll, err := openSockets(ctx, c, b.tokens)
			if err != nil {
				return contenders, fmt.Errorf("open sockets: %w", err)
			}
			stop := c.stop
			c.stop = func() error { closeAll(); return stop() }
		}
	}
	for _, peer := range nodePeers {
		if !b.wants(peer.name) {
			continue
		}
		c := &contender{name: peer.title, dialect: peer.dialect, data: data}
		if err := c.start(ctx, filepath.Join(b.dir, peer.name+".log"), []string{"NODE_ENV=production", "DATABASE_URL=" + data.appURL, "NETRA_SECRET=" + b.secret},
			filepath.Join(b.node, "node_modules", ".bin", "node"), filepath.Join(b.node, "server.js"), peer.name); err != nil {
			return contenders, err
		}
		contenders = append(contenders, c)
	}
	return contenders, nil
}

// nodePeers are servers that run on Node, by the name of their file.
var nodePeers = []struct {
	name, title string
	dialect     dialect
}{
	{"postgraphile", "PostGraphile", graphile},
	{"apollo", "Apollo Server", ours},
	{"yoga", "GraphQL Yoga", ours},
	{"mercurius", "Mercurius with JIT", ours},
}

func (b *bench) startOurs(ctx context.Context, name string, data *dataset, databaseURL string) (*contender, error) {
	c := &contender{name: name, data: data, counts: true}
	directory := filepath.Join(b.dir, strings.ReplaceAll(name, " ", "-"))
	return c, c.start(ctx, os.DevNull, []string{
		"NETRA_SECRET=" + b.secret, "NETRA_DATABASE_URL=" + databaseURL, "NETRA_CLICKHOUSE_URL=" + b.clickHouseURL, "NETRA_DATA_DIR=" + directory,
	}, b.program, "serve", "--addr", "127.0.0.1:0")
}

// startBare starts this program again as a server of our graph.
func (b *bench) startBare(ctx context.Context, name string, data *dataset, databaseURL string) (*contender, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &contender{name: name, data: data}
	return c, c.start(ctx, os.DevNull, []string{"NETRA_SECRET=" + b.secret, "NETRA_DATABASE_URL=" + databaseURL, "NETRA_CLICKHOUSE_URL=" + b.clickHouseURL}, program, "-serve-bare")
}

// turn is what a contender does in a workload.
type turn struct {
	name     string
	c        *contender // nil for pgbench
	requests [][]byte
	pgbench  *pgbench // nil for servers
}

// isPart is whether the turn is netra's without one of its parts.
func (t turn) isPart() bool { return t.name == nameBypass || t.name == nameBare }

func (t turn) saturate(ctx context.Context, duration time.Duration) (load, error) {
	if t.pgbench != nil {
		return t.pgbench.saturate(ctx)
	}
	return saturate(ctx, t.c.address, t.requests, duration)
}

// lead does what saturate will go on with, and what does not count.
func (t turn) lead(ctx context.Context, lead, round time.Duration) error {
	if t.pgbench != nil {
		return t.pgbench.begin(ctx, lead, round)
	}
	_, err := t.saturate(ctx, lead)
	return err
}

func (b *bench) raceOn(ctx context.Context, w workload, data *dataset, contenders []*contender) (err error) {
	turns, err := b.prepare(ctx, w, data, contenders)
	if err != nil {
		return err
	}
	if err := data.settle(ctx); err != nil {
		return err
	}
	if !w.writes && len(turns) > 0 && turns[0].c != nil { // what is met for the first time is the database's matter, and not that of whoever begins
		if err := askAll(ctx, turns[0].c.address, turns[0].requests); err != nil {
			return fmt.Errorf("%s: %w", turns[0].name, err)
		}
	}
	for _, t := range turns {
		if t.name == nameHTTP {
			defer func() { err = errors.Join(err, t.c.stop()) }()
		}
		if t.pgbench != nil {
			continue // each round begins anew
		}
		if _, err := t.saturate(ctx, b.warm); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if err := b.price(ctx, w, turns); err != nil {
		return err
	}
	turns = slices.DeleteFunc(turns, turn.isPart)
	for round := range w.times(b.rounds) {
		if w.writes {
			if err := data.settle(ctx); err != nil {
				return err
			}
		}
		slices.Reverse(turns) // nobody always comes after the same
		for _, t := range turns {
			s, err := b.measure(ctx, t, b.lead, b.round)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			series := b.results.of(w.name, t.name)
			series.samples = append(series.samples, s)
			b.say("%-10s round %d  %-34s %8.1f /s", w.name, round+1, t.name, s.perSecond)
		}
	}
	turns = slices.DeleteFunc(turns, func(t turn) bool { return t.c == nil || t.name == nameHTTP })
	if err := b.pace(ctx, w, data, turns); err != nil {
		return err
	}
	for _, t := range turns {
		series := b.results.of(w.name, t.name)
		if series.statements, series.trips, err = b.postgres.sides(ctx, t.c, t.requests); err != nil {
			return fmt.Errorf("%s: count statements: %w", t.name, err)
		}
	}
	return err
}

// pace measures latency at half load in short slices, so that what happens beside us on the machine meets everybody. Where a p99 is promised, it
// does so once more at a rate that is half load for the slowest and the same for all.
func (b *bench) pace(ctx context.Context, w workload, data *dataset, turns []turn) error {
	n, same := w.times(b.slices), 0.0
	if w.promised {
		n *= 2
		for i, t := range turns {
			if most := b.results.of(w.name, t.name).median(throughput); i == 0 || most/2 < same {
				same = most / 2
			}
		}
		b.results.same = same
	}
	for slice := range n {
		if w.writes {
			if err := data.settle(ctx); err != nil {
				return err
			}
		}
		for _, t := range turns {
			series := b.results.of(w.name, t.name)
			for _, at := range []struct {
				rate float64
				into *load
			}{{series.median(throughput) / 2, &series.half}, {same, &series.same}} {
				if at.rate == 0 {
					continue
				}
				l, err := pace(ctx, t.c.address, t.requests, at.rate, b.slice)
				if err != nil {
					return fmt.Errorf("%s at %.0f requests a second: %w", t.name, at.rate, err)
				}
				at.into.add(l)
			}
		}
		b.say("%-10s latency, slice %d of %d", w.name, slice+1, n)
	}
	return nil
}

// price measures ours beside ours without its parts. They differ by less than the machine's speed does from one second to the next, so their turns are
// short and many.
func (b *bench) price(ctx context.Context, w workload, turns []turn) error {
	turns = slices.DeleteFunc(slices.Clone(turns), func(t turn) bool { return t.name != nameOurs && !t.isPart() })
	if len(turns) < 2 {
		return nil
	}
	for range b.passes {
		rand.Shuffle(len(turns), func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
		for _, t := range turns {
			s, err := b.measure(ctx, t, b.pass/3, b.pass)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			series := b.results.of(priceOf(w), t.name)
			series.samples = append(series.samples, s)
		}
	}
	b.say("%-10s prices, %d short turns", w.name, b.passes)
	return nil
}

// priceOf is where results keeps what price measured.
func priceOf(w workload) string { return w.name + ": price" }

func (b *bench) measure(ctx context.Context, t turn, lead, round time.Duration) (sample, error) {
	if err := t.lead(ctx, lead, round); err != nil {
		return sample{}, err
	}
	pid, allocated := 0, func() (allocations, error) { return allocations{}, nil }
	if t.c != nil {
		pid, allocated = t.c.pid, func() (allocations, error) { return t.c.allocations(ctx) }
	}
	return b.postgres.round(ctx, pid, allocated, func() (load, error) { return t.saturate(ctx, round) })
}

// prepare checks that all give the same answers, and makes everybody's requests.
func (b *bench) prepare(ctx context.Context, w workload, data *dataset, contenders []*contender) ([]turn, error) {
	var turns []turn
	for _, c := range contenders {
		if !c.takesPartIn(w) {
			continue
		}
		requests, err := w.requests(c.dialect, data, b.tokens, c.address)
		if err != nil {
			return nil, err
		}
		turns = append(turns, turn{name: c.name, c: c, requests: requests})
	}
	var sample []byte
	for _, user := range []int{0, 1, 500, 999} {
		answers := map[string][]byte{}
		for _, t := range turns {
			answer, err := t.c.ask(t.requests[user])
			if err != nil {
				return nil, err
			}
			answers[t.name] = answer
			b.results.of(w.name, t.name).answer = len(answer)
		}
		if w.name == reference.name && b.wants("json") {
			answer, err := askPostgres(ctx, data, firstUser+user)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", nameJSON, err)
			}
			answers[nameJSON] = answer
			b.results.of(w.name, nameJSON).answer = len(answer)
			sample = answer
		}
		if err := compare(w, answers); err != nil {
			return nil, err
		}
		if answer, ok := answers[nameOurs]; ok {
			sample = answer
		}
	}
	if w.name != reference.name {
		return turns, nil
	}
	if b.wants("json") {
		program, err := newPgbench(ctx, data, b.dir)
		if err != nil {
			return nil, err
		}
		turns = append(turns, turn{name: nameJSON, pgbench: program})
	}
	if b.wants("http") {
		limit, err := b.serveAnswer(ctx, sample)
		if err != nil {
			return nil, err
		}
		requests, err := w.requests(ours, data, b.tokens, limit.address)
		if err != nil {
			return nil, err
		}
		b.results.of(w.name, nameHTTP).answer = len(sample)
		turns = append(turns, turn{name: nameHTTP, c: limit, requests: requests})
	}
	return turns, nil
}

// grow measures the reference query of ours over ever more rows, in rounds over the sizes.
func (b *bench) grow(ctx context.Context) (err error) {
	var turns []turn
	for _, users := range b.growth {
		b.say("loading %d messages, unless an earlier run did", users*threadsPerUser*messagesPerThread)
		data, err := openDataset(ctx, b.engines, users)
		if err != nil {
			return err
		}
		if data.plain() {
			defer func() { err = errors.Join(err, data.drop(context.WithoutCancel(ctx), b.engines)) }()
		}
		c, err := b.startOurs(ctx, growthName(data.messages()), data, data.appURL)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.stop()) }()
		requests, err := reference.requests(ours, data, b.tokens, c.address)
		if err != nil {
			return err
		}
		b.results.growth = append(b.results.growth, data.messages())
		turns = append(turns, turn{name: c.name, c: c, requests: requests})
	}
	// What is asked for the first time costs what a database costs that was just started. The first request of each user pays that, whatever the size.
	for _, t := range turns {
		if err := askAll(ctx, t.c.address, t.requests); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if _, err := t.saturate(ctx, b.warm); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	for range b.rounds {
		for _, t := range turns {
			s, err := b.measure(ctx, t, b.lead, b.round)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			series := b.results.of(growthSeries, t.name)
			series.samples = append(series.samples, s)
			b.say("%-10s %-34s %8.1f /s", growthSeries, t.name, s.perSecond)
		}
	}
	return nil
}

// growthSeries is where results keeps what grow measured.
const growthSeries = "growth"

func growthName(messages int) string { return fmt.Sprintf("%d messages", messages) }

// serveAnswer starts this program again as a server of one answer.
func (b *bench) serveAnswer(ctx context.Context, answer []byte) (*contender, error) {
	path := filepath.Join(b.dir, "answer.json")
	if err := os.WriteFile(path, answer, 0o600); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	limit := &contender{name: nameHTTP}
	return limit, limit.start(ctx, os.DevNull, nil, program, "-serve-file", path)
}
