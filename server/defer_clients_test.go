package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var deferClients = sync.OnceValue(func() error {
	if _, err := os.Stat("deferclient/node_modules/@apollo/client"); err == nil {
		return nil
	}
	install := exec.Command("npm", "ci")
	install.Dir = "deferclient"
	if output, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci in server/deferclient: %w\n%s", err, output)
	}
	return nil
})

// asking is a stock client in a Node process that asks one query; what it was given comes line by line.
func (e *edge) asking(t *testing.T, library, query string) <-chan string {
	t.Helper()
	require.NoError(t, deferClients())
	node := exec.CommandContext(t.Context(), "node", "deferclient/client.mjs", library, e.url+"/graphql", tokenOf(t, ordinary), query)
	node.Stderr = os.Stderr
	out, err := node.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, node.Start())
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() { _ = node.Wait() }) // it ends with the test
	return lines
}

func line(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case text, open := <-lines:
		require.True(t, open, "the client has ended")
		return text
	case <-time.After(2 * soon): // Node needs its time on a busy machine
		require.FailNow(t, "the client was given nothing")
		return ""
	}
}

func TestDeferClients_ShowTheFirstPartBeforeTheRest(t *testing.T) {
	t.Parallel()
	for _, library := range []string{"apollo", "urql"} {
		t.Run(library, func(t *testing.T) {
			t.Parallel()
			c := &charts{slow: newHeld()}
			lines := open(t, charting(c)).asking(t, library, `{viewer{__typename id email ...@defer(label:"chart"){`+chart("slow")+chart("away")+`}}}`)
			require.JSONEq(t, `{"data":{"viewer":{"__typename":"User","id":"VXNlcjox","email":"alice@example.com"}}}`, line(t, lines),
				"what is deferred is not there yet, and not null")
			within(t, c.slow.entered)
			close(c.slow.release)
			for complete := false; !complete; {
				text := line(t, lines)
				var result struct {
					Data  struct{ Viewer map[string]any }
					Error string
				}
				require.NoError(t, json.Unmarshal([]byte(text), &result))
				if _, complete = result.Data.Viewer["slow"]; complete {
					require.Contains(t, result.Data.Viewer, "away")
					require.Nil(t, result.Data.Viewer["away"])
					require.Contains(t, result.Error, "analytics cannot be reached now")
					require.Equal(t, "alice@example.com", result.Data.Viewer["email"])
				}
			}
		})
	}
}

func TestDeferClients_GraphiQLReadsEveryPart(t *testing.T) {
	t.Parallel()
	c := &charts{slow: newHeld()}
	lines := open(t, charting(c)).asking(t, "graphiql", `{viewer{email ...@defer(label:"chart"){`+chart("slow")+`}}}`)
	require.JSONEq(t, `{"data":{"viewer":{"email":"alice@example.com"}},"hasNext":true}`, line(t, lines))
	close(c.slow.release)
	require.JSONEq(t, `{"incremental":[{"data":{"slow":[{"metric":"slow","count":"1"}]},"path":["viewer"],"label":"chart"}],"hasNext":false}`, line(t, lines))
}
