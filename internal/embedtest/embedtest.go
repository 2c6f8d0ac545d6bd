// Package embedtest speaks the protocol of OpenAI's embeddings for tests. It is no model: texts with words in common are similar, and that is
// all that it knows.
package embedtest

import (
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/netra-ai/netra/models"
)

// Key is the one that is let in.
const Key = "sk-do-not-tell"

// Server answers POST /v1/embeddings.
type Server struct {
	URL string // for the configuration

	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request, c Call) bool
	calls []Call
}

// Call is a request.
type Call struct {
	Model      string   `json:"model"`
	Input      []string `json:"input"`
	Dimensions int      `json:"dimensions"`
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{}
	listening := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(listening.Close)
	s.URL = listening.URL + "/v1/"
	return s
}

// Break makes fault answer in the server's place where it returns true; nil repairs it.
func (s *Server) Break(fault func(w http.ResponseWriter, r *http.Request, c Call) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Calls are those until now, with those that failed.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	var call Call
	if r.Method != http.MethodPost || r.URL.Path != "/v1/embeddings" || json.NewDecoder(r.Body).Decode(&call) != nil || len(call.Input) == 0 {
		http.Error(w, "no such thing", http.StatusNotFound)
		return
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	fault := s.fault
	s.mu.Unlock()
	if fault != nil && fault(w, r, call) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+Key {
		Refuse(w, http.StatusUnauthorized, "invalid_api_key", "Incorrect API key provided: "+r.Header.Get("Authorization"))
		return
	}
	Answer(w, call.Model, call.Input)
}

// Answer is a good answer, in another order than that of the texts.
func Answer(w http.ResponseWriter, model string, texts []string) {
	type item struct {
		Object    string    `json:"object"`
		Index     int       `json:"index"`
		Embedding []float64 `json:"embedding"`
	}
	items := make([]item, len(texts))
	for i, text := range texts {
		items[len(texts)-1-i] = item{"embedding", i, Embed(model, text)}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "model": model, "data": items, "usage": map[string]int{"prompt_tokens": 1, "total_tokens": 1}}) // who asked may have left
}

// Refuse is an error as the protocol writes it.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": message, "type": "invalid_request_error", "code": code}})
}

// Embed is the sum of a random vector for each word; each model has its own.
func Embed(model, text string) []float64 {
	sum := make([]float64, models.EmbeddingDimensions)
	for _, word := range strings.Fields(strings.ToLower(text)) {
		seed := fnv.New64a()
		_, _ = seed.Write([]byte(model + " " + word)) // never fails
		random := rand.New(rand.NewPCG(seed.Sum64(), 1))
		for i := range sum {
			sum[i] += random.NormFloat64()
		}
	}
	return sum
}
