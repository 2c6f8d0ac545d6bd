package server_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/netra-ai/netra/internal/wait"
)

// stopwatch tells how long something took without what a busy machine kept everybody waiting, which breaks no promise about time.
type stopwatch struct {
	began time.Time
	late  atomic.Int64 // how much later than asked this process was woken, in all
}

func begin(t *testing.T) *stopwatch {
	t.Helper()
	const nap = 10 * time.Millisecond
	s := &stopwatch{began: time.Now()}
	go func() {
		for before := time.Now(); wait.For(t.Context(), nap); before = time.Now() {
			s.late.Add(int64(time.Since(before) - nap))
		}
	}()
	return s
}

func (s *stopwatch) took() time.Duration {
	return time.Since(s.began) - time.Duration(s.late.Load())
}
