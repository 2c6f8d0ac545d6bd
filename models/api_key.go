package models

import (
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// APIKey is a row of api_keys, without its hash.
type APIKey struct {
	bun.BaseModel `bun:"table:api_keys"`
	Batched       `bun:"-"`

	DatabaseID  uuid.UUID    `bun:"id,pk"`
	UserID      int          `bun:"user_id"`
	Name        string       `bun:"name"`
	LastUsedAt  *time.Time   `bun:"last_used_at"`
	ExpiresAt   *time.Time   `bun:"expires_at"`
	IsActive    bool         `bun:"is_active"`
	CreatedAt   time.Time    `bun:"created_at"`
	Metadata    JSON         `bun:"metadata,type:jsonb"`
	Permissions []Permission `bun:"permissions,array,nullzero,default:'{read}'"`
}

func (*APIKey) IsNode()      {}
func (k *APIKey) ID() string { return uuidID(KindAPIKey, k.DatabaseID) }

// Cursor is the key's position under order.
func (k *APIKey) Cursor(order Order) Cursor {
	c := Cursor{Column: order.Column, Value: CursorTime(k.CreatedAt), ID: k.DatabaseID.String()}
	if order.Column == "name" {
		c.Value = k.Name
	}
	return c
}

// APIKeyOrderField is a column by which API keys can be listed.
type APIKeyOrderField string

const (
	APIKeyCreatedAt APIKeyOrderField = "CREATED_AT"
	APIKeyName      APIKeyOrderField = "NAME"
)

func (f APIKeyOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *APIKeyOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []APIKeyOrderField{APIKeyCreatedAt, APIKeyName})
}

// APIKeyOrder is the argument `orderBy` of a list of API keys.
type APIKeyOrder struct {
	Field     APIKeyOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o APIKeyOrder) Order() Order {
	order := Order{Column: "created_at", Type: Timestamp, IDType: UUID, Descending: o.Direction == Descending}
	if o.Field == APIKeyName {
		order.Column, order.Type = "name", Text
	}
	return order
}

// APIKeyFilter narrows a list of API keys.
type APIKeyFilter struct {
	IsActive  *bool
	CreatedAt *TimeFilter
	Metadata  JSON
}

type (
	APIKeyConnection = Connection[*APIKey]
	APIKeyEdge       = Edge[*APIKey]
)
