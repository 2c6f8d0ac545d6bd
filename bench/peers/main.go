// Peers measures this server beside others that answer the same questions from the same PostgreSQL, and beside what no server can exceed:
// PostgreSQL that makes the whole answer itself, and net/http that has it already. It writes docs/performance.md.
//
// It finds the engines in NETRA_DATABASE_URL, NETRA_OWNER_DATABASE_URL and NETRA_CLICKHOUSE_URL; `make bench` starts them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// engines are where the databases are.
type engines struct{ ownerURL, appURL, clickHouseURL string }

// plan is how long everything takes.
type plan struct {
	quick     bool
	rounds    int
	round     time.Duration
	warm      time.Duration // before the first round
	lead      time.Duration // before each round: what had been idle has its connections and caches again
	passes    int           // short rounds of ours beside ours without its parts
	pass      time.Duration
	slices    int // in which latency is measured, of each contender in turns; twice as many of a workload whose p99 is promised
	slice     time.Duration
	growth    []int    // numbers of users
	only      []string // contenders, all when empty
	workloads []workload
	flame     string // file
	out       string // file; nothing is written when empty
	node      string // directory of the installed packages of the Node peers
	program   string // the netra binary
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	p := plan{rounds: 4, round: 2200 * time.Millisecond, warm: 2 * time.Second, lead: 700 * time.Millisecond, passes: 20, pass: 600 * time.Millisecond, slices: 4, slice: 1250 * time.Millisecond, workloads: workloads}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.BoolVar(&p.quick, "quick", false, "three minutes: shorter rounds, fewer peers and workloads, no growth")
	flags.StringVar(&p.out, "out", "", "the Markdown file whose measured part is replaced; without it the tables are only printed")
	flags.StringVar(&p.node, "node", "bench/peers/node", "where the Node peers and their packages are")
	flags.StringVar(&p.program, "netra", "bin/netra", "the binary to measure")
	only := flags.String("only", "", "contenders, separated by commas: netra, bypass, sockets, bare, json, http, postgraphile, apollo, yoga, mercurius")
	named := flags.String("workload", "", "workloads, separated by commas: reference, point, totals, fan-in, mutation")
	growth := flags.String("growth", "", "thousands of messages over which the reference query of netra is measured, separated by commas; 10,1000,10000 when everything is measured")
	rounds := flags.Int("rounds", 0, "how often each contender has its turn at saturation")
	turns := flags.Int("slices", 0, "how often at half load; -1 for never")
	flags.StringVar(&p.flame, "flame", "", "an SVG to draw of where netra and PostgreSQL spend the time of reference queries; measures nothing. Needs perf")
	file := flags.String("serve-file", "", "serve this file and measure nothing")
	bare := flags.Bool("serve-bare", false, "serve our graph without our edge and measure nothing")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *file != "" {
		return serveFile(ctx, *file)
	}
	if *bare {
		return serveBare(ctx)
	}
	if p.quick {
		p.rounds, p.round, p.warm, p.lead, p.passes, p.slices, p.slice = 3, 1500*time.Millisecond, time.Second, 500*time.Millisecond, 8, 2, time.Second
		p.only = []string{"netra", "bypass", "bare", "json", "postgraphile", "mercurius"}
		p.workloads = []workload{reference, point}
	}
	switch {
	case *growth == "" && !p.quick && *only == "" && *named == "":
		p.growth = []int{10, 1_000, 10_000}
	case *growth != "":
		for _, text := range strings.Split(*growth, ",") {
			users, err := strconv.Atoi(text) // each has a thousand messages
			if err != nil || users < 1 {
				return fmt.Errorf("-growth %s: %q is not a number of thousands", *growth, text)
			}
			p.growth = append(p.growth, users)
		}
	}
	if *rounds > 0 {
		p.rounds, p.passes = *rounds, 6**rounds
	}
	if *turns != 0 {
		p.slices = max(0, *turns)
	}
	if *only != "" {
		p.only = strings.Split(*only, ",")
	}
	if *named != "" {
		p.workloads = nil
		for _, name := range strings.Split(*named, ",") {
			i := slices.IndexFunc(workloads, func(w workload) bool { return w.name == name })
			if i < 0 {
				return fmt.Errorf("-workload %s: there is no %q", *named, name)
			}
			p.workloads = append(p.workloads, workloads[i])
		}
	}
	e := engines{os.Getenv("NETRA_OWNER_DATABASE_URL"), os.Getenv("NETRA_DATABASE_URL"), os.Getenv("NETRA_CLICKHOUSE_URL")}
	if e.ownerURL == "" || e.appURL == "" || e.clickHouseURL == "" {
		return fmt.Errorf("no engines: run `make bench`, or export what `netra engines` prints")
	}
	b := &bench{plan: p, engines: e}
	return b.run(ctx)
}
