package wait_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/internal/wait"
)

func TestFor_EndsWithTheWhileOrTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		require.True(t, wait.For(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(began))
		require.True(t, wait.For(t.Context(), -time.Minute))
		require.Equal(t, time.Minute, time.Since(began), "a while that is over already")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.False(t, wait.For(ctx, time.Hour))
		require.Equal(t, time.Minute+time.Second, time.Since(began))
		require.False(t, wait.For(ctx, 0))
	})
}
