package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/netra-ai/netra/demo"
)

func newSeedCommand(cfg *config) *cobra.Command {
	seed := demo.SeedConfig{Size: demo.DefaultSize}
	command := &cobra.Command{
		Use:   "seed",
		Short: "Fill a migrated database with demo data of any size",
		Long: `Writes users, threads, messages, runs, references, API keys and a supply catalogue into PostgreSQL (NETRA_OWNER_DATABASE_URL) and
workload events into ClickHouse (NETRA_CLICKHOUSE_URL). The first users are alice@example.com, bob@example.com and the superuser
admin@example.com, whose password is ` + demo.Password + `: never seed a database that is not for development.

The database must have no users, or --append adds others to them. Stopped half-way it leaves nothing behind in PostgreSQL, and
what it has left in ClickHouse is removed the next time.`,
		Example: `  netra seed --users 100 --threads-per-user 100 --messages-per-thread 100 --events 1000000`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkURL("NETRA_OWNER_DATABASE_URL", cfg.OwnerDatabaseURL, "postgres", "postgresql"); err != nil {
				return err
			}
			if err := checkURL("NETRA_CLICKHOUSE_URL", cfg.ClickHouseURL, "http", "https", "clickhouse"); err != nil {
				return err
			}
			seed.OwnerURL, seed.ClickHouseURL = cfg.OwnerDatabaseURL, cfg.ClickHouseURL
			lines := &progressLines{out: cmd.ErrOrStderr(), began: time.Now()}
			seed.Progress = lines.add
			if file, ok := cmd.ErrOrStderr().(*os.File); ok && isTerminal(file) {
				seed.Interim = lines.replace
			}
			err := demo.Seed(cmd.Context(), seed)
			lines.clear()
			return err
		},
	}
	flags := command.Flags()
	flags.IntVar(&seed.Size.Users, "users", seed.Size.Users, "users, the three demo users among them")
	flags.IntVar(&seed.Size.ThreadsPerUser, "threads-per-user", seed.Size.ThreadsPerUser, "threads of each user")
	flags.IntVar(&seed.Size.MessagesPerThread, "messages-per-thread", seed.Size.MessagesPerThread, "messages in each thread")
	flags.IntVar(&seed.Size.RunsPerThread, "runs-per-thread", seed.Size.RunsPerThread, "agent runs in each thread")
	flags.IntVar(&seed.Size.Events, "events", seed.Size.Events, "workload events in ClickHouse")
	flags.Uint64Var(&seed.Seed, "seed", 1, "the same seed gives the same data; times end now")
	flags.BoolVar(&seed.Append, "append", false, "add users to those that the database has")
	return command
}

// progressLines are what a person watches: lines that stay, and on a terminal one more that changes.
type progressLines struct {
	out     io.Writer
	began   time.Time
	changed bool
}

const eraseLine = "\r\x1b[K"

func (p *progressLines) add(line string) {
	p.clear()
	p.print(line, "\n")
}

func (p *progressLines) replace(line string) {
	p.clear()
	p.print(line, "")
	p.changed = true
}

func (p *progressLines) clear() {
	if p.changed {
		_, _ = io.WriteString(p.out, eraseLine)
		p.changed = false
	}
}

func (p *progressLines) print(line, end string) {
	_, _ = fmt.Fprintf(p.out, "netra: %5.1f s  %s%s", time.Since(p.began).Seconds(), line, end) // nobody to tell
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
