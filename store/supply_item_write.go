package store

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// SupplyItems reads those of ids that the viewer may see, with all their columns, in any order: into is set when a later statement has been answered, or at the end.
func (t *Tx) SupplyItems(ids []uuid.UUID, into *[]*models.SupplyItem) {
	laterByID(t, into, supplyItems, ids, "uuid")
}

// LockSupplyItem reads an item that the viewer may change, which nobody else changes until the transaction ends. It fails with NotFound, for system items too
// unless the viewer is a superuser.
func (t *Tx) LockSupplyItem(ctx context.Context, id uuid.UUID) (*models.SupplyItem, error) {
	return rowOf[*models.SupplyItem](ctx, t, models.KindSupplyItem, "SELECT "+supplyItems.columns(supplyItems.all())+" FROM supply_catalog WHERE id = $1 FOR NO KEY UPDATE", id)
}

// InsertSupplyItem adds an item of a user, or of the system where userID is nil.
func (t *Tx) InsertSupplyItem(userID *int, input models.CreateSupplyItemInput) uuid.UUID {
	id := uuid.New()
	t.later(`INSERT INTO supply_catalog (id, user_id, name, category, provider, specifications, pricing, availability, performance_metrics, metadata)
		VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8::text::jsonb, $9::text::jsonb, coalesce($10::text::jsonb, '{}'))`,
		id, userID, input.Name, input.Category, input.Provider, input.Specifications, input.Pricing, input.Availability, input.PerformanceMetrics, input.Metadata)
	return id
}

// UpdateSupplyItem edits an item.
func (t *Tx) UpdateSupplyItem(id uuid.UUID, input models.UpdateSupplyItemInput) {
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
	c.update(t, "supply_catalog", id, "::uuid")
}
