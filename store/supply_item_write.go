package store

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// SupplyItems are those of ids that the viewer may see, with all their columns, in any order.
func (t *Tx) SupplyItems(ctx context.Context, ids []uuid.UUID) ([]*models.SupplyItem, error) {
	return rowsOf[*models.SupplyItem](ctx, t, "SELECT "+supplyItems.all()+" FROM supply_catalog WHERE id = ANY($1::uuid[])", ids)
}

// LockSupplyItem reads an item that the viewer may change, which nobody else changes until the transaction ends. It fails with NotFound, for system items too
// unless the viewer is a superuser.
func (t *Tx) LockSupplyItem(ctx context.Context, id uuid.UUID) (*models.SupplyItem, error) {
	return rowOf[*models.SupplyItem](ctx, t, models.KindSupplyItem, "SELECT "+supplyItems.all()+" FROM supply_catalog WHERE id = $1 FOR NO KEY UPDATE", id)
}

// InsertSupplyItem adds an item of a user, or of the system where userID is nil.
func (t *Tx) InsertSupplyItem(ctx context.Context, userID *int, input models.CreateSupplyItemInput) (uuid.UUID, error) {
	return t.insert(ctx, `INSERT INTO supply_catalog (user_id, name, category, provider, specifications, pricing, availability, performance_metrics, metadata)
		VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7::text::jsonb, $8::text::jsonb, coalesce($9::text::jsonb, '{}')) RETURNING id`,
		userID, input.Name, input.Category, input.Provider, input.Specifications, input.Pricing, input.Availability, input.PerformanceMetrics, input.Metadata)
}

// UpdateSupplyItem edits an item.
func (t *Tx) UpdateSupplyItem(ctx context.Context, id uuid.UUID, input models.UpdateSupplyItemInput) error {
	c := new(changes)
	texts := []struct {
		column string
		value  graphql.Omittable[*string]
	}{{"name", input.Name}, {"category", input.Category}, {"provider", input.Provider}}
	for _, text := range texts {
		if value, ok := text.value.ValueOK(); ok {
			c.set(text.column, value, "::text")
		}
	}
	documents := []struct {
		column string
		value  graphql.Omittable[models.JSON]
	}{{"specifications", input.Specifications}, {"pricing", input.Pricing}, {"availability", input.Availability},
		{"performance_metrics", input.PerformanceMetrics}, {"metadata", input.Metadata}}
	for _, document := range documents {
		if value, ok := document.value.ValueOK(); ok {
			c.set(document.column, value, "::text::jsonb")
		}
	}
	if input.IsActive != nil {
		c.set("is_active", *input.IsActive, "::boolean")
	}
	return c.update(ctx, t, "supply_catalog", id, "::uuid")
}
