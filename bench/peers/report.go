package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// The measured part of docs/performance.md is between these lines; the rest is written by hand.
const (
	beginMeasured = "<!-- measured: written by make bench -->"
	endMeasured   = "<!-- end -->"
)

func (b *bench) report() error {
	var text strings.Builder
	b.write(&text)
	fmt.Print(text.String())
	if b.out == "" {
		return nil
	}
	page, err := os.ReadFile(b.out)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(page), beginMeasured)
	_, after, ended := strings.Cut(rest, endMeasured)
	if !found || !ended {
		return fmt.Errorf("%s has no %s … %s", b.out, beginMeasured, endMeasured)
	}
	return os.WriteFile(b.out, []byte(before+beginMeasured+"\n"+text.String()+"\n"+endMeasured+after), 0o644)
}

func (b *bench) write(w io.Writer) {
	fmt.Fprintf(w, "\n%s, in %s: %s. Medians of %d rounds of %s in turns (%d of totals, fan-in and mutation); ± is the round farthest from the median. Latency: %d slices of %s in turns (twice that for the reference query, %d for those), pooled. "+
		"The host took %.1f %% of the processors' time for other machines.\n", b.results.began.UTC().Format("2 January 2006"),
		b.results.took.Round(time.Second), b.machine(), b.rounds, b.round, totals.times(b.rounds), b.slices, b.slice, totals.times(b.slices), 100*b.results.stolen.Seconds()/b.results.took.Seconds()/float64(runtime.NumCPU()))
	b.writeTargets(w)
	for _, work := range b.workloads {
		fmt.Fprintf(w, "\n### %s: %s\n\n", work.name, work.what)
		latency, rule := "at half load", "---:"
		if work.promised && b.results.same > 0 {
			latency, rule = fmt.Sprintf("at half load | at %.0f/s", b.results.same), "---:|---:"
		}
		fmt.Fprintf(w, "| | requests/s | ± | of netra's | CPU ms: server | PostgreSQL | of netra's | p50 / p99 ms at saturation | %s | statements | trips | allocations | KB allocated | answer KB |\n", latency)
		fmt.Fprintf(w, "|---|---:|---:|---:|---:|---:|---:|---:|%s|---:|---:|---:|---:|---:|\n", rule)
		for _, name := range b.results.contenders {
			if s := b.results.series[work.name][name]; s != nil && len(s.samples) > 0 {
				b.writeRow(w, work, name, s)
			}
		}
	}
	b.writePrices(w)
	if len(b.results.growth) > 0 {
		fmt.Fprint(w, "\n### growth: the reference query of netra over ever more rows\n\n| messages | requests/s | ± | CPU ms: server | PostgreSQL | CPU of the smallest |\n|---:|---:|---:|---:|---:|---:|\n")
		for _, messages := range b.results.growth {
			s := b.results.of(growthSeries, growthName(messages))
			fmt.Fprintf(w, "| %d | %.0f | %.0f %% | %s | %s | %.2f× |\n", messages, s.median(throughput), 100*s.spread(throughput), s.milliseconds(serverCPU), s.milliseconds(postgresCPU),
				s.ratio(b.results.of(growthSeries, growthName(b.results.growth[0])), totalCPU))
		}
	}
	fmt.Fprint(w, "\n### memory\n\n| | peak resident MB |\n|---|---:|\n")
	for _, name := range b.results.contenders {
		if kilobytes, ok := b.results.memory[name]; ok {
			fmt.Fprintf(w, "| %s | %d |\n", name, kilobytes/1024)
		}
	}
}

