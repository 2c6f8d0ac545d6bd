package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/demo"
)

func newAgentsCommand(cfg *config) *cobra.Command {
	agents := demo.AgentsConfig{}
	command := &cobra.Command{
		Use:   "agents",
		Short: "Simulate agents that write straight to PostgreSQL and ClickHouse",
		Long: `Asks for runs on behalf of the demo users and takes pending runs to an end, with SQL of its own on NETRA_OWNER_DATABASE_URL and
events to NETRA_CLICKHOUSE_URL, as the platform's own agents do.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkURL("NETRA_OWNER_DATABASE_URL", cfg.OwnerDatabaseURL, "postgres", "postgresql"); err != nil {
				return err
			}
			if err := checkURL("NETRA_CLICKHOUSE_URL", cfg.ClickHouseURL, "http", "https", "clickhouse"); err != nil {
				return err
			}
			agents.OwnerURL, agents.ClickHouseURL = cfg.OwnerDatabaseURL, cfg.ClickHouseURL
			agents.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return demo.RunAgents(cmd.Context(), agents)
		},
	}
	command.Flags().Float64Var(&agents.Rate, "rate", agentsRate, "runs that are asked for each second")
	command.Flags().IntVar(&agents.Concurrency, "concurrency", agentsConcurrency, "agents that work at once")
	return command
}

const (
	agentsRate        = 1.0
	agentsConcurrency = 4
)
