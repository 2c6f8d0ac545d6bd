package ingest

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLockSpool_IsGivenBackWhileAProcessThatIsBeingStartedHasACopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockSpool(dir)
	require.NoError(t, err)
	_, err = lockSpool(dir)
	require.ErrorContains(t, err, "is in use by another netra")
	inherited, err := syscall.Dup(int(lock.Fd()))
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Close(inherited)) }()
	require.NoError(t, unlockSpool(lock))
	again, err := lockSpool(dir)
	require.NoError(t, err)
	require.NoError(t, unlockSpool(again))
}
