package analytics

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// grain is a table, or the rows of a table, that know what happened within pieces of time of one size.
type grain struct {
	table  table
	column string // when a piece begins
	size   int64  // of a piece, in milliseconds; 0 for the events themselves
	name   string // of the rows; empty where all are of this size
}

const (
	quarterOfHour = int64(15 * time.Minute / time.Millisecond)
	wholeHour     = int64(time.Hour / time.Millisecond)
	wholeDay      = int64(24 * time.Hour / time.Millisecond)
)

var (
	eventGrain = grain{table: metricValues, column: "timestamp"}

	// From the coarsest to the finest.
	summedByUser = []grain{
		{metricSums, "start", wholeDay, "day"}, {metricSums, "start", wholeHour, "hour"}, {metricSums, "start", quarterOfHour, "quarter"}, eventGrain,
	}
	summedByWorkload = []grain{{aggregatedMetrics, "hour", wholeHour, ""}, eventGrain}
	binnedByUser     = []grain{{metricBins, "hour", wholeHour, ""}, eventGrain}
	eventsOnly       = []grain{eventGrain}
)

// summed are the tables that know the sums of the scope's values.
func (s scope) summed() []grain {
	if s.byUser() {
		return summedByUser
	}
	return summedByWorkload
}

// interval is half open, in milliseconds since 1970.
type interval struct{ from, to int64 }

// part of an answer is what one table knows of some intervals, which are whole pieces of its grain.
type part struct {
	grain  grain
	within []interval
}

// Events expire after 90 days, at some time thereafter. What is older than this is told by the aggregates only, as exactly as they know it.
const eventsLast = 89 * 24 * time.Hour

// settle moves borders to where they can be told apart: those that are older than events last, to those of the finest aggregate. A range only grows.
func settle(borders []int64, grains []grain, now time.Time) []int64 {
	settled := slices.Clone(borders)
	if len(grains) == 1 {
		return settled
	}
	finest := grains[len(grains)-2].size
	last := len(borders) - 1
	for i, border := range borders {
		switch {
		case border >= now.Add(-eventsLast).UnixMilli():
		case i == last:
			settled[i] = border + (finest-border%finest)%finest
		default:
			settled[i] = border - border%finest
		}
	}
	return settled
}

// Planning a condition for a piece of time costs as much as reading some hundred rows. Many short pieces (the hours between half-hours at which the days of a
// zone begin) are read by the finer grain of the same table, with which they are in one piece.
const (
	fewPieces  = 8
	rowsAPiece = 100
)

// cover divides the steps between borders among grains: each step's whole days, then hours of what is left, then quarters, then events, so that no
// piece reaches across a border and nothing is counted twice.
func cover(borders []int64, grains []grain) []part {
	parts := make([]part, len(grains))
	for i, grain := range grains {
		parts[i].grain = grain
	}
	for i := 1; i < len(borders); i++ {
		divide(interval{borders[i-1], borders[i]}, parts)
	}
	used := parts[:0]
	for i, p := range parts {
		if len(p.within) == 0 {
			continue
		}
		p.within = contiguous(p.within)
		if pieces := int64(len(p.within)); pieces > fewPieces && i+1 < len(parts) && parts[i+1].grain.table == p.grain.table && length(p.within) <= pieces*rowsAPiece*parts[i+1].grain.size {
			parts[i+1].within = append(parts[i+1].within, p.within...)
			continue
		}
		used = append(used, p)
	}
	if len(used) == 0 { // less than a millisecond
		used = append(used, part{eventGrain, []interval{{borders[0], borders[0]}}})
	}
	return used
}

// contiguous puts pieces in order, and those that meet together.
func contiguous(pieces []interval) []interval {
	slices.SortFunc(pieces, func(a, b interval) int { return cmp.Compare(a.from, b.from) })
	joined := pieces[:1]
	for _, next := range pieces[1:] {
		if last := &joined[len(joined)-1]; last.to == next.from {
			last.to = next.to
		} else {
			joined = append(joined, next)
		}
	}
	return joined
}

func length(pieces []interval) (sum int64) {
	for _, piece := range pieces {
		sum += piece.to - piece.from
	}
	return sum
}

func divide(span interval, parts []part) {
	if span.from >= span.to {
		return
	}
	size := max(parts[0].grain.size, 1)
	from, to := span.from+(size-span.from%size)%size, span.to-span.to%size
	if from >= to {
		divide(span, parts[1:])
		return
	}
	parts[0].within = append(parts[0].within, interval{from, to})
	divide(interval{span.from, from}, parts[1:])
	divide(interval{to, span.to}, parts[1:])
}

// times adds borders of time to a question's parameters.
type times struct{ parameters clickhouse.Parameters }

// moment is in the type of the grain's column.
func (t times) moment(g grain, at int64) string {
	name := "t" + strconv.Itoa(len(t.parameters))
	if g.size == 0 {
		t.parameters[name] = time.UnixMilli(at).UTC().Format("2006-01-02 15:04:05.000")
		return "{" + name + ":DateTime64(3, 'UTC')}"
	}
	t.parameters[name] = time.UnixMilli(at).UTC().Format(time.DateTime)
	return "{" + name + ":DateTime('UTC')}"
}

// within is the condition for a part's rows.
func (t times) within(p part) string {
	conditions := make([]string, len(p.within))
	for i, interval := range p.within {
		conditions[i] = p.grain.column + " >= " + t.moment(p.grain, interval.from) + " AND " + p.grain.column + " < " + t.moment(p.grain, interval.to)
	}
	if p.grain.name == "" {
		return either(conditions)
	}
	return "grain = '" + p.grain.name + "' AND " + either(conditions)
}

// either is the condition that one of several is met.
func either(conditions []string) string {
	if len(conditions) == 1 {
		return conditions[0]
	}
	return "(" + strings.Join(conditions, " OR ") + ")"
}

// step is the expression for the border at which a row's step begins; parameter has the borders.
func (g grain) step(parameter string) string {
	if g.size == 0 {
		return "roundDown(toUnixTimestamp64Milli(" + g.column + "), " + parameter + ")"
	}
	return "roundDown(toInt64(toUnixTimestamp(" + g.column + ")) * 1000, " + parameter + ")"
}

// instant is t in milliseconds since 1970. Events have no finer times, so that one is at or after t exactly when it is at or after this.
func instant(t time.Time) int64 {
	return max(t.Add(time.Millisecond-1).UnixMilli(), 0)
}
