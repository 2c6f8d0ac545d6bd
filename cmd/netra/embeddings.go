package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

func newEmbeddingsCommand(cfg *config) *cobra.Command {
	command := &cobra.Command{
		Use:   "embeddings",
		Short: "Tell how far the embeddings of references are, and have them made anew",
		Long: `Works on the database in NETRA_DATABASE_URL, or where it is not set on that of the ` + "`netra dev`" + ` that runs on the same data directory. The
work itself is done by the replicas that serve with an endpoint (NETRA_EMBEDDINGS_URL).`,
	}
	command.AddCommand(
		&cobra.Command{
			Use:   "status",
			Short: "Count references by how far their embeddings are; reads them all",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withStore(cmd.Context(), cfg, func(ctx context.Context, s *store.Store) error {
					model, counts, err := s.EmbeddingStates(ctx)
					if err != nil {
						return err
					}
					table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
					fmt.Fprintf(table, "model\t%s\n", model)
					for _, status := range []models.EmbeddingStatus{models.EmbeddingReady, models.EmbeddingPending, models.EmbeddingFailed, models.EmbeddingNone} {
						fmt.Fprintf(table, "%s\t%d\n", status, counts[status])
					}
					return table.Flush()
				})
			},
		},
		&cobra.Command{
			Use:   "rebuild",
			Short: "Embed everything anew, with the model in NETRA_EMBEDDINGS_MODEL",
			Long: `Makes NETRA_EMBEDDINGS_MODEL the model that embeds, for all replicas, and has them embed anew what was embedded or refused before. Until a
reference's turn comes it keeps its embedding, which searches for a text compare only with their own model's. Replicas that are configured
for another model stop embedding references and say so in the log. Embeddings that writers gave stay.`,
			Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if !namesModel(cfg.EmbeddingsModel) {
					return errors.New("NETRA_EMBEDDINGS_MODEL is not the name of a model")
				}
				return withStore(cmd.Context(), cfg, func(ctx context.Context, s *store.Store) error {
					return s.SetEmbeddingModel(ctx, cfg.EmbeddingsModel)
				})
			},
		},
		&cobra.Command{
			Use:   "retry",
			Short: "Try those again that could not be embedded",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				return withStore(cmd.Context(), cfg, func(ctx context.Context, s *store.Store) error {
					n, err := s.RetryEmbeddings(ctx)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintln(cmd.OutOrStdout(), n)
					return err
				})
			},
		},
	)
	return command
}

// withStore works on the database for everybody's references.
func withStore(ctx context.Context, cfg *config, work func(context.Context, *store.Store) error) error {
	cfg, err := cfg.orDev()
	if err != nil {
		return err
	}
	if err := checkURL("NETRA_DATABASE_URL", cfg.DatabaseURL, "postgres", "postgresql"); err != nil {
		return err
	}
	s, err := store.Open(store.Config{URL: cfg.DatabaseURL, StatementTimeout: time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(work(models.WithViewer(ctx, models.System), s), s.Close())
}
