package models_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

func TestPosition_ComesBackFromItsCursor(t *testing.T) {
	t.Parallel()
	for name, position := range map[string]models.Position{
		"in the midst of states": {Log: 7},
		"with nothing open":      {Log: 7, Prior: &models.Snapshot{Max: 10, Open: []uint64{}}, Current: &models.Snapshot{Max: 12, Open: []uint64{}}, Place: models.Place{Seq: 3}},
		"with open transactions": {Log: 7, Prior: &models.Snapshot{Max: 10, Open: []uint64{4, 9}}, Current: &models.Snapshot{Max: 1000, Open: []uint64{4, 11, 999}}},
		"after another replica's later read": {Log: math.MaxUint64, Prior: &models.Snapshot{Max: 1000, Open: []uint64{11}}, Current: &models.Snapshot{Max: 12, Open: []uint64{}},
			Place: models.Place{Seq: math.MaxInt64}},
	} {
		read, err := models.ParsePosition(models.RunStream, position.Cursor(models.RunStream))
		require.NoError(t, err, name)
		require.Equal(t, &position, read, name)
	}
}

func TestPosition_IsRefusedBeyondWhatTransactionsCount(t *testing.T) {
	t.Parallel()
	far := &models.Snapshot{Max: math.MaxInt64 + 1, Open: []uint64{}}
	for _, position := range []models.Position{{Prior: far, Current: far}, {Prior: &models.Snapshot{Max: 1}, Current: far}, {Prior: far, Current: &models.Snapshot{Max: 1}}} {
		_, err := models.ParsePosition(models.RunStream, position.Cursor(models.RunStream))
		require.Equal(t, models.BadUserInput, models.CodeOf(err))
	}
}

func TestSnapshot_KnowsNothingAfterTheLastTrace(t *testing.T) {
	t.Parallel()
	s := &models.Snapshot{Max: 20, Open: []uint64{5, 15}}
	require.Equal(t, &models.Snapshot{Max: 18, Open: []uint64{5, 15}}, s.Known(17))
	require.Equal(t, &models.Snapshot{Max: 11, Open: []uint64{5}}, s.Known(10))
	require.Same(t, s, s.Known(19))
	require.Same(t, s, s.Known(100))
	require.Equal(t, uint64(90_000), (&models.Snapshot{Max: 100_000}).Known(10).Max, "a crash makes no server forget more")
}

// FuzzPosition holds that a cursor is refused or is exactly what the position that it was read as would be given out as.
func FuzzPosition(f *testing.F) {
	f.Add((&models.Position{Log: 7, Prior: &models.Snapshot{Max: 10, Open: []uint64{4, 9}}, Current: &models.Snapshot{Max: 12}}).Cursor(models.RunStream))
	f.Add((&models.Position{Log: 7}).Cursor(models.MessageStream))
	f.Fuzz(func(t *testing.T, s string) {
		for _, stream := range []models.Stream{models.RunStream, models.MessageStream} {
			position, err := models.ParsePosition(stream, s)
			if err != nil {
				require.Equal(t, models.BadUserInput, models.CodeOf(err))
				continue
			}
			require.Equal(t, s, position.Cursor(stream))
		}
	})
}
