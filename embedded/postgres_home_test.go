package embedded

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLockFile_IsGivenBackWhileAProcessThatIsBeingStartedHasACopy(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	file, err := lockFile(path, nil)
	require.NoError(t, err)
	_, err = lockFile(path, nil)
	require.ErrorContains(t, err, "is in use by another netra")
	inherited, err := syscall.Dup(int(file.Fd()))
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Close(inherited)) }()
	unlockFile(file)
	again, err := lockFile(path, nil)
	require.NoError(t, err)
	unlockFile(again)
}
