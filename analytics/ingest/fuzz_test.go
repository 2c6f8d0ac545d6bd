package ingest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics/ingest"
	"github.com/netra-ai/netra/models"
)

// FuzzLine compares the decoder of lines with encoding/json, which is another one, for every line that both may read.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		oneOfEach, `{"workload_id":"w"}`, `{}`, `[]`, `{"workload_id":"\u00e9\ud83d\ude00\n"}`, `{"workload_id":"w","metrics":[{"name":"n","value":-1.5e3}]}`,
		`{"workload_id":"w","dimensions":{"a":"1","a":"2"}}`, `{"workload_id":"w","metrics":[{"value":1e999,"name":"n"}]}`, `{"workload_id":"w","metadata":{"a":[{}]}}`,
		`{"workload_id":"w"} x`, "{\"workload_id\":\"\xff\"}", `{"work\u006coad_id":"w"}`, `{"workload_id":null}`, ` { "workload_id" : "w" } `,
	} {
		f.Add([]byte(seed))
	}
	viewer := models.Viewer{UserID: 7}
	f.Fuzz(func(t *testing.T, line []byte) {
		kept := bytes.Clone(line)
		read, err := ingest.ReadLine(viewer, time.Now(), line)
		require.Equal(t, kept, line, "a line is not written to")
		if err != nil {
			require.True(t, ingest.IsMistake(err), "%v", err)
			require.True(t, utf8.ValidString(err.Error()))
			return
		}
		require.True(t, jsontext.Value(kept).IsValid(), "what was read is JSON without repeated keys")
		var want struct {
			WorkloadID    string            `json:"workload_id"`
			EventType     *string           `json:"event_type"`
			EventCategory string            `json:"event_category"`
			Dimensions    map[string]string `json:"dimensions"`
			Metadata      json.RawMessage   `json:"metadata"`
			Metrics       []struct {
				Name, Unit string
				Value      *float64
			}
		}
		var mismatch *json.UnmarshalTypeError
		if err := json.Unmarshal(kept, &want); errors.As(err, &mismatch) {
			t.Fatalf("encoding/json does not take it: %s", err)
		}
		require.Equal(t, want.WorkloadID, read.Workload)
		if want.EventType != nil {
			require.Equal(t, *want.EventType, read.Type)
		}
		require.Equal(t, want.EventCategory, read.Category)
		require.Equal(t, strings.TrimSpace(string(want.Metadata)), read.Metadata)
		require.Len(t, read.Dimensions, len(want.Dimensions))
		for key, value := range want.Dimensions {
			require.Equal(t, value, read.Dimensions[key])
		}
		require.Len(t, read.Names, len(want.Metrics))
		for i, m := range want.Metrics {
			require.Equal(t, []any{m.Name, m.Unit, *m.Value}, []any{read.Names[i], read.Units[i], read.Values[i]})
			require.False(t, math.IsInf(read.Values[i], 0))
		}
	})
}

const oneOfEach = `{"event_id":"0b8f8b0e-6c1f-4c52-9d0f-3a7c0f3d6b11","workload_id":"w","event_type":"error","event_category":"compute","user_id":7,` +
	`"metrics":[{"name":"latency","value":1,"unit":"ms"}],"dimensions":{"model":"m"},"metadata":{"a":1}}`
