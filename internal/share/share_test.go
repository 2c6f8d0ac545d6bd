package share_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/share"
)

// takeAll takes places for a user until there is none for them.
func takeAll(p *share.Places, user int) (leave []func()) {
	for {
		one, err := p.Take(user)
		if err != nil {
			return leave
		}
		leave = append(leave, one)
	}
}

func TestPlaces_AreLeftForOthers(t *testing.T) {
	t.Parallel()
	p := share.New(32, 0)
	var held []int
	for user := range 5 {
		held = append(held, len(takeAll(p, user)))
	}
	require.Equal(t, []int{22, 7, 2, 1, 0}, held)
}

func TestPlaces_AreTheNextOnesWhenTheyAreLeft(t *testing.T) {
	t.Parallel()
	p := share.New(3, 1)
	places := takeAll(p, 1)
	require.Len(t, places, 2)
	other, err := p.Take(2)
	require.NoError(t, err)
	_, err = p.Take(3)
	require.ErrorIs(t, err, share.ErrTaken)
	other()
	other, err = p.Take(3)
	require.NoError(t, err)
	other()
	for _, leave := range places {
		leave()
	}
	require.Len(t, takeAll(p, 4), 2)
}

func TestWait_GivesThePlaceToWhoeverMayHaveItAndHasWaitedLongest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := share.New(3, 1)
		greedy := takeAll(p, 1)
		last, err := p.Take(2)
		require.NoError(t, err)
		var order []int
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, user := range []int{1, 2, 3} {
			all.Go(func() {
				leave, err := p.Wait(t.Context(), user)
				if err != nil {
					t.Errorf("user %d: %v", user, err)
					return
				}
				mu.Lock()
				order = append(order, user)
				mu.Unlock()
				synctest.Wait() // whoever else may have one has it
				leave()
			})
			synctest.Wait()
		}
		_, err = p.Wait(t.Context(), 3)
		require.ErrorIs(t, err, share.ErrTaken, "one waits already")
		greedy[0]() // user 1 holds one of the other two, and may have this
		all.Wait()
		require.Equal(t, []int{1, 2, 3}, order)
		greedy[1]()
		last()
		require.Len(t, takeAll(p, 4), 2, "all are free")
	})
}

func TestWait_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := share.New(1, 1)
		leave, err := p.Take(1)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = p.Wait(ctx, 2)
		require.ErrorIs(t, err, share.ErrTaken)
		leave()
		require.Len(t, takeAll(p, 3), 1, "who has given up is given nothing")
	})
}
