package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/embedded"
)

// newClickHouseEngineCommand is what embedded.StartClickHouse calls this program as; nobody types it.
func newClickHouseEngineCommand(*config) *cobra.Command {
	var engine embedded.ClickHouseConfig
	command := &cobra.Command{
		Use:    "clickhouse-engine",
		Short:  "Run the embedded ClickHouse engine for the process that started this one",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			engine.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
			return embedded.ClickHouseChild(cmd.Context(), engine)
		},
	}
	command.Flags().StringVar(&engine.Dir, "dir", "", "data directory")
	command.Flags().IntVar(&engine.Port, "port", 0, "port on 127.0.0.1, 0 for any")
	command.Flags().StringVar(&engine.Library, "library", "", "path of libchdb")
	return command
}
