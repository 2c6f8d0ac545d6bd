package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func (b *bench) report() error {
	var text strings.Builder
	b.write(&text)
	fmt.Print(text.String())
	if b.out == "" {
		return nil
	}
	return os.WriteFile(b.out, []byte(text.String()), 0o644)
}

func (b *bench) write(w io.Writer) {
	for _, work := range b.workloads {
		fmt.Fprintf(w, "\n## %s: %s\n\n", work.name, work.what)
		fmt.Fprintln(w, "| | requests/s | spread | CPU: server ms | CPU: PostgreSQL ms | p50 / p99 at saturation ms | p50 / p99 at half load ms | statements | trips | allocations | KB allocated | answer KB |")
		fmt.Fprintln(w, "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
		for _, name := range b.results.contenders {
			s := b.results.series[work.name][name]
			if s == nil || len(s.samples) == 0 {
				continue
			}
			ms := func(of func(sample) time.Duration) string {
				return fmt.Sprintf("%.2f", s.median(func(x sample) float64 { return float64(of(x)) / 1e6 }))
			}
			fmt.Fprintf(w, "| %s | %.0f | ±%.0f %% | %s | %s | %s / %s | %.2f / %.2f | %.1f | %.1f | %.0f | %.0f | %.1f |\n", name, s.median(throughput), 100*s.spread(throughput),
				ms(func(x sample) time.Duration { return x.server }), ms(func(x sample) time.Duration { return x.postgres }),
				ms(func(x sample) time.Duration { return x.p50 }), ms(func(x sample) time.Duration { return x.p99 }),
				float64(s.half.percentile(.5))/1e6, float64(s.half.percentile(.99))/1e6, s.statements, s.trips,
				s.median(func(x sample) float64 { return x.allocated.objects }), s.median(func(x sample) float64 { return x.allocated.bytes / 1024 }), float64(s.answer)/1024)
		}
	}
}
