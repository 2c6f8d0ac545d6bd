package server

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAuthenticator_RemembersSoManyTokensAtMost(t *testing.T) {
	t.Parallel()
	secret := bytes.Repeat([]byte("s"), MinSecret)
	a := newAuthenticator(secret, nil)
	a.most = 2
	for range 2 {
		for user := 1; user <= 3; user++ {
			token, err := NewToken(secret, user, time.Hour)
			require.NoError(t, err)
			for range 2 {
				said, err := a.check(token)
				require.NoError(t, err)
				require.Equal(t, user, said.userID)
				require.Contains(t, a.verified, token)
				require.LessOrEqual(t, len(a.verified), a.most)
			}
		}
	}
}
