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
	warm      time.Duration
	half      time.Duration // of measuring latency at half load
	growth    []int         // numbers of users
	only      []string      // contenders, all when empty
	workloads []workload
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
	p := plan{rounds: 3, round: 4 * time.Second, warm: time.Second, half: 5 * time.Second, growth: []int{10, 1_000, 10_000}, workloads: workloads}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.BoolVar(&p.quick, "quick", false, "three minutes: shorter rounds, fewer workloads, no growth")
	flags.StringVar(&p.out, "out", "", "the Markdown file whose measured part is replaced; without it the tables are only printed")
	flags.StringVar(&p.node, "node", "bench/peers/node", "where the Node peers and their packages are")
	flags.StringVar(&p.program, "netra", "bin/netra", "the binary to measure")
	only := flags.String("only", "", "contenders, separated by commas: netra, json, http, postgraphile, apollo, yoga, mercurius")
	named := flags.String("workload", "", "workloads, separated by commas")
	growth := flags.String("growth", "", "thousands of messages over which the reference query of netra is measured, separated by commas; 10,1000,10000 unless quick")
	rounds := flags.Int("rounds", 0, "how often each contender has its turn")
	file := flags.String("serve-file", "", "serve this file and measure nothing")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *file != "" {
		return serveFile(ctx, *file)
	}
	if p.quick {
		p.round, p.warm, p.half, p.growth = 2*time.Second, 500*time.Millisecond, 2*time.Second, nil
		p.workloads = []workload{reference, point}
	}
	if *growth != "" {
		p.growth = nil
		for _, text := range strings.Split(*growth, ",") {
			users, err := strconv.Atoi(text) // each has a thousand messages
			if err != nil || users < 1 {
				return fmt.Errorf("-growth %s: %q is not a number of thousands", *growth, text)
			}
			p.growth = append(p.growth, users)
		}
	}
	if *rounds > 0 {
		p.rounds = *rounds
	}
	if *only != "" {
		p.only = strings.Split(*only, ",")
	}
	if *named != "" {
		p.workloads = nil
		for _, name := range strings.Split(*named, ",") {
			for _, w := range workloads {
				if w.name == name {
					p.workloads = append(p.workloads, w)
				}
			}
		}
	}
	e := engines{os.Getenv("NETRA_OWNER_DATABASE_URL"), os.Getenv("NETRA_DATABASE_URL"), os.Getenv("NETRA_CLICKHOUSE_URL")}
	if e.ownerURL == "" || e.appURL == "" || e.clickHouseURL == "" {
		return fmt.Errorf("no engines: run `make bench`, or export what `netra engines` prints")
	}
	b := &bench{plan: p, engines: e}
	return b.run(ctx)
}
