package main_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEngines(t *testing.T) {
	t.Parallel()
	netra := buildNetra(t)

	t.Run("lend themselves to a command and pass on its status", func(t *testing.T) {
		t.Parallel()
		dir := reachableDirectory(t)
		for script, status := range map[string]int{
			`test -n "$NETRA_DATABASE_URL" -a -n "$NETRA_OWNER_DATABASE_URL" -a -n "$NETRA_CLICKHOUSE_URL"`: 0,
			"exit 7":     7,
			"kill -9 $$": 128 + 9,
		} {
			command := exec.Command(netra, "engines", "--fast", "--data-dir", dir, "--", "sh", "-c", script)
			output, _ := command.CombinedOutput()
			require.Equal(t, status, command.ProcessState.ExitCode(), "%s: %s", script, output)
		}
	})

	t.Run("print how to reach them and run until stopped", func(t *testing.T) {
		t.Parallel()
		command := exec.Command(netra, "engines", "--fast", "--data-dir", reachableDirectory(t))
		command.Stderr = os.Stderr
		output, err := command.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		t.Cleanup(func() { _ = command.Process.Kill() })
		lines := bufio.NewScanner(output)
		for _, name := range []string{"NETRA_DATABASE_URL=postgres://netra_app:", "NETRA_OWNER_DATABASE_URL=postgres://netra_owner:", "NETRA_CLICKHOUSE_URL=http://"} {
			require.True(t, lines.Scan())
			require.True(t, strings.HasPrefix(lines.Text(), name), lines.Text())
		}
		require.NoError(t, command.Process.Signal(syscall.SIGTERM))
		require.False(t, lines.Scan(), "nothing else is printed")
		require.NoError(t, command.Wait())
	})

	t.Run("end the command and its children when stopped", func(t *testing.T) {
		t.Parallel()
		dir := reachableDirectory(t)
		// The stubborn child ignores the signal that it is told to end with, and holds the pipe open for as long as it lives.
		command := exec.Command(netra, "engines", "--fast", "--data-dir", dir, "--", "sh", "-c", `(trap "" TERM; sleep 600) & echo started; wait`)
		reader, writer, err := os.Pipe()
		require.NoError(t, err)
		t.Cleanup(func() { _ = reader.Close() })
		command.Stdout = writer
		require.NoError(t, command.Start())
		t.Cleanup(func() { _ = command.Process.Kill() })
		require.NoError(t, writer.Close())
		output := bufio.NewReader(reader)
		line, err := output.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "started\n", line)

		require.NoError(t, command.Process.Signal(syscall.SIGTERM))
		require.Error(t, command.Wait())
		require.NoError(t, reader.SetReadDeadline(time.Now().Add(time.Minute)))
		rest, err := output.ReadString('\n')
		require.EqualError(t, err, "EOF", rest)
	})

	t.Run("say in one line why they cannot start", func(t *testing.T) {
		t.Parallel()
		for name, arguments := range map[string][]string{
			"a command without its dashes": {"engines", "true"},
			"a directory in use as a file": {"engines", "--data-dir", "/dev/null"},
		} {
			var output, errors bytes.Buffer
			command := exec.Command(netra, arguments...)
			command.Stdout, command.Stderr = &output, &errors
			require.Error(t, command.Run(), name)
			require.Empty(t, output.String(), name)
			require.Equal(t, 1, strings.Count(errors.String(), "netra: ")-strings.Count(errors.String(), "netra: starting"), errors.String())
		}
	})
}

// buildNetra makes the program anew: as the test's own binary it would lack main.
func buildNetra(t *testing.T) string {
	t.Helper()
	netra := filepath.Join(t.TempDir(), "netra")
	output, err := exec.Command("go", "build", "-buildvcs=false", "-o", netra, ".").CombinedOutput()
	require.NoError(t, err, "%s", output)
	return netra
}

// reachableDirectory is one that an unprivileged user can reach, which t.TempDir is not.
func reachableDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "netra-engines-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}
