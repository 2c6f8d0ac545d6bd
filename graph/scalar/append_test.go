package scalar_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/graph/scalar"
	"github.com/netra-ai/netra/models"
)

func TestAppend_WritesWhatTheExecutorWrites(t *testing.T) {
	t.Parallel()
	written := func(m graphql.Marshaler) string {
		var b bytes.Buffer
		m.MarshalGQL(&b)
		return b.String()
	}
	for _, s := range []string{"", "plain", "\x00\x1f\t\r\n\b\f\"\\/<>&", "äöü 漢字 😀 \u2028", "\xff broken \xc3", "ends in \""} {
		require.Equal(t, written(graphql.MarshalString(s)), string(scalar.AppendString(nil, s)))
	}
	for _, at := range []string{"2026-11-23T19:05:09.007008Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999+01:00", "1969-07-20T20:17:40.5-05:00"} {
		parsed, err := time.Parse(time.RFC3339Nano, at)
		require.NoError(t, err)
		require.Equal(t, parsed.UTC().Format(`"2006-01-02T15:04:05.000Z07:00"`), string(scalar.AppendDateTime(nil, parsed)))
	}
	far := time.Date(-44, 3, 15, 0, 0, 0, 0, time.UTC)
	require.Equal(t, far.Format(`"2006-01-02T15:04:05.000Z07:00"`), string(scalar.AppendDateTime(nil, far)))
	id := uuid.New()
	require.Equal(t, `"`+id.String()+`"`, string(scalar.AppendUUID(nil, id)))
	require.Equal(t, written(models.RunProcessing), string(scalar.AppendEnum(nil, models.RunProcessing)))
	require.Equal(t, written(models.JSON(`{"a":1}`)), string(scalar.AppendMarshaler([]byte(nil), models.JSON(`{"a":1}`))))
	require.Equal(t, written(scalar.MarshalInt(-7)), string(scalar.AppendInt(nil, -7)))
	require.Equal(t, `"-9007199254740993"`, string(scalar.AppendBigInt(nil, -9007199254740993)))
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a text of more than eight bytes", "a \"quote\" and a \\ on the way", "\x1f\x20\x7f\x80\xa2\xdc\xff\x21\x22\x23", "seven..\x00eight...\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b bytes.Buffer
		graphql.MarshalString(s).MarshalGQL(&b)
		require.Equal(t, b.String(), string(scalar.AppendString(nil, s)))
	})
}
