// Command netra is the GraphQL backend-for-frontend of the Netra AI optimisation platform: server, development engines,
// migrations and demo data in one binary. Only this package reads the environment and constructs clients.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	if err := newRootCommand(configFromEnvironment()).ExecuteContext(ctx); err != nil {
		var status exitStatus
		if errors.As(err, &status) {
			os.Exit(int(status))
		}
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "netra:", err)
		}
		os.Exit(1)
	}
}

func newRootCommand(cfg *config) *cobra.Command {
	root := &cobra.Command{
		Use:           "netra",
		Short:         "GraphQL backend-for-frontend of the Netra AI optimisation platform",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		newDevCommand(cfg),
		newServeCommand(cfg),
		newMigrateCommand(cfg),
		newSeedCommand(cfg),
		newAgentsCommand(cfg),
		newTokenCommand(cfg),
		newEmbeddingsCommand(cfg),
		newEnginesCommand(cfg),
		newClickHouseEngineCommand(cfg),
	)
	return root
}