func (b *bench) writeRow(w io.Writer, work workload, name string, s *series) {
	dash := func(there bool, format string, values ...any) string {
		if !there {
			return "–"
		}
		return fmt.Sprintf(format, values...)
	}
	own := b.results.of(work.name, nameOurs)
	latency := dash(s.half.requests > 0, "%s", s.half.latency())
	if work.promised && b.results.same > 0 {
		latency += " | " + dash(s.same.requests > 0, "%s", s.same.latency())
	}
	fmt.Fprintf(w, "| %s | %.0f | %.0f %% | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.1f |\n", name, s.median(throughput), 100*s.spread(throughput),
		dash(len(own.samples) > 0, "%.2f", s.ratio(own, throughput)),
		dash(name != nameJSON, "%s", s.milliseconds(serverCPU)), dash(name != nameHTTP, "%s", s.milliseconds(postgresCPU)),
		dash(len(own.samples) > 0, "%.2f", s.ratio(own, totalCPU)),
		dash(name != nameJSON, "%s / %s", s.milliseconds(func(x sample) float64 { return float64(x.p50) }), s.milliseconds(func(x sample) float64 { return float64(x.p99) })),
		latency,
		dash(s.statements > 0, "%.1f", s.statements), dash(s.trips > 0, "%.1f", s.trips),
		dash(s.samples[0].allocated.objects > 0, "%.0f", s.median(func(x sample) float64 { return x.allocated.objects })),
		dash(s.samples[0].allocated.bytes > 0, "%.0f", s.median(func(x sample) float64 { return x.allocated.bytes / 1024 })), float64(s.answer)/1024)
}

// writePrices shows what netra's parts cost, as far as it was measured.
func (b *bench) writePrices(w io.Writer) {
	begun := false
	for _, work := range b.workloads {
		for _, name := range b.results.contenders {
			s, own := b.results.series[priceOf(work)][name], b.results.series[priceOf(work)][nameOurs]
			if s == nil || own == nil {
				continue
			}
			if !begun {
				begun = true
				fmt.Fprintf(w, "\n### prices: netra beside netra without its parts, in %d turns of %s\n\n| | | requests/s | ± | CPU ms: server | PostgreSQL | netra's CPU over it |\n|---|---|---:|---:|---:|---:|---:|\n", b.passes, b.pass)
			}
			fmt.Fprintf(w, "| %s | %s | %.0f | %.0f %% | %s | %s | %.2f× |\n", work.name, name, s.median(throughput), 100*s.spread(throughput), s.milliseconds(serverCPU), s.milliseconds(postgresCPU), own.ratio(s, totalCPU))
		}
	}
}

// target is a promise of the issue and what became of it.
type target struct {
	what    string
	promise string
	reached string
	kept    bool
}

