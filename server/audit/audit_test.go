// Package audit_test runs the audits of the npm package graphql-http, which check what the specification of GraphQL over HTTP asks.
package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

func TestAudits(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	require.NoError(t, err, "the audits need node and npm: run `make setup`")
	install(t)
	s, err := server.New(server.Config{
		Resolvers: struct{ graph.ResolverRoot }{}, // the audits only ask for the schema
		Secret:    []byte("0123456789abcdef0123456789abcdef"),
		Authenticate: func(context.Context, int) (models.Viewer, error) {
			return models.Viewer{}, models.Errorf(models.Unauthenticated, "nobody")
		},
	})
	require.NoError(t, err)
	listener := httptest.NewServer(s.Handler())
	t.Cleanup(listener.Close)
	var failures bytes.Buffer
	command := exec.CommandContext(t.Context(), node, "audit.mjs", listener.URL+"/graphql")
	command.Stderr = &failures
	output, err := command.Output()
	require.NoError(t, err, failures.String())
	count := 0
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); count++ {
		var result struct{ ID, Name, Status, Reason string }
		require.NoError(t, json.Unmarshal(lines.Bytes(), &result), lines.Text())
		t.Run(result.ID+" "+result.Name, func(t *testing.T) {
			require.Equal(t, "ok", result.Status, result.Reason)
		})
	}
	require.Greater(t, count, 50)
}

// install does what is needed the first time, and after the lock file has changed.
func install(t *testing.T) {
	t.Helper()
	lock, err := os.ReadFile("package-lock.json")
	require.NoError(t, err)
	stamp := filepath.Join("node_modules", ".netra-lock")
	if installed, err := os.ReadFile(stamp); err == nil && bytes.Equal(installed, lock) {
		return
	}
	npm, err := exec.LookPath("npm")
	require.NoError(t, err, "the audits need node and npm: run `make setup`")
	output, err := exec.CommandContext(t.Context(), npm, "ci", "--no-audit", "--no-fund").CombinedOutput()
	require.NoError(t, err, "npm ci: %s", output)
	require.NoError(t, os.WriteFile(stamp, lock, 0o644))
}
