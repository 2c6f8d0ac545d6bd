package playground_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/netra-ai/netra/web/playground"
)

func built() fstest.MapFS {
	return fstest.MapFS{
		"index.html":           {Data: []byte("<!doctype html>")},
		"assets/index-1.js":    {Data: []byte("plain")},
		"assets/index-1.js.br": {Data: []byte("brotli")},
		"assets/index-1.js.gz": {Data: []byte("gzip")},
		"assets/font-1.ttf":    {Data: []byte("font")},
		"assets/notes.txt":     {Data: []byte("notes")},
	}
}

func request(t *testing.T, opts playground.Options, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	playground.Handler(opts).ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(content)
}

func TestHandler_Index(t *testing.T) {
	t.Parallel()
	opts := playground.Options{Files: built()}

	t.Run("is revalidated by its content", func(t *testing.T) {
		t.Parallel()
		first := request(t, opts, "GET", "/")
		require.Equal(t, http.StatusOK, first.StatusCode)
		require.Equal(t, "text/html; charset=utf-8", first.Header.Get("Content-Type"))
		require.Equal(t, "no-cache", first.Header.Get("Cache-Control"))
		require.Equal(t, "<!doctype html>", body(t, first))

		again := request(t, opts, "GET", "/", "If-None-Match", first.Header.Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.StatusCode)

		changed := built()
		changed["index.html"] = &fstest.MapFile{Data: []byte("<!doctype html><p>")}
		other := request(t, playground.Options{Files: changed}, "GET", "/", "If-None-Match", first.Header.Get("ETag"))
		require.Equal(t, http.StatusOK, other.StatusCode)
	})

	t.Run("says how to build it when it was not", func(t *testing.T) {
		t.Parallel()
		response := request(t, playground.Options{Files: fstest.MapFS{".gitkeep": {}}}, "GET", "/")
		require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
		require.Contains(t, body(t, response), "make run")
	})

	t.Run("the embedded one answers on a clean clone as well", func(t *testing.T) {
		t.Parallel()
		response := request(t, playground.Options{}, "GET", "/")
		require.Contains(t, []int{http.StatusOK, http.StatusServiceUnavailable}, response.StatusCode)
	})
}

func TestHandler_Asset(t *testing.T) {
	t.Parallel()
	opts := playground.Options{Files: built()}

	for name, test := range map[string]struct{ accept, encoding, body string }{
		"brotli where the client takes it":  {"gzip, deflate, br, zstd", "br", "brotli"},
		"gzip where that is all it takes":   {"gzip", "gzip", "gzip"},
		"gzip where brotli is refused":      {"br;q=0, gzip;q=0.5", "gzip", "gzip"},
		"plain where it takes nothing":      {"", "", "plain"},
		"plain where both are refused":      {"br; q=0.0, GZIP;q=0", "", "plain"},
		"plain where the header is garbage": {";;,q=,br;q=x", "", "plain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			response := request(t, opts, "GET", "/assets/index-1.js", "Accept-Encoding", test.accept)
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, test.encoding, response.Header.Get("Content-Encoding"))
			require.Equal(t, test.body, body(t, response))
			require.Equal(t, "text/javascript; charset=utf-8", response.Header.Get("Content-Type"))
			require.Equal(t, "public, max-age=31536000, immutable", response.Header.Get("Cache-Control"))
			require.Equal(t, "Accept-Encoding", response.Header.Get("Vary"))
		})
	}

	t.Run("plain where no other form was built", func(t *testing.T) {
		t.Parallel()
		response := request(t, opts, "GET", "/assets/font-1.ttf", "Accept-Encoding", "gzip, br")
		require.Equal(t, "font", body(t, response))
		require.Equal(t, "font/ttf", response.Header.Get("Content-Type"))
		require.Empty(t, response.Header.Get("Content-Encoding"))
	})
}

