// Package flame draws where processes spend their time: a flame graph of what perf has sampled, as an SVG that needs no script.
//
// What there is to draw one was left aside: pprof's graph is a page with scripts and only of Go programs, go-torch is archived, and Perl's
// flamegraph.pl comes from no registry.
package flame

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"html"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// samplesPerSecond is odd, so that nothing that happens regularly is always or never met.
const samplesPerSecond = 997

// Frame is a function and what it called, with the samples that met it.
type Frame struct {
	name    string
	samples int
	calls   map[string]*Frame
}

func newFrame(name string) *Frame { return &Frame{name: name, calls: map[string]*Frame{}} }

// Record samples the whole machine with perf, which needs the rights to, and leaves the raw samples in dir.
func Record(ctx context.Context, dir string, duration time.Duration) error {
	command := exec.CommandContext(ctx, "perf", "record", "--all-cpus", "--call-graph=fp", "--freq="+strconv.Itoa(samplesPerSecond), "--output="+rawIn(dir),
		"--", "sleep", fmt.Sprint(duration.Seconds()))
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("perf record: %w: %s", err, said)
	}
	return nil
}

func rawIn(dir string) string { return filepath.Join(dir, "perf.data") }

// Read sums up what Record left of some processes, each under the name of its group.
func Read(ctx context.Context, dir string, groups map[int]string) (*Frame, error) {
	said, err := exec.CommandContext(ctx, "perf", "script", "--input="+rawIn(dir), "--fields=pid,ip,sym").Output()
	if err != nil {
		return nil, fmt.Errorf("perf script: %w", err)
	}
	root := newFrame("all")
	var group string
	var stack []string // the innermost first
	finish := func() {
		if group != "" {
			root.add(append(stack, group))
		}
		group, stack = "", nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(said)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
			finish()
		case len(fields) == 1:
			finish()
			pid, err := strconv.Atoi(fields[0])
			if err != nil {
				return nil, fmt.Errorf("perf script: neither a process nor a function: %q", lines.Text())
			}
			group = groups[pid]
		default:
			if kernel := len(fields[0]) == 16; kernel && len(stack) > 0 && !boring(fields[1]) {
				stack = stack[:0] // what the kernel does is one frame, that of what it was called for
			}
			if !boring(fields[1]) {
				stack = append(stack, short(strings.Join(fields[1:], " ")))
			}
		}
	}
	finish()
	return root, nil
}

// boring functions are at the bottom of every stack, have no name, or only call another.
func boring(name string) bool {
	switch name {
	case "[unknown]", "main", "PostmasterMain", "__libc_start_call_main", "runtime.goexit.abi0", "runtime.goexit", "runtime.mcall", "runtime.systemstack.abi0",
		"entry_SYSCALL_64_after_hwframe", "do_syscall_64", "x64_sys_call", "runtime/internal/syscall.Syscall6", "internal/runtime/syscall.Syscall6":
		return true
	}
	return strings.Contains(name, ".gowrap") || strings.Contains(name, "processExtensions") // closures around the next function
}

// short leaves the last part of a Go package's path, and no type arguments.
func short(name string) string {
	if from, to := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); from >= 0 && from < to {
		name = name[:from] + name[to+1:] // types that a generic function was made for
	}
	path, _, _ := strings.Cut(name, "(")
	return name[strings.LastIndexByte(path, '/')+1:]
}

func (f *Frame) add(stack []string) {
	f.samples++
	if len(stack) == 0 {
		return
	}
	name := stack[len(stack)-1]
	if f.calls[name] == nil {
		f.calls[name] = newFrame(name)
	}
	f.calls[name].add(stack[:len(stack)-1])
}

const (
	width, height = 1400, 15 // of the picture, and of a row, in pixels
	margin, head  = 8, 44
	narrowest     = 1.2 // what is narrower is left out
	perCharacter  = 6.3
)

// Draw writes the graph. The groups are at the top, and below each function is what it called.
func (f *Frame) Draw(w io.Writer, title string) error {
	var frames bytes.Buffer
	depth := f.draw(&frames, margin, float64(width-2*margin)/float64(max(1, f.samples)), 0, f.samples)
	tall := head + depth*height + margin
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="monospace" font-size="10">
<rect width="100%%" height="100%%" fill="#fff"/><text x="%d" y="20" font-size="14">%s</text><text x="%d" y="36">%d samples; the width of a function is its share of the processors' time, with what it called below it</text>
%s</svg>
`, width, tall, width, tall, margin, html.EscapeString(title), margin, f.samples, frames.String())
	return err
}

// draw writes what the frame called, in rows from this one on, and returns how many rows that are.
func (f *Frame) draw(w io.Writer, x, perSample float64, row, all int) (rows int) {
	calls := make([]*Frame, 0, len(f.calls))
	for _, call := range f.calls {
		calls = append(calls, call)
	}
	slices.SortFunc(calls, func(a, b *Frame) int { return strings.Compare(a.name, b.name) })
	for _, call := range calls {
		wide := float64(call.samples) * perSample
		if wide >= narrowest {
			hash := fnv.New32a()
			_, _ = hash.Write([]byte(call.name)) // never fails
			fmt.Fprintf(w, `<g><title>%s, %.1f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="hsl(%d 80%% 68%%)"/>`,
				html.EscapeString(call.name), 100*float64(call.samples)/float64(all), x, head+row*height, wide-.3, height-1, 12+hash.Sum32()%45)
			if letters := int((wide - 4) / perCharacter); letters > 3 {
				fmt.Fprintf(w, `<text x="%.1f" y="%d">%s</text>`, x+2, head+row*height+11, html.EscapeString(call.name[:min(letters, len(call.name))]))
			}
			fmt.Fprintln(w, "</g>")
			rows = max(rows, 1+call.draw(w, x, perSample, row+1, all))
		}
		x += wide
	}
	return rows
}
