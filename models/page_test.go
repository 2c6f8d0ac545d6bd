package models_test

import (
	"encoding/base64"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
)

func TestNewPage(t *testing.T) {
	t.Parallel()
	order := models.MessageOrder{}.Order()
	row := &models.Message{DatabaseID: uuid.New(), CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)}
	cursor := row.Cursor(order).String()
	number := func(n int) *int { return &n }

	t.Run("has 20 rows from the front unless told", func(t *testing.T) {
		t.Parallel()
		page, err := models.NewPage(models.PageArguments{}, order)
		require.NoError(t, err)
		require.Equal(t, models.Page{Limit: 20, Order: order}, page)
	})
	t.Run("keeps a cursor's microseconds", func(t *testing.T) {
		t.Parallel()
		page, err := models.NewPage(models.PageArguments{First: number(5), After: &cursor}, order)
		require.NoError(t, err)
		require.Equal(t, "2026-01-02T03:04:05.678901Z", page.After.Value)
		require.Equal(t, row.DatabaseID.String(), page.After.ID)
	})
	t.Run("goes backwards for before alone", func(t *testing.T) {
		t.Parallel()
		page, err := models.NewPage(models.PageArguments{Before: &cursor}, order)
		require.NoError(t, err)
		require.True(t, page.Backward)
	})

	encoded := func(s string) *string { e := base64.RawURLEncoding.EncodeToString([]byte(s)); return &e }
	for name, args := range map[string]models.PageArguments{
		"first 0":                   {First: number(0)},
		"first -1":                  {First: number(-1)},
		"first 101":                 {First: number(101)},
		"last 101":                  {Last: number(101)},
		"both first and last":       {First: number(1), Last: number(1)},
		"a cursor of nothing":       {After: encoded("")},
		"a cursor that is no JSON":  {After: encoded("{")},
		"a cursor with a bad time":  {After: encoded(`{"c":"created_at","v":"yesterday","i":"` + uuid.NewString() + `"}`)},
		"a cursor with a bad id":    {After: encoded(`{"c":"created_at","v":"2026-01-02T03:04:05.678901Z","i":"7"}`)},
		"a cursor of the year 0":    {After: encoded(`{"c":"created_at","v":"0000-01-01T00:00:00.000000Z","i":"` + uuid.NewString() + `"}`)},
		"a cursor with a long id":   {After: encoded(`{"c":"created_at","v":"2026-01-02T03:04:05.678901Z","i":"urn:uuid:` + uuid.NewString() + `"}`)},
		"a cursor of another order": {After: encoded(`{"c":"updated_at","v":"2026-01-02T03:04:05.678901Z","i":"` + uuid.NewString() + `"}`)},
		"a cursor with more in it":  {After: encoded(`{"c":"created_at","v":"2026-01-02T03:04:05.678901Z","i":"` + uuid.NewString() + `","x":1}`)},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := models.NewPage(args, order)
			require.Equal(t, models.BadUserInput, models.CodeOf(err))
		})
	}
}

func FuzzCursor(f *testing.F) {
	f.Add((&models.Message{}).Cursor(models.MessageOrder{}.Order()).String())
	f.Add("")
	f.Add("eyJjIjoiIn0")
	f.Fuzz(func(t *testing.T, s string) {
		page, err := models.NewPage(models.PageArguments{After: &s}, models.MessageOrder{}.Order())
		if err != nil {
			require.Equal(t, models.BadUserInput, models.CodeOf(err))
			return
		}
		require.Equal(t, s, page.After.String())
	})
}

func FuzzID(f *testing.F) {
	f.Add((&models.User{DatabaseID: 7}).ID())
	f.Add((&models.Thread{}).ID())
	f.Add("malformed")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := models.ParseID(s)
		if err != nil {
			require.Equal(t, models.BadUserInput, models.CodeOf(err))
			return
		}
		require.Equal(t, s, id.String(), "an object has one id")
	})
}
