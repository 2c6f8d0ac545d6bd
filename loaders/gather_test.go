package loaders_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
)

// desk answers questions one by one, when it is told to.
type desk struct {
	loaders.Gather[string, int, int]
	asked  chan []int
	answer chan error
}

func newDesk() *desk { return &desk{asked: make(chan []int), answer: make(chan error)} }

func (d *desk) read(_ context.Context, keys []int) (map[int]int, error) {
	slices.Sort(keys)
	d.asked <- keys
	if err := <-d.answer; err != nil {
		return nil, err
	}
	values := map[int]int{}
	for _, key := range keys {
		if key >= 0 {
			values[key] = key * key
		}
	}
	return values, nil
}

func (d *desk) load(t *testing.T, key int) (value int, err error) {
	t.Helper()
	return d.Load(t.Context(), "question", key, d.read)
}

func TestGather_PutsWhatIsAskedMeanwhileTogether(t *testing.T) {
	t.Parallel()
	d := newDesk()
	var asking sync.WaitGroup
	ask := func(key, want int) {
		asking.Go(func() {
			value, err := d.load(t, key)
			require.NoError(t, err)
			require.Equal(t, want, value)
		})
	}
	ask(1, 1)
	require.Equal(t, []int{1}, <-d.asked)
	for _, key := range []int{2, 3, 3, -1} {
		ask(key, max(key, 0)*max(key, 0))
	}
	ask(1, 1) // which has changed since, perhaps
	require.Eventually(t, func() bool { return d.Waiting("question") == 4 }, time.Minute, time.Millisecond)
	d.answer <- nil
	require.Equal(t, []int{-1, 1, 2, 3}, <-d.asked)
	d.answer <- nil
	asking.Wait()

	other := make(chan struct{})
	ask(4, 16)
	require.Equal(t, []int{4}, <-d.asked)
	go func() {
		defer close(other)
		_, _ = d.Load(t.Context(), "another", 5, d.read)
	}()
	require.Equal(t, []int{5}, <-d.asked, "another question does not wait")
	d.answer <- nil
	d.answer <- nil
	<-other
	asking.Wait()
}

func TestGather_TellsEverybodyOfAnErrorAndKeepsNone(t *testing.T) {
	t.Parallel()
	d := newDesk()
	broken := errors.New("broken")
	failed := make(chan error)
	go func() {
		_, err := d.load(t, 1)
		failed <- err
	}()
	<-d.asked
	d.answer <- broken
	require.ErrorIs(t, <-failed, broken)

	_, err := d.Load(t.Context(), "question", 1, func(context.Context, []int) (map[int]int, error) { panic("gone wrong") })
	require.Equal(t, models.Internal, models.CodeOf(err))

	leaving, leave := context.WithCancel(t.Context())
	go func() {
		_, err := d.Load(leaving, "question", 2, d.read)
		failed <- err
	}()
	<-d.asked
	leave()
	require.ErrorIs(t, <-failed, context.Canceled, "who leaves does not wait")
	d.answer <- nil
	value := make(chan int)
	go func() {
		v, err := d.load(t, 3)
		require.NoError(t, err)
		value <- v
	}()
	<-d.asked
	d.answer <- nil
	require.Equal(t, 9, <-value)
}
