package server_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/server"
)

// BenchmarkPOST is what the edge adds to an operation: authentication, limits, negotiation, logs and metrics.
func BenchmarkPOST(b *testing.B) {
	s, err := server.New(server.Config{Resolvers: nothing{}, Authenticate: knownUsers, Secret: secret})
	require.NoError(b, err)
	handler, bearer := s.Handler(), "Bearer "+tokenOf(b, ordinary)
	body := []byte(`{"query":"` + strings.ReplaceAll(referenceQuery, "\n", `\n`) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/graphql", bytes.NewReader(body))
		r.Header.Set("Content-Type", jsonType)
		r.Header.Set("Authorization", bearer)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body.String())
		}
	}
}
