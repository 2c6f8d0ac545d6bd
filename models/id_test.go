package models_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

func TestAppendID_AddsTheGlobalID(t *testing.T) {
	t.Parallel()
	for range 100 {
		key := uuid.New()
		for kind, object := range map[models.Kind]interface {
			ID() string
			AppendID([]byte) []byte
		}{
			models.KindThread: &models.Thread{DatabaseID: key}, models.KindMessage: &models.Message{DatabaseID: key}, models.KindRun: &models.Run{DatabaseID: key},
		} {
			want := models.GlobalID{Kind: kind, Key: key.String()}.String()
			require.Equal(t, want, object.ID())
			require.Equal(t, "before "+want, string(object.AppendID([]byte("before "))))
		}
	}
}
