package analytics

import (
	"time"

	"github.com/netra-ai/netra/models"
)

const maxPoints = 1000

// Series asks for one metric over a range, step by step.
type Series struct {
	values
}

// NewSeries asks about the steps that begin and end with the quarters, hours, days, weeks (from Monday) and months of an IANA zone, UTC
// unless told. The first and the last are cut off at the range's ends. Without a unit it is about the one that most of a subject's values
// are in. It fails with BadUserInput, also for more than 1,000 steps.
func NewSeries(name string, unit *string, span models.TimeRange, step models.TimeStep, zone *string, percentiles bool) (Series, error) {
	if err := checkRange(span); err != nil {
		return Series{}, err
	}
	where := time.UTC
	if zone != nil {
		var err error
		if where, err = time.LoadLocation(*zone); err != nil || *zone == "" || *zone == "Local" {
			return Series{}, models.Errorf(models.BadUserInput, "timeZone: use a name of the IANA database, such as Europe/Berlin")
		}
	}
	borders := []int64{instant(span.From)}
	for begins := span.From; ; {
		begins = nextStep(begins.In(where), step)
		if !begins.Before(span.To) {
			break
		}
		borders = append(borders, instant(begins))
		if len(borders) > maxPoints {
			return Series{}, models.Errorf(models.BadUserInput, "range: at most %d steps", maxPoints)
		}
	}
	borders = append(borders, instant(span.To))
	return Series{values{borders: borders, names: []string{name}, units: chosenUnit(unit), percentiles: percentiles}}, nil
}

func chosenUnit(unit *string) []string {
	if unit == nil {
		return nil
	}
	return []string{*unit}
}

// nextStep is when the step after the one that t is in begins, in t's zone.
func nextStep(t time.Time, step models.TimeStep) time.Time {
	year, month, day := t.Date()
	switch step {
	case models.StepFifteenMinutes:
		return nextClock(t, 15*time.Minute)
	case models.StepHour:
		return nextClock(t, time.Hour)
	case models.StepWeek:
		sinceMonday := (int(t.Weekday()) + 6) % 7
		return midnight(year, month, day-sinceMonday+7, t.Location())
	case models.StepMonth:
		return midnight(year, month+1, 1, t.Location())
	default:
		return midnight(year, month, day+1, t.Location())
	}
}

// nextClock is when the clock next shows a multiple of size. Where the clock is put forward or back by less than size, a step is shorter or longer.
func nextClock(t time.Time, size time.Duration) time.Time {
	for {
		_, offset := t.Zone()
		shown := t.Add(time.Duration(offset) * time.Second).Unix()
		next := t.Truncate(time.Second).Add(size - time.Duration(shown)*time.Second%size)
		_, change := t.ZoneBounds()
		if change.IsZero() || !change.Before(next) {
			return next
		}
		if _, offset = change.Zone(); (change.Unix()+int64(offset))%int64(size/time.Second) == 0 {
			return change
		}
		t = change
	}
}

// midnight is the first moment of a day: 1:00 where the clock is put forward at midnight.
func midnight(year int, month time.Month, day int, where *time.Location) time.Time {
	shown := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	for t := shown.Add(-26 * time.Hour).In(where); ; {
		_, offset := t.Zone()
		begins := shown.Add(-time.Duration(offset) * time.Second)
		if begins.Before(t) {
			begins = t
		}
		_, change := t.ZoneBounds()
		if change.IsZero() || begins.Before(change) {
			return begins.In(where)
		}
		t = change
	}
}

// Of is the answer from the sums that the question was put for: a point for every step, or none where the metric has no value in the range.
func (q Series) Of(sums Sums) []*models.MetricPoint {
	var units units[Sums]
	for _, sum := range sums {
		of := units.of(sum.unit, sum.count)
		of.data = append(of.data, sum)
	}
	if len(units) == 0 {
		return []*models.MetricPoint{}
	}
	of := units.largest()
	points := make([]*models.MetricPoint, len(q.borders)-1)
	for i := range points {
		points[i] = &models.MetricPoint{From: time.UnixMilli(q.borders[i]).UTC(), To: time.UnixMilli(q.borders[i+1]).UTC(), Unit: of.unit}
	}
	for _, sum := range of.data {
		sum.fill(points[sum.step], q.percentiles)
	}
	return points
}

func (s sum) fill(point *models.MetricPoint, percentiles bool) {
	average := s.average()
	point.Count, point.Total, point.Average, point.Min, point.Max = int64(s.count), s.total, &average, &s.min, &s.max
	if p := s.percentiles; percentiles {
		point.P50, point.P90, point.P95, point.P99 = &p[0], &p[1], &p[2], &p[3]
	}
}

// units keeps data of one subject by unit, to choose one.
type units[T any] []*inUnit[T]

type inUnit[T any] struct {
	unit  string
	count uint64 // of values
	data  T
}

// of finds the data in a unit, and counts values.
func (u *units[T]) of(unit string, count uint64) *inUnit[T] {
	for _, known := range *u {
		if known.unit == unit {
			known.count += count
			return known
		}
	}
	added := &inUnit[T]{unit: unit, count: count}
	*u = append(*u, added)
	return added
}

// largest is the unit with the most values, the first by name among equals.
func (u units[T]) largest() *inUnit[T] {
	best := u[0]
	for _, unit := range u[1:] {
		if unit.count > best.count || unit.count == best.count && unit.unit < best.unit {
			best = unit
		}
	}
	return best
}
