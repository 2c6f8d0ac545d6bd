package embedded_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/embedded"
)

func TestEngines_StartTogetherAndStopTogether(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(directory(t), "made", "anew")
	engines, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, engines.Stop(context.Background())) })
	lives, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "postgres"), lives, "neither engine closes the directory to the other")

	reach := map[string]string{}
	for _, variable := range engines.Environment() {
		name, value, _ := strings.Cut(variable, "=")
		reach[name] = value
	}
	require.Len(t, reach, 3)
	require.Equal(t, "netra_app", text(t, connect(t, reach["NETRA_DATABASE_URL"]), "SELECT current_user::text"))
	require.Equal(t, "netra_owner", text(t, connect(t, reach["NETRA_OWNER_DATABASE_URL"]), "SELECT current_user::text"))
	options, err := clickhouse.ParseDSN(reach["NETRA_CLICKHOUSE_URL"])
	require.NoError(t, err)
	require.NoError(t, openEngine(t, options).Ping(t.Context()))

	require.NoError(t, engines.Stop(t.Context()))
	<-engines.Done()
	require.NoError(t, engines.Err())
	require.Empty(t, serverProcesses(t, dir))
}

func TestEngines_LeaveNothingRunningWhenOneCannotStart(t *testing.T) {
	t.Parallel()
	dir := directory(t)
	_, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Fast: true, ClickHouseLibrary: filepath.Join(dir, "absent.so")})
	require.ErrorContains(t, err, "start ClickHouse: ")
	require.Empty(t, serverProcesses(t, dir))
}
