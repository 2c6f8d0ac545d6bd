package models

import (
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// SupplyItem is a row of supply_catalog. One without a user is a system item, which every viewer sees.
type SupplyItem struct {
	bun.BaseModel `bun:"table:supply_catalog"`
	Batched       `bun:"-"`

	DatabaseID         uuid.UUID `bun:"id,pk"`
	UserID             *int      `bun:"user_id"`
	Name               string    `bun:"name"`
	Category           string    `bun:"category"`
	Provider           *string   `bun:"provider"`
	Specifications     JSON      `bun:"specifications,type:jsonb"`
	Pricing            JSON      `bun:"pricing,type:jsonb"`
	Availability       JSON      `bun:"availability,type:jsonb"`
	PerformanceMetrics JSON      `bun:"performance_metrics,type:jsonb"`
	IsActive           bool      `bun:"is_active"`
	CreatedAt          time.Time `bun:"created_at"`
	UpdatedAt          time.Time `bun:"updated_at"`
	Metadata           JSON      `bun:"metadata,type:jsonb"`
	Version            int       `bun:"version,nullzero,default:1"`
}

func (*SupplyItem) IsNode()      {}
func (s *SupplyItem) ID() string { return uuidID(KindSupplyItem, s.DatabaseID) }

// IsSystem is whether the item is the platform's and not a user's.
func (s *SupplyItem) IsSystem() bool { return s.UserID == nil }

// Cursor is the item's position under order.
func (s *SupplyItem) Cursor(order Order) Cursor {
	c := Cursor{Column: order.Column, Value: CursorTime(s.CreatedAt), ID: s.DatabaseID.String()}
	if order.Column == "name" {
		c.Value = s.Name
	}
	return c
}

// SupplyItemOrderField is a column by which supply items can be listed.
type SupplyItemOrderField string

const (
	SupplyItemCreatedAt SupplyItemOrderField = "CREATED_AT"
	SupplyItemName      SupplyItemOrderField = "NAME"
)

func (f SupplyItemOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *SupplyItemOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []SupplyItemOrderField{SupplyItemCreatedAt, SupplyItemName})
}

// SupplyItemOrder is the argument `orderBy` of a list of supply items.
type SupplyItemOrder struct {
	Field     SupplyItemOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o SupplyItemOrder) Order() Order {
	order := Order{Column: "created_at", Type: Timestamp, IDType: UUID, Descending: o.Direction == Descending}
	if o.Field == SupplyItemName {
		order.Column, order.Type = "name", Text
	}
	return order
}

// SupplyItemFilter narrows a list of supply items.
type SupplyItemFilter struct {
	Category           []string
	Provider           []string
	IsActive           *bool
	IsSystem           *bool
	CreatedAt          *TimeFilter
	Specifications     []JSONCondition
	Pricing            []JSONCondition
	Availability       []JSONCondition
	PerformanceMetrics []JSONCondition
	Metadata           JSON
}

type (
	SupplyItemConnection = Connection[*SupplyItem]
	SupplyItemEdge       = Edge[*SupplyItem]
)
