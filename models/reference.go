package models

import (
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// EmbeddingDimensions is the length of every embedding.
const EmbeddingDimensions = 1536

// Reference is a row of references: a document or data that a user has uploaded.
type Reference struct {
	bun.BaseModel `bun:"table:references"`
	Batched       `bun:"-"`

	DatabaseID   uuid.UUID     `bun:"id,pk"`
	UserID       int           `bun:"user_id"`
	Name         string        `bun:"name"`
	Type         ReferenceType `bun:"type"`
	Content      *string       `bun:"content"`
	FilePath     *string       `bun:"file_path"`
	FileSize     *int64        `bun:"file_size"` // bytes
	MimeType     *string       `bun:"mime_type"`
	Checksum     *string       `bun:"checksum"`                             // SHA-256 in hex
	Embedding    []float64     `bun:"embedding,type:vector(1536),nullzero"` // as PostgreSQL writes the 32-bit numbers
	HasEmbedding bool          `bun:"has_embedding,scanonly"`

	EmbeddingStatus EmbeddingStatus `bun:"embedding_status,scanonly"`
	EmbeddingModel  *string         `bun:"embedding_model"`
	EmbeddingError  *string         `bun:"embedding_error"`
	EmbeddedAt      *time.Time      `bun:"embedded_at"`

	CreatedAt time.Time `bun:"created_at"`
	UpdatedAt time.Time `bun:"updated_at"`
	Metadata  JSON      `bun:"metadata,type:jsonb"`
	Version   int       `bun:"version,nullzero,default:1"`
}

func (*Reference) IsNode()      {}
func (r *Reference) ID() string { return uuidID(KindReference, r.DatabaseID) }

// Cursor is the reference's position under order.
func (r *Reference) Cursor(order Order) Cursor {
	c := Cursor{Column: order.Column, Value: CursorTime(r.CreatedAt), ID: r.DatabaseID.String()}
	switch order.Column {
	case "updated_at":
		c.Value = CursorTime(r.UpdatedAt)
	case "name":
		c.Value = r.Name
	}
	return c
}

// ReferenceType is the CHECK constraint of references.type.
type ReferenceType string

const (
	ReferenceDocument      ReferenceType = "document"
	ReferenceDataset       ReferenceType = "dataset"
	ReferenceConfiguration ReferenceType = "configuration"
	ReferenceModel         ReferenceType = "model"
	ReferenceOther         ReferenceType = "other"
)

func (t ReferenceType) MarshalGQL(w io.Writer) { marshalEnum(w, t) }
func (t *ReferenceType) UnmarshalGQL(v any) error {
	return unmarshalEnum(v, t, []ReferenceType{ReferenceDocument, ReferenceDataset, ReferenceConfiguration, ReferenceModel, ReferenceOther})
}

// EmbeddingStatus is how far a reference's embedding is.
type EmbeddingStatus string

const (
	EmbeddingReady   EmbeddingStatus = "ready"   // of the text as it is, or given by a writer
	EmbeddingPending EmbeddingStatus = "pending" // the text waits for the endpoint; an embedding of an earlier text may be there
	EmbeddingFailed  EmbeddingStatus = "failed"  // the endpoint has refused the text
	EmbeddingNone    EmbeddingStatus = "none"    // nothing will make one: there is no text, or no endpoint
)

func (s EmbeddingStatus) MarshalGQL(w io.Writer) { marshalEnum(w, s) }
func (s *EmbeddingStatus) UnmarshalGQL(v any) error {
	return unmarshalEnum(v, s, []EmbeddingStatus{EmbeddingReady, EmbeddingPending, EmbeddingFailed, EmbeddingNone})
}

// ReferenceOrderField is a column by which references can be listed.
type ReferenceOrderField string

const (
	ReferenceCreatedAt ReferenceOrderField = "CREATED_AT"
	ReferenceUpdatedAt ReferenceOrderField = "UPDATED_AT"
	ReferenceName      ReferenceOrderField = "NAME"
)

func (f ReferenceOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *ReferenceOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []ReferenceOrderField{ReferenceCreatedAt, ReferenceUpdatedAt, ReferenceName})
}

// ReferenceOrder is the argument `orderBy` of a list of references.
type ReferenceOrder struct {
	Field     ReferenceOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o ReferenceOrder) Order() Order {
	order := Order{Column: "created_at", Type: Timestamp, IDType: UUID, Descending: o.Direction == Descending}
	switch o.Field {
	case ReferenceUpdatedAt:
		order.Column = "updated_at"
	case ReferenceName:
		order.Column, order.Type = "name", Text
	}
	return order
}

// ReferenceFilter narrows a list of references.
type ReferenceFilter struct {
	Type         []ReferenceType
	MimeType     []string
	HasEmbedding *bool

	EmbeddingStatus []EmbeddingStatus

	CreatedAt *TimeFilter
	UpdatedAt *TimeFilter
	Metadata  JSON
}

type (
	ReferenceConnection = Connection[*Reference]
	ReferenceEdge       = Edge[*Reference]
)
