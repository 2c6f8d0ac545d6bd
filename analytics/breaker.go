package analytics

import (
	"context"
	"errors"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
)

const (
	// tolerated is how many questions in a row may go unanswered before ClickHouse is taken to be away.
	tolerated = 3
	// restBeforeProbe and probeDeadline together bound how long ClickHouse may be back unnoticed: both, twice over at the worst,
	// when a probe began just before.
	restBeforeProbe = time.Second
	probeDeadline   = 1500 * time.Millisecond
)

// gate is what every question passes on its way to ClickHouse. It gives each its deadline, lets so many through at a time, and none
// while ClickHouse is known to be away: those fail at once instead of holding a page for the whole deadline.
type gate struct {
	deadline time.Duration
	places   *semaphore.Weighted
	breaker  *gobreaker.CircuitBreaker[struct{}]
	probe    func(context.Context) error // asks whether ClickHouse answers at all
}

func newGate(deadline time.Duration, places int, probe func(context.Context) error) *gate {
	return &gate{
		deadline: deadline,
		places:   semaphore.NewWeighted(int64(places)),
		probe:    probe,
		breaker: gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:     restBeforeProbe,
			ReadyToTrip: func(counts gobreaker.Counts) bool { return counts.ConsecutiveFailures >= tolerated },
			IsExcluded:  func(err error) bool { return errors.Is(err, errLeft) },
		}),
	}
}

// errLeft says nothing about ClickHouse: whoever asked has gone, or came with too little time.
var errLeft = errors.New("the client has left")

// pass runs ask within the deadline. Its error is one that a client may see, or ask's own.
func (g *gate) pass(ctx context.Context, ask func(context.Context) error) error {
	timed, cancel := context.WithTimeout(ctx, g.deadline)
	defer cancel()
	return translate(timed, g.try(ctx, timed, ask))
}

func (g *gate) try(caller, timed context.Context, ask func(context.Context) error) error {
	// Asked here as well as behind the queue, so that nobody queues for a ClickHouse that is away.
	if g.breaker.State() == gobreaker.StateOpen {
		return gobreaker.ErrOpenState
	}
	if err := g.places.Acquire(timed, 1); err != nil {
		return err
	}
	defer g.places.Release(1)
	if g.breaker.State() == gobreaker.StateHalfOpen {
		// The probe is not the question itself: a slow question would keep everybody else out until it has ended.
		probing, cancel := context.WithTimeout(timed, probeDeadline)
		defer cancel()
		if err := g.watched(caller, func() error { return g.probe(probing) }); err != nil {
			return err
		}
	}
	return g.watched(caller, func() error { return ask(timed) })
}

// watched lets the breaker see how ask went.
func (g *gate) watched(caller context.Context, ask func() error) error {
	var failure error
	_, refused := g.breaker.Execute(func() (struct{}, error) {
		failure = ask()
		switch {
		case !unanswered(failure):
			return struct{}{}, nil
		case caller.Err() != nil:
			return struct{}{}, errLeft
		default:
			return struct{}{}, failure
		}
	})
	if failure != nil {
		return failure
	}
	return refused
}

// unanswered is whether err means that ClickHouse cannot be reached or has no room. What it says about a question is an answer, its
// own time limit included: that is shorter than the deadline.
func unanswered(err error) bool {
	var exception *clickhouse.Exception
	switch {
	case err == nil, errors.As(err, new(unreadable)):
		return false
	case errors.As(err, &exception):
		return overloaded(exception)
	default:
		return true
	}
}

// unreadable is an answer that does not fit into what was to hold it: a fault of ours.
type unreadable struct{ error }

func (u unreadable) Unwrap() error { return u.error }
