package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/migrations"
)

func newMigrateCommand(cfg *config) *cobra.Command {
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Change the schema of PostgreSQL and ClickHouse, one version at a time",
		Long: `Changes the schema of both databases. They are the ones in NETRA_OWNER_DATABASE_URL (the owner's role, not the
application's) and NETRA_CLICKHOUSE_URL. Several processes may migrate at once: one works, the others wait for it.`,
	}
	command.AddCommand(
		newMigrateUpCommand(cfg),
		newMigrateDownCommand(cfg),
		newMigrateStatusCommand(cfg),
		newMigrateCreateCommand(),
	)
	return command
}

func newMigrateUpCommand(cfg *config) *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Apply what is pending to both databases",
		Long:  "Applies what is pending, first to PostgreSQL, then to ClickHouse, whose database it creates if need be.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			databases, err := openDatabases(cmd.Context(), cfg, func(ctx context.Context, url string) (*sql.DB, error) {
				return migrations.OpenClickHouse(ctx, url, migrations.OnCluster(cfg.ClickHouseCluster))
			})
			if err != nil {
				return err
			}
			defer databases.Close()
			return migrations.Up(cmd.Context(), databases.owner, databases.clickhouse, commandLog(cmd), migrations.OnCluster(cfg.ClickHouseCluster))
		},
	}
}

func newMigrateDownCommand(cfg *config) *cobra.Command {
	var database string
	command := &cobra.Command{
		Use:   "down",
		Short: "Undo one migration; the data in what it drops is lost",
		Long: `Undoes one migration: the newest applied one of the database given by --database, or without the flag the newest applied one
of both, by version. A version is the time at which the migration was created.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			which, err := databaseFlag(database)
			if err != nil {
				return err
			}
			databases, err := openDatabases(cmd.Context(), cfg, openClickHouse)
			if err != nil {
				return err
			}
			defer databases.Close()
			_, err = migrations.Down(cmd.Context(), databases.owner, databases.clickhouse, which, commandLog(cmd), migrations.OnCluster(cfg.ClickHouseCluster))
			return err
		},
	}
	command.Flags().StringVar(&database, "database", "", "postgres or clickhouse")
	return command
}

func newMigrateStatusCommand(cfg *config) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "List the migrations of both databases and when they were applied",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			databases, err := openDatabases(cmd.Context(), cfg, openClickHouse)
			if err != nil {
				return err
			}
			defer databases.Close()
			all, err := migrations.Status(cmd.Context(), databases.owner, databases.clickhouse)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "DATABASE\tVERSION\tNAME\tAPPLIED")
			for _, m := range all {
				applied := "pending"
				if !m.Pending() {
					applied = m.AppliedAt.UTC().Format(time.RFC3339)
				}
				fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", m.Database, m.Version, cmp.Or(m.Name, "(of a newer program)"), applied)
			}
			return table.Flush()
		},
	}
}

func newMigrateCreateCommand() *cobra.Command {
	var database, directory string
	command := &cobra.Command{
		Use:     "create NAME --database postgres|clickhouse",
		Short:   "Write an empty migration into the working tree",
		Long:    "Writes migrations/DATABASE/VERSION_NAME.sql, whose version is the current time, and prints its path.",
		Example: "  netra migrate create --database postgres add_feature_table",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			which, err := databaseFlag(database)
			if err != nil {
				return err
			}
			file, err := migrations.Create(directory, which, args[0], time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), file)
			return err
		},
	}
	command.Flags().StringVar(&database, "database", "", "postgres or clickhouse")
	command.Flags().StringVar(&directory, "dir", "migrations", "directory of the migrations in the working tree")
	cobra.CheckErr(command.MarkFlagRequired("database"))
	return command
}

func databaseFlag(value string) (migrations.Database, error) {
	switch database := migrations.Database(value); database {
	case "", migrations.Postgres, migrations.ClickHouse:
		return database, nil
	default:
		return "", fmt.Errorf("--database %q: postgres or clickhouse", value)
	}
}

// databases are connections with the right to change the schema.
type databases struct {
	owner, clickhouse *sql.DB
}

func (d *databases) Close() error {
	return errors.Join(d.owner.Close(), d.clickhouse.Close())
}

func openDatabases(ctx context.Context, cfg *config, openClickHouse func(context.Context, string) (*sql.DB, error)) (*databases, error) {
	if cfg.OwnerDatabaseURL == "" || cfg.ClickHouseURL == "" {
		return nil, errors.New("NETRA_OWNER_DATABASE_URL or NETRA_CLICKHOUSE_URL is not set: export what `netra engines` prints, or your servers' URLs")
	}
	owner, err := pgx.ParseConfig(cfg.OwnerDatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("NETRA_OWNER_DATABASE_URL: %w", err)
	}
	clickhouse, err := openClickHouse(ctx, cfg.ClickHouseURL)
	if err != nil {
		return nil, err
	}
	return &databases{owner: stdlib.OpenDB(*owner), clickhouse: clickhouse}, nil
}

// openClickHouse opens a database that need not exist.
func openClickHouse(_ context.Context, rawURL string) (*sql.DB, error) {
	options, err := clickhouse.ParseDSN(rawURL)
	if err != nil {
		return nil, fmt.Errorf("parse the ClickHouse URL: %w", err)
	}
	return clickhouse.OpenDB(options), nil
}

// commandLog is for commands that a person watches.
func commandLog(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
}