func TestHandler_Refuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method, target string
		status         int
	}{
		{"GET", "/nothing", http.StatusNotFound},
		{"GET", "/index.html", http.StatusNotFound},
		{"GET", "/assets/", http.StatusNotFound},
		{"GET", "/assets/nothing.js", http.StatusNotFound},
		{"GET", "/assets/notes.txt", http.StatusNotFound},
		{"GET", "/assets/index-1.js.br", http.StatusNotFound},
		{"GET", "/assets/..%2Findex.js", http.StatusNotFound},
		{"POST", "/", http.StatusMethodNotAllowed},
		{"DELETE", "/assets/index-1.js", http.StatusMethodNotAllowed},
	} {
		t.Run(test.method+test.target, func(t *testing.T) {
			t.Parallel()
			response := request(t, playground.Options{Files: built()}, test.method, test.target)
			require.Equal(t, test.status, response.StatusCode)
			require.NotContains(t, response.Header.Get("Cache-Control"), "immutable")
		})
	}
}

func TestHandler_Config(t *testing.T) {
	t.Parallel()

	t.Run("holds what the server answers and is never stored", func(t *testing.T) {
		t.Parallel()
		config := playground.Config{Dev: true, Users: []playground.User{{Email: "a@example.com", Name: "A", Superuser: true, Token: "t"}}}
		response := request(t, playground.Options{
			Config: func(context.Context) (playground.Config, error) { return config, nil },
		}, "GET", "/playground/config.json")
		require.Equal(t, "no-store", response.Header.Get("Cache-Control"))
		require.JSONEq(t, `{"dev":true,"users":[{"email":"a@example.com","name":"A","superuser":true,"token":"t"}]}`, body(t, response))
	})

	t.Run("offers nobody unless told", func(t *testing.T) {
		t.Parallel()
		response := request(t, playground.Options{}, "GET", "/playground/config.json")
		require.JSONEq(t, `{"dev":false,"users":[]}`, body(t, response))
	})

	t.Run("keeps the reason of a failure in the log", func(t *testing.T) {
		t.Parallel()
		var log bytes.Buffer
		response := request(t, playground.Options{
			Config: func(context.Context) (playground.Config, error) {
				return playground.Config{}, errors.New("secret reason")
			},
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		}, "GET", "/playground/config.json")
		require.Equal(t, http.StatusInternalServerError, response.StatusCode)
		require.NotContains(t, body(t, response), "secret")
		require.Contains(t, log.String(), "secret reason")
	})
}

func TestHandler_KeepsThePageToItsOwnOrigin(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"/", "/assets/index-1.js", "/playground/config.json", "/nothing"} {
		h := request(t, playground.Options{Files: built()}, "GET", "http://netra.test:8080"+target).Header
		policy := h.Get("Content-Security-Policy")
		require.Contains(t, policy, "default-src 'self'")
		require.Contains(t, policy, "connect-src 'self' ws://netra.test:8080 wss://netra.test:8080;")
		require.NotContains(t, policy, "unsafe-eval")
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
	}

	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "x; script-src *"
	w := httptest.NewRecorder()
	playground.Handler(playground.Options{Files: built()}).ServeHTTP(w, r)
	require.NotContains(t, w.Header().Get("Content-Security-Policy"), "*")
}

func TestExamples(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 30, 0, 5e6, time.UTC)
	examples, err := playground.Examples(now)
	require.NoError(t, err)
	require.NotEmpty(t, examples)

	names := map[string]bool{}
	for _, example := range examples {
		document, err := parser.ParseQuery(&ast.Source{Name: example.Name, Input: example.Query})
		require.NoError(t, err)
		require.Len(t, document.Operations, 1)
		require.NotEmpty(t, document.Operations[0].Name, "the tab's title")
		require.False(t, names[document.Operations[0].Name], "two tabs with one title")
		names[document.Operations[0].Name] = true
		require.True(t, strings.HasPrefix(example.Query, "# "), "the first line says what the example shows")

		variables := map[string]any{}
		if example.Variables != nil {
			require.NoError(t, json.Unmarshal(example.Variables, &variables), example.Name)
			require.NotContains(t, string(example.Variables), "{{", example.Name)
		}
		for _, definition := range document.Operations[0].VariableDefinitions {
			require.Contains(t, variables, definition.Variable, example.Name)
		}
		if example.Name == "06-metrics" {
			require.Equal(t, map[string]any{"from": "2026-03-03T12:30:00.005Z", "to": "2026-03-11T12:30:00.005Z"}, variables["range"])
		}
	}
}
