package main

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pieces is what was written, each time.
type pieces struct {
	mu  sync.Mutex
	all []string
}

func (p *pieces) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, string(text))
	return len(text), nil
}

func TestLog_LinesAreWrittenTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var written pieces
		handler, flush := logTogether(&written)
		log := slog.New(handler)
		count := func() int {
			synctest.Wait()
			written.mu.Lock()
			defer written.mu.Unlock()
			return strings.Count(strings.Join(written.all, ""), "\n")
		}

		log.Info("one")
		log.Info("two")
		require.Zero(t, count())
		time.Sleep(logDelay)
		require.Equal(t, 2, count())
		require.Len(t, written.all, 1, "at once, and soon")

		log.Info("three")
		log.With("a", 1).WithGroup("b").Warn("four", "c", 2)
		require.Equal(t, 4, count(), "a warning does not wait, nor does what came before it")
		require.Contains(t, written.all[1], `"msg":"three"`)
		require.Contains(t, written.all[1], `"a":1,"b":{"c":2}`)

		for range 1 + logBuffer/1000 {
			log.Info(strings.Repeat("x", 1000))
		}
		require.Greater(t, count(), 4, "many do not wait")
		flush()
		require.Equal(t, 5+logBuffer/1000, count())
		flush()
		time.Sleep(time.Hour)
		require.Equal(t, 5+logBuffer/1000, count())
	})
}
