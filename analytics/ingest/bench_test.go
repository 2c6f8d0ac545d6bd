package ingest_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/analytics/ingest"
	"github.com/netra-ai/netra/models"
)

// BenchmarkRecordLines is the way from a request's text to an acknowledgement, without ClickHouse: 10,000 events of three metrics and five dimensions.
func BenchmarkRecordLines(b *testing.B) {
	i, err := ingest.New(ingest.Config{URL: "http://127.0.0.1:1/x", Dir: filepath.Join(b.TempDir(), "spool"), Limit: 1 << 40})
	require.NoError(b, err)
	defer func() { require.NoError(b, i.Close()) }()
	const events = 10_000
	var text bytes.Buffer
	for n := range events {
		fmt.Fprintf(&text, `{"event_id":%q,"timestamp":%q,"workload_id":"7c9e6679-7425-40de-944b-%012x","event_type":"metric","event_category":"compute",`+
			`"metrics":[{"name":"latency_ms","value":%d.5,"unit":"ms"},{"name":"tokens_input","value":%d,"unit":"tokens"},{"name":"cost_usd","value":0.00%d,"unit":"usd"}],`+
			`"dimensions":{"model":"gpt-4.1-mini","agent_type":"triage","status":"completed","environment":"production","thread_id":"3fa85f64-5717-4562-b3fc-%012x"},"metadata":{"attempt":1}}`+"\n",
			uuid.New(), time.Now().UTC().Format(time.RFC3339Nano), n%200, n%5000, n%4000, n%10000, n%1000)
	}
	ctx := models.WithViewer(b.Context(), models.Viewer{UserID: 1})
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		_, err := i.RecordLines(ctx, bytes.NewReader(text.Bytes()), "")
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
}
