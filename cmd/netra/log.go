package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// A line of the log waits for others for no longer than logDelay, and for no more than logBuffer bytes.
const (
	logDelay  = 100 * time.Millisecond
	logBuffer = 32 << 10
)

// logTogether is a handler that writes JSON lines to w, many at once: writing each would cost a busy server a tenth of its processors, since whoever reads the log
// is woken up for it. Warnings and errors are written at once, with what came before them. What a crash may lose are the lines of
// the last moment; flush writes what is left.
func logTogether(w io.Writer) (handler slog.Handler, flush func()) {
	b := &logLines{w: w}
	return promptHandler{slog.NewJSONHandler(b, nil), b.flush}, b.flush
}

// logLines is a writer of whole lines.
type logLines struct {
	mu     sync.Mutex
	w      io.Writer
	buffer []byte
}

func (b *logLines) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.buffer) == 0 {
		time.AfterFunc(logDelay, b.flush)
	}
	if b.buffer = append(b.buffer, line...); len(b.buffer) >= logBuffer {
		b.write()
	}
	return len(line), nil
}

func (b *logLines) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write()
}

func (b *logLines) write() {
	if len(b.buffer) > 0 {
		_, _ = b.w.Write(b.buffer) // there is nobody to tell
		b.buffer = b.buffer[:0]
	}
}

// promptHandler has warnings and errors written at once.
type promptHandler struct {
	slog.Handler
	flush func()
}

func (h promptHandler) Handle(ctx context.Context, record slog.Record) error {
	err := h.Handler.Handle(ctx, record)
	if record.Level >= slog.LevelWarn {
		h.flush()
	}
	return err
}

func (h promptHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return promptHandler{h.Handler.WithAttrs(attributes), h.flush}
}

func (h promptHandler) WithGroup(name string) slog.Handler {
	return promptHandler{h.Handler.WithGroup(name), h.flush}
}
