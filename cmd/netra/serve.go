package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/netra-ai/netra/server"
	"github.com/netra-ai/netra/store"
	"github.com/netra-ai/netra/web/playground"
)

// garbage is how much of it may be there before it is collected, in percent of what is live, unless GOGC says otherwise. Little is live in a server that
// keeps nothing: 20 MB, or 100 with a thousand sockets, where Go's own 100 percent would collect several times for each hundred requests.
const garbage = 400

func newServeCommand(cfg *config) *cobra.Command {
	address, grace := cfg.Addr, 10*time.Second
	var origins, proxies []string
	command := &cobra.Command{
		Use:   "serve",
		Short: "Serve the graph from the databases that the environment names",
		Long: `Serves /graphql, /ingest/events, the playground at /, /healthz, /readyz and /metrics, from the databases named by NETRA_DATABASE_URL (the
application's role) and NETRA_CLICKHOUSE_URL. Bearer tokens are signed with NETRA_SECRET. Events that have been
acknowledged wait for ClickHouse in NETRA_SPOOL_DIR, which must survive the process and is its own. Uploaded files are kept at
NETRA_OBJECTS_URL, which all replicas share. Texts are embedded by the OpenAI-compatible
endpoint of NETRA_EMBEDDINGS_URL, NETRA_EMBEDDINGS_MODEL and NETRA_EMBEDDINGS_KEY, if there is one. Any number of replicas may run side
by side. It starts although a database is away, says so at /readyz, and recovers by itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit, limitErr := spoolLimit(cfg.SpoolLimit)
			trusted, proxyErr := prefixes(proxies)
			endpoint, endpointErr := cfg.embeddings()
			files, filesErr := cfg.uploads()
			if err := errors.Join(
				checkURL("NETRA_DATABASE_URL", cfg.DatabaseURL, "postgres", "postgresql"),
				checkURL("NETRA_CLICKHOUSE_URL", cfg.ClickHouseURL, "http", "https", "clickhouse"),
				checkSecret("NETRA_SECRET", cfg.Secret),
				limitErr, proxyErr, endpointErr, filesErr,
			); err != nil {
				return err
			}
			keep, err := cfg.keepEvents()
			if err != nil {
				return err
			}
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(garbage)
			}
			lines, flush := logTogether(cmd.ErrOrStderr())
			defer flush()
			log := slog.New(server.LogHandler(lines))
			listener, err := listen(cmd.Context(), address)
			if err != nil {
				return err
			}
			defer listener.Close() // Serve has closed it, unless it was never reached
			r, err := assemble(assembly{
				databaseURL: cfg.DatabaseURL, clickHouseURL: cfg.ClickHouseURL, secret: []byte(cfg.Secret),
				spool: cfg.spool(), spoolLimit: limit, uploads: files,
				origins: origins, proxies: trusted, grace: grace, keepEvents: keep, embeddings: endpoint, log: log,
				playground: func(*store.Store) http.Handler { return playground.Handler(playground.Options{Log: log}) },
			})
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "netra: http://%s\n", listener.Addr()); err != nil {
				return fmt.Errorf("print the address: %w", err)
			}
			return errors.Join(r.serve(cmd.Context(), listener), r.close())
		},
	}
	command.Flags().StringVar(&address, "addr", address, "where to listen")
	command.Flags().DurationVar(&grace, "grace", grace, "how long requests and sockets may take to end")
	command.Flags().StringVar(&cfg.KeepEvents, "keep-events", cfg.KeepEvents, "how long changes of runs are kept, for clients to resume from (NETRA_KEEP_EVENTS)")
	command.Flags().StringArrayVar(&origins, "allow-origin", nil, "a page's origin that may read answers, such as https://app.example.com; may be repeated")
	command.Flags().StringArrayVar(&proxies, "trust-proxy", nil, "addresses, such as 10.0.0.0/8, of proxies whose X-Forwarded-For the audit log believes; may be repeated")
	return command
}

// prefixes reads --trust-proxy.
func prefixes(texts []string) ([]netip.Prefix, error) {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		var err error
		if list[i], err = netip.ParsePrefix(text); err != nil {
			return nil, fmt.Errorf("--trust-proxy %s is not a range of addresses such as 10.0.0.0/8", text)
		}
	}
	return list, nil
}
