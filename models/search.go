package models

import (
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// SearchType is a kind of object that full text is searched in.
type SearchType string

const (
	SearchThread    SearchType = "thread"
	SearchMessage   SearchType = "message"
	SearchReference SearchType = "reference"
)

// SearchTypes are all of them.
var SearchTypes = []SearchType{SearchThread, SearchMessage, SearchReference}

func (t SearchType) MarshalGQL(w io.Writer)    { marshalEnum(w, t) }
func (t *SearchType) UnmarshalGQL(v any) error { return unmarshalEnum(v, t, SearchTypes) }

// maxQuery is in bytes; every word of a query costs a look into the index.
const maxQuery = 500

// Search is a question to the full-text indexes, and to the embeddings where SimilarTo is given.
type Search struct {
	Query     string
	Types     []SearchType
	SimilarTo *Similarity
}

// Check fills in every type where none is given. It fails with BadUserInput.
func (s *Search) Check() error {
	if len(s.Query) > maxQuery {
		return Errorf(BadUserInput, "a query has at most %d bytes", maxQuery)
	}
	if s.Types == nil {
		s.Types = SearchTypes
	}
	return nil
}

// SearchOrder is the order of a search's results.
var SearchOrder = Order{Column: "score", Type: Number, IDType: UUID, Descending: true}

// SearchHit is something that a search has found.
type SearchHit struct {
	Batched `bun:"-"`

	Type  SearchType `bun:"kind"`
	Key   uuid.UUID  `bun:"id"`
	Score float64    `bun:"score"`
	Text  *string    `bun:"snippet"` // with SnippetStart and SnippetStop around what matches
}

// SnippetStart and SnippetStop stand around what matches; the text itself has neither.
const (
	SnippetStart = "\x01"
	SnippetStop  = "\x02"
)

// Cursor is the result's position.
func (h *SearchHit) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: strconv.FormatFloat(h.Score, 'g', -1, 64), ID: h.Key.String()}
}

// KeyOf is the result's key if it is of this type.
func (h *SearchHit) KeyOf(t SearchType) *uuid.UUID {
	if h.Type != t {
		return nil
	}
	return &h.Key
}

// Snippet is the text in parts.
func (h *SearchHit) Snippet() []*SnippetPart {
	parts := []*SnippetPart{}
	add := func(text string, matches bool) {
		if text != "" {
			parts = append(parts, &SnippetPart{Text: text, Matches: matches})
		}
	}
	if h.Text == nil {
		return parts
	}
	before, rest, _ := strings.Cut(*h.Text, SnippetStart)
	add(before, false)
	for rest != "" {
		var match, plain string
		match, rest, _ = strings.Cut(rest, SnippetStop)
		add(match, true)
		plain, rest, _ = strings.Cut(rest, SnippetStart)
		add(plain, false)
	}
	return parts
}

// SnippetPart is a part of a passage.
type SnippetPart struct {
	Text    string
	Matches bool
}

// SimilarityInput is the argument of a similarity search as the client gave it.
type SimilarityInput struct {
	ReferenceID *string
	Text        *string
	Vector      []float64
	Model       *string
}

// Similarity is what something is to be similar to: a reference, or a vector, which may have to be made of a text first.
type Similarity struct {
	ReferenceID *uuid.UUID
	Text        string
	Vector      string  // as PostgreSQL reads it
	Model       *string // that made the vector; nil where nobody said
}

// maxSimilarTo is in bytes: about what models read.
const maxSimilarTo = 8000

// Similarity checks the input. It fails with BadUserInput.
func (in SimilarityInput) Similarity() (Similarity, error) {
	given := 0
	for _, is := range []bool{in.ReferenceID != nil, in.Text != nil, in.Vector != nil} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return Similarity{}, Errorf(BadUserInput, "give one of referenceId, text and vector")
	case in.Model != nil && (in.Vector == nil || *in.Model == ""):
		return Similarity{}, Errorf(BadUserInput, "model is the name of what made a vector")
	case in.Text != nil && strings.TrimSpace(*in.Text) == "":
		return Similarity{}, Errorf(BadUserInput, "the text is empty")
	case in.Text != nil && len(*in.Text) > maxSimilarTo:
		return Similarity{}, Errorf(BadUserInput, "the text has at most %d bytes", maxSimilarTo)
	case in.Text != nil:
		return Similarity{Text: *in.Text}, nil
	case in.ReferenceID != nil:
		id, err := ParseIDOf(KindReference, *in.ReferenceID)
		if err != nil {
			return Similarity{}, err
		}
		key, err := id.UUID()
		return Similarity{ReferenceID: &key}, err
	}
	vector, err := FormatVector(in.Vector)
	return Similarity{Vector: vector, Model: in.Model}, err
}

// FormatVector is an embedding as PostgreSQL reads it. It fails with BadUserInput.
func FormatVector(numbers []float64) (string, error) {
	if len(numbers) != EmbeddingDimensions {
		return "", Errorf(BadUserInput, "a vector has %d numbers, not %d", EmbeddingDimensions, len(numbers))
	}
	text := make([]byte, 0, 12*len(numbers))
	squares := 0.0
	for _, number := range numbers {
		short := float64(float32(number))
		squares += short * short
		if text = append(text, ','); math.IsInf(short, 0) {
			return "", Errorf(BadUserInput, "a vector's numbers have 32 bits")
		}
		text = strconv.AppendFloat(text, short, 'g', -1, 32)
	}
	if float32(squares) == 0 {
		return "", Errorf(BadUserInput, "a vector whose numbers are all 0, or as good as 0, is similar to nothing")
	}
	text[0] = '['
	return string(append(text, ']')), nil
}

// SimilarReference is a reference that a similarity search has found.
type SimilarReference struct {
	Batched `bun:"-"`

	Key   uuid.UUID `bun:"id"`
	Score float64   `bun:"score"` // cosine similarity
}

type (
	SearchConnection = Connection[*SearchHit]
	SearchEdge       = Edge[*SearchHit]
)
