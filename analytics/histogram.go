package analytics

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/netra-ai/netra/models"
)

const (
	defaultBuckets = 20
	maxBuckets     = 100
)

// Histogram asks how many values of a metric lie where.
type Histogram struct {
	values
	buckets int
}

// Group is the range: histograms of several metrics over one range are put together.
func (q Histogram) Group() string { return fmt.Sprint(q.borders) }

// NewHistogram asks for at most so many buckets, 20 unless told. Without a unit it is about the one that most of a subject's values are in.
// It fails with BadUserInput.
func NewHistogram(metric string, unit *string, span models.TimeRange, buckets *int) (Histogram, error) {
	if err := checkRange(span); err != nil {
		return Histogram{}, err
	}
	q := Histogram{values{borders: []int64{instant(span.From), instant(span.To)}, names: []string{metric}, units: chosenUnit(unit)}, defaultBuckets}
	if buckets != nil {
		q.buckets = *buckets
	}
	if q.buckets < 1 || q.buckets > maxBuckets {
		return Histogram{}, models.Errorf(models.BadUserInput, "buckets: between 1 and %d", maxBuckets)
	}
	return q, nil
}

// binOfValue is the expression that the migrations of metric_bins describe.
const binOfValue = "toInt16(multiIf(" +
	"value > 0, 10000 + least(greatest(floor(log(value) / log(1.02)), -9999), 22767), " +
	"value < 0, -10000 - least(greatest(ceil(log(-value) / log(1.02)), -9999), 22767), 0))"

// binning puts histograms over one range together.
type binning struct{ values values }

// SQL counts values by metric, unit and bin, by whole hours where the table knows the scope.
func (q binning) SQL(in scope) (string, clickhouse.Parameters) {
	grains := eventsOnly
	if in.byUser() {
		grains = binnedByUser
	}
	times := times{q.values.parameters(nil, "")}
	var parts []string
	for _, part := range cover(settle(q.values.borders, grains, in.now), grains) {
		if part.grain.size > 0 {
			parts = append(parts, in.from(part.grain.table, "metric_name, unit, bin, event_count", times.within(part)+q.values.chosen("")))
		} else {
			parts = append(parts, in.from(part.grain.table, "metric_name, unit, "+binOfValue+" AS bin, toUInt64(1) AS event_count",
				isMetric+" AND "+times.within(part)+q.values.chosen("")))
		}
	}
	return "SELECT tenant, subject, metric_name, unit, bin, sum(event_count) FROM (" + strings.Join(parts, " UNION ALL ") +
		") GROUP BY tenant, subject, metric_name, unit, bin ORDER BY tenant, subject, metric_name, unit, bin", times.parameters
}

// Histograms answers questions, of one Group, together: for each subject and question with buckets that follow each other from the smallest to
// the largest value, each as many times as wide as the one before, or with none where the metric has no value in the range. It fails with
// AnalyticsUnavailable, Timeout or TooComplex.
func (a *Analytics) Histograms(ctx context.Context, subjects []models.Subject, questions []Histogram) (map[models.Subject][][]*models.HistogramBucket, error) {
	found := answers[[]*models.HistogramBucket](subjects, len(questions))
	bins := answers[units[[]binned]](subjects, len(questions))
	err := a.ask(ctx, binning{joined(questions)}, subjects, func(row row) error {
		var metric, unit string
		var bin int16
		var count uint64
		subject, err := row.read(&metric, &unit, &bin, &count)
		if err != nil {
			return err
		}
		for i, question := range questions {
			if question.has(metric, unit) {
				of := bins[subject][i].of(unit, count)
				of.data = append(of.data, binned{int(bin), count})
			}
		}
		return nil
	})
	for subject, list := range bins {
		for i, units := range list {
			found[subject][i] = []*models.HistogramBucket{}
			if len(units) > 0 {
				of := units.largest()
				found[subject][i] = buckets(of.data, of.unit, questions[i].buckets)
			}
		}
	}
	return found, err
}

// joined is what questions over one range ask for together.
func joined[Q interface{ asked() values }](questions []Q) values {
	all := questions[0].asked()
	for _, question := range questions[1:] {
		all = all.join(question.asked())
	}
	return all
}

// binned is how many values lie in a bin.
type binned struct {
	bin   int
	count uint64
}

// buckets joins bins, which are in order, to at most limit buckets, all of the same number of bins. Negative values, zeros and positive values
// do not share a bucket unless there are too few.
func buckets(bins []binned, unit string, limit int) []*models.HistogramBucket {
	var sides [][]binned
	for i, b := range bins {
		if i == 0 || sign(b.bin) != sign(bins[i-1].bin) {
			sides = append(sides, nil)
		}
		sides[len(sides)-1] = append(sides[len(sides)-1], b)
	}
	last := bins[len(bins)-1]
	if len(sides) > limit {
		bucket := &models.HistogramBucket{From: binBegins(bins[0].bin), To: binEnds(last.bin), Unit: unit}
		for _, b := range bins {
			bucket.Count += int64(b.count)
		}
		return []*models.HistogramBucket{bucket}
	}
	width := 1
	for needed(sides, width) > limit {
		width++
	}
	var joined []*models.HistogramBucket
	for _, side := range sides {
		first := len(joined)
		for begins := side[0].bin; begins <= side[len(side)-1].bin; begins += width {
			joined = append(joined, &models.HistogramBucket{From: binBegins(begins), Unit: unit})
		}
		for _, b := range side {
			joined[first+(b.bin-side[0].bin)/width].Count += int64(b.count)
		}
	}
	// Nothing lies between two sides.
	for i, bucket := range joined[1:] {
		joined[i].To = bucket.From
	}
	joined[len(joined)-1].To = binEnds(last.bin)
	return joined
}

func needed(sides [][]binned, width int) int {
	n := 0
	for _, side := range sides {
		n += (side[len(side)-1].bin-side[0].bin)/width + 1
	}
	return n
}

func sign(bin int) int { return cmp.Compare(bin, 0) }

const outermostBin = math.MaxInt16

// binBegins is the smallest value of a bin; the outermost ones hold whatever lies beyond.
func binBegins(bin int) float64 {
	switch {
	case bin == 0:
		return 0
	case bin == 1:
		return math.SmallestNonzeroFloat64
	case bin > 0:
		return math.Pow(1.02, float64(bin-10000))
	case bin == -outermostBin:
		return -math.MaxFloat64
	default:
		return -math.Pow(1.02, float64(-bin-10000))
	}
}

// binEnds is where values are above a bin.
func binEnds(bin int) float64 {
	switch {
	case bin == 0 || bin == -1:
		return 0
	case bin == outermostBin:
		return math.MaxFloat64
	default:
		return binBegins(bin + 1)
	}
}
