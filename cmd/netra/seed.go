package main

import (
	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/demo"
)

func newSeedCommand(cfg *config) *cobra.Command {
	seed := demo.SeedConfig{Size: demo.DefaultSize}
	command := &cobra.Command{
		Use:   "seed",
		Short: "Fill an empty, migrated database with demo data of any size",
		Long: `Writes users, threads, messages, runs, references and a supply catalogue into PostgreSQL (NETRA_OWNER_DATABASE_URL) and workload events
into ClickHouse (NETRA_CLICKHOUSE_URL). The first users are alice@example.com, bob@example.com and the superuser admin@example.com,
whose password is ` + demo.Password + `: never seed a database that is not for development.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkURL("NETRA_OWNER_DATABASE_URL", cfg.OwnerDatabaseURL, "postgres", "postgresql"); err != nil {
				return err
			}
			if err := checkURL("NETRA_CLICKHOUSE_URL", cfg.ClickHouseURL, "http", "https", "clickhouse"); err != nil {
				return err
			}
			seed.OwnerURL, seed.ClickHouseURL = cfg.OwnerDatabaseURL, cfg.ClickHouseURL
			progress := newProgress(cmd.ErrOrStderr())
			seed.Progress = func(line string) { progress("%s", line) }
			return demo.Seed(cmd.Context(), seed)
		},
	}
	flags := command.Flags()
	flags.IntVar(&seed.Size.Users, "users", seed.Size.Users, "users, at least 3")
	flags.IntVar(&seed.Size.ThreadsPerUser, "threads-per-user", seed.Size.ThreadsPerUser, "threads of each user")
	flags.IntVar(&seed.Size.MessagesPerThread, "messages-per-thread", seed.Size.MessagesPerThread, "messages in each thread")
	flags.IntVar(&seed.Size.RunsPerThread, "runs-per-thread", seed.Size.RunsPerThread, "agent runs in each thread")
	flags.IntVar(&seed.Size.Events, "events", seed.Size.Events, "workload events in ClickHouse")
	flags.Uint64Var(&seed.Seed, "seed", 1, "the same seed gives the same data; times end now")
	return command
}
