package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/demo"
)

const (
	agentsRate        = 2.0
	agentsConcurrency = 8
)

func newAgentsCommand(cfg *config) *cobra.Command {
	rate := ratePerSecond(agentsRate)
	agents := demo.AgentsConfig{}
	command := &cobra.Command{
		Use:   "agents",
		Short: "Simulate agents that write straight to PostgreSQL and ClickHouse",
		Long: `Asks for runs on behalf of the demo users and takes pending runs to an end, with SQL of its own on NETRA_OWNER_DATABASE_URL and
events to NETRA_CLICKHOUSE_URL, as the platform's own agents do. Of the runs and messages that it has made it keeps the newest.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkURL("NETRA_OWNER_DATABASE_URL", cfg.OwnerDatabaseURL, "postgres", "postgresql"); err != nil {
				return err
			}
			if err := checkURL("NETRA_CLICKHOUSE_URL", cfg.ClickHouseURL, "http", "https", "clickhouse"); err != nil {
				return err
			}
			agents.OwnerURL, agents.ClickHouseURL, agents.Rate = cfg.OwnerDatabaseURL, cfg.ClickHouseURL, float64(rate)
			agents.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return demo.RunAgents(cmd.Context(), agents)
		},
	}
	command.Flags().Var(&rate, "rate", "runs that are asked for, like 2/s or 30/m")
	command.Flags().IntVar(&agents.Concurrency, "concurrency", agentsConcurrency, "agents that work at once")
	return command
}

// ratePerSecond is a flag like 2/s, 30/m or 100/h; a number alone is per second.
type ratePerSecond float64

func (r *ratePerSecond) Set(text string) error {
	number, unit, given := strings.Cut(text, "/")
	if !given {
		unit = "s"
	}
	count, err := strconv.ParseFloat(number, 64)
	span, known := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if err != nil || !known {
		return fmt.Errorf("%q is not like 2/s, 30/m or 100/h", text)
	}
	*r = ratePerSecond(count / span.Seconds())
	return nil
}

func (r *ratePerSecond) String() string { return strconv.FormatFloat(float64(*r), 'g', 4, 64) + "/s" }

func (r *ratePerSecond) Type() string { return "rate" }
