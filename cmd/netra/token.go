package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
)

func newTokenCommand(cfg *config) *cobra.Command {
	var email string
	ttl := 24 * time.Hour
	command := &cobra.Command{
		Use:   "token --email ADDRESS",
		Short: "Print a bearer token for a user, for development",
		Long: `Prints a bearer token for a user whom it looks up in NETRA_DATABASE_URL, signed with NETRA_SECRET. Where these are not set it uses
those of the ` + "`netra dev`" + ` that runs on the same data directory.`,
		Example: `  netra token --email alice@example.com
  curl -H "Authorization: Bearer $(netra token --email alice@example.com)" -H 'Content-Type: application/json' \
    -d '{"query":"{ viewer { email } }"}' http://127.0.0.1:8080/graphql`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if ttl <= 0 {
				return fmt.Errorf("--ttl %s: a token lives for some time", ttl)
			}
			cfg, err := cfg.orDev()
			if err != nil {
				return err
			}
			if cfg.DatabaseURL == "" {
				return errors.New("NETRA_DATABASE_URL is not set and no `netra dev` runs on " + cfg.DataDir)
			}
			secret := cfg.Secret
			if secret == "" {
				path := filepath.Join(cfg.DataDir, secretFile)
				if secret, err = readSecret(path); errors.Is(err, fs.ErrNotExist) {
					return errors.New("NETRA_SECRET is not set and `netra dev` has made none in " + cfg.DataDir)
				}
			}
			if err = errors.Join(err, checkSecret("NETRA_SECRET", secret)); err != nil {
				return err
			}
			return printToken(cmd, cfg.DatabaseURL, []byte(secret), email, ttl)
		},
	}
	command.Flags().StringVar(&email, "email", "", "whose token")
	command.Flags().DurationVar(&ttl, "ttl", ttl, "how long it is good")
	cobra.CheckErr(command.MarkFlagRequired("email"))
	return command
}

func printToken(cmd *cobra.Command, databaseURL string, secret []byte, email string, ttl time.Duration) error {
	if err := checkURL("NETRA_DATABASE_URL", databaseURL, "postgres", "postgresql"); err != nil {
		return err
	}
	s, err := store.Open(store.Config{URL: databaseURL, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer s.Close() // it was only read from
	users, err := usersByEmail(cmd.Context(), s, email)
	if err != nil {
		return fmt.Errorf("look %s up: %w", email, err)
	}
	if len(users) == 0 {
		return fmt.Errorf("there is no user %s", email)
	}
	if !users[0].IsActive {
		return fmt.Errorf("the account of %s is not active", email)
	}
	token, err := server.NewToken(secret, users[0].DatabaseID, ttl)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
	return err
}

// usersByEmail gives those of the users who exist, the oldest first.
func usersByEmail(ctx context.Context, s *store.Store, emails ...string) ([]*models.User, error) {
	order := models.UserOrder{Field: models.UserCreatedAt, Direction: models.Ascending}
	page, err := models.NewPage(models.PageArguments{}, order.Order())
	if err != nil {
		return nil, err
	}
	return s.ListUsers(models.WithViewer(ctx, models.System), page, &models.UserFilter{Email: emails}, nil)
}
