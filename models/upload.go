package models

import (
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// Upload is a file that has been received and lies in the storage, and of which nothing is visible yet. In GraphQL it is a scalar, whose value only a
// multipart request can bring.
type Upload struct {
	Path      string  `json:"-"` // in the storage; every attempt has its own
	Name      string  // the file's, as the sender calls it
	Size      int64   // bytes
	Checksum  string  // SHA-256 in hex
	MediaType string  // as sniffed
	Text      *string `json:"-"` // what is kept of a text
}

// MarshalGQL writes null: an upload is input only.
func (Upload) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, "null") }

// UnmarshalGQL takes what the server has put in the place of a file.
func (u *Upload) UnmarshalGQL(v any) error {
	received, ok := v.(Upload)
	if !ok {
		return Errorf(BadUserInput, "a file comes by a multipart request (multipart/form-data): see the GraphQL multipart request specification")
	}
	*u = received
	return nil
}

// Sending is what the sender of a file says of it before it comes.
type Sending struct {
	Length    int64 // bytes; -1 where it is not said
	MediaType string
	Checksum  string // SHA-256 in hex; empty where it is not said
}

// PendingUpload is a row of pending_uploads: a reference whose file has not come yet.
type PendingUpload struct {
	bun.BaseModel `bun:"table:pending_uploads"`

	ID          uuid.UUID     `bun:"id,pk"` // of the reference to be
	UserID      int           `bun:"user_id"`
	Name        string        `bun:"name"`
	Type        ReferenceType `bun:"type"`
	MimeType    *string       `bun:"mime_type"` // as declared
	FileSize    *int64        `bun:"file_size"` // bytes, as declared
	Metadata    JSON          `bun:"metadata,type:jsonb"`
	ExpiresAt   time.Time     `bun:"expires_at"`
	CompletedAt *time.Time    `bun:"completed_at"`

	URL     string `bun:"-"` // where to send the file
	MaxSize int64  `bun:"-"` // bytes
}

// ReferenceID is the global id of the reference to be.
func (u *PendingUpload) ReferenceID() string { return uuidID(KindReference, u.ID) }

// CreateUploadInput is what the mutation createUpload takes.
type CreateUploadInput struct {
	Name           string
	Type           ReferenceType
	MimeType       *string `json:",omitzero"`
	Size           *int64  `json:",omitzero"`
	Metadata       JSON    `json:",omitzero"`
	IdempotencyKey *string `json:"-"`
}

// CreateUploadPayload is what the mutation createUpload answers.
type CreateUploadPayload struct {
	Upload     *PendingUpload
	UserErrors []*UserError
}

// CreateReferenceInput is what the mutation createReference takes.
type CreateReferenceInput struct {
	Name           *string `json:",omitzero"`
	Type           ReferenceType
	File           Upload
	Metadata       JSON    `json:",omitzero"`
	IdempotencyKey *string `json:"-"`
}

// CreateReferencePayload is what the mutation createReference answers.
type CreateReferencePayload struct {
	Reference  *Reference
	UserErrors []*UserError
}

// StoredFile is the file of a reference.
type StoredFile struct {
	bun.BaseModel `bun:"table:references"`

	Path      string    `bun:"file_path"`
	Name      string    `bun:"name"`
	MediaType *string   `bun:"mime_type"`
	Checksum  string    `bun:"checksum"`
	CreatedAt time.Time `bun:"created_at"`
}

// Link is what a signed URL stands for: a viewer, and one reference.
type Link struct {
	UserID    int
	APIKey    uuid.UUID // with which the user had signed in; zero for a person
	Reference uuid.UUID
	MaxSize   int64 // bytes that may be uploaded; zero for downloads
}