// writeTargets compares what was measured with what is promised, as far as it was measured.
func (b *bench) writeTargets(w io.Writer) {
	var targets []target
	ratio := func(what string, of, to *series, promise float64, quantity func(sample) float64) {
		if of != nil && to != nil && len(of.samples) > 0 && len(to.samples) > 0 {
			reached := of.ratio(to, quantity)
			targets = append(targets, target{what, fmt.Sprintf("≥ %.2f", promise), fmt.Sprintf("%.2f", reached), reached >= promise})
		}
	}
	get := func(work, name string) *series { return b.results.series[work][name] }
	own := get(reference.name, nameOurs)
	name, peer := b.results.bestPeer(reference.name)
	ratio("reference: requests/s over the best peer's ("+name+")", own, peer, 4, throughput)
	ratio("reference: requests/s over PostgreSQL's own JSON", own, get(reference.name, nameJSON), .75, throughput)
	for _, at := range []struct {
		rate string
		of   func(*series) *load
	}{
		{"half load", func(s *series) *load { return &s.half }},
		{fmt.Sprintf("%.0f requests/s of all", b.results.same), func(s *series) *load { return &s.same }},
	} {
		if own == nil || at.of(own).requests == 0 {
			continue
		}
		lowest, who := time.Duration(0), ""
		for other, s := range b.results.series[reference.name] {
			if l := at.of(s); isPeer(other) && l.requests > 0 && (who == "" || l.percentile(.99) < lowest) {
				lowest, who = l.percentile(.99), other
			}
		}
		if who != "" {
			mine := at.of(own).percentile(.99)
			targets = append(targets, target{"reference: p99 at " + at.rate + ", lower than every peer's (" + who + ")", fmt.Sprintf("< %.1f ms", lowest.Seconds()*1e3), fmt.Sprintf("%.1f ms", mine.Seconds()*1e3), mine < lowest})
		}
	}
	name, peer = b.results.bestPeer(point.name)
	ratio("point: requests/s over the best peer's ("+name+")", get(point.name, nameOurs), peer, 3, throughput)
	for _, work := range b.workloads {
		for _, part := range []struct{ what, without string }{{"row-level security adds", nameBypass}, {"limits, hooks and metrics add", nameBare}} {
			with, without := get(priceOf(work), nameOurs), get(priceOf(work), part.without)
			if with != nil && without != nil && len(with.samples) > 0 && len(without.samples) > 0 {
				cost := with.ratio(without, totalCPU) - 1
				targets = append(targets, target{work.name + ": CPU that " + part.what, "≤ 10 %", fmt.Sprintf("%.0f %%", 100*cost), cost <= .1})
			}
		}
	}
	if n := len(b.results.growth); n > 1 {
		first, worst := b.results.of(growthSeries, growthName(b.results.growth[0])), 0.0
		for _, messages := range b.results.growth {
			worst = max(worst, b.results.of(growthSeries, growthName(messages)).ratio(first, totalCPU))
		}
		targets = append(targets, target{fmt.Sprintf("growth: CPU a request, from %d to %d messages", b.results.growth[0], b.results.growth[n-1]), "≤ 1.30×", fmt.Sprintf("%.2f×", worst), worst <= 1.3})
	}
	if len(targets) == 0 {
		return
	}
	fmt.Fprint(w, "\n| target | promised | reached | |\n|---|---:|---:|---|\n")
	for _, t := range targets {
		verdict := "missed"
		if t.kept {
			verdict = "kept"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", t.what, t.promise, t.reached, verdict)
	}
}

// latency is p50 and p99 in ms.
func (l *load) latency() string {
	return fmt.Sprintf("%.1f / %.1f", l.percentile(.5).Seconds()*1e3, l.percentile(.99).Seconds()*1e3)
}

func (s *series) milliseconds(of func(sample) float64) string {
	return fmt.Sprintf("%.2f", s.median(of)/1e6)
}

func isPeer(name string) bool {
	switch name {
	case nameOurs, nameBypass, nameSockets, nameBare, nameJSON, nameHTTP:
		return false
	}
	return true
}

// bestPeer is the one with the most requests, nil when there is none.
func (r *results) bestPeer(work string) (name string, best *series) {
	for other, s := range r.series[work] {
		if isPeer(other) && len(s.samples) > 0 && (best == nil || cmp.Less(best.median(throughput), s.median(throughput))) {
			name, best = other, s
		}
	}
	return name, best
}

var modelName = regexp.MustCompile(`(?m)^model name\s*:\s*(.*)$`)

// machine names what the figures depend on.
func (b *bench) machine() string {
	parts := []string{fmt.Sprintf("%d cores", runtime.NumCPU())}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if match := modelName.FindSubmatch(info); match != nil {
			parts[0] += " of " + strings.TrimSpace(string(match[1]))
		}
	}
	if hugePages() {
		parts = append(parts, "huge pages for PostgreSQL")
	}
	parts = append(parts, "PostgreSQL "+b.postgres.version, strings.Replace(runtime.Version(), "go", "Go ", 1))
	if commit, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		parts = append(parts, "netra "+strings.TrimSpace(string(commit)))
	}
	for _, pkg := range []string{"node", "postgraphile", "@apollo/server", "graphql-yoga", "mercurius", "pg"} {
		var manifest struct{ Version string }
		if text, err := os.ReadFile(filepath.Join(b.node, "node_modules", pkg, "package.json")); err == nil && json.Unmarshal(text, &manifest) == nil {
			parts = append(parts, pkg+" "+manifest.Version)
		}
	}
	return strings.Join(parts, ", ")
}

// hugePages is whether the kernel has any that somebody uses.
func hugePages() bool {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return false
	}
	var pages [2]int
	for i, name := range []string{"HugePages_Total", "HugePages_Free"} {
		if match := regexp.MustCompile(name + `:\s+(\d+)`).FindSubmatch(info); match != nil {
			pages[i], _ = strconv.Atoi(string(match[1])) // digits
		}
	}
	return pages[0] > pages[1]
}
