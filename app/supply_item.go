package app

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// CreateSupplyItem adds an item of the viewer's, or of the system's for superusers, to the catalogue.
func (a *App) CreateSupplyItem(ctx context.Context, input models.CreateSupplyItemInput) (*models.CreateSupplyItemPayload, error) {
	return a.changeSupplyItem(ctx, call{"createSupplyItem", writer, input.IdempotencyKey, input}, func(k *checks) {
		k.name("name", input.Name, maxName)
		k.name("category", input.Category, maxShort)
		k.optionalName("provider", input.Provider, maxShort)
		k.object("specifications", input.Specifications, maxMetadata)
		k.object("pricing", input.Pricing, maxMetadata)
		k.object("availability", input.Availability, maxMetadata)
		k.object("performanceMetrics", input.PerformanceMetrics, maxMetadata)
		k.metadata(input.Metadata)
	}, func(tx *store.Tx, viewer models.Viewer) (uuid.UUID, error) {
		owner := &viewer.UserID
		if input.IsSystem != nil && *input.IsSystem {
			if !viewer.Superuser {
				return uuid.Nil, models.Errorf(models.Forbidden, "only superusers make system items")
			}
			owner = nil
		}
		id := tx.InsertSupplyItem(owner, input)
		tx.On(models.KindSupplyItem, id.String())
		return id, nil
	})
}

// UpdateSupplyItem edits an item: the viewer's own, or a system item for superusers.
func (a *App) UpdateSupplyItem(ctx context.Context, input models.UpdateSupplyItemInput) (*models.UpdateSupplyItemPayload, error) {
	return a.editSupplyItem(ctx, call{"updateSupplyItem", writer, input.IdempotencyKey, input}, input)
}

// DeactivateSupplyItem takes an item out of use; updateSupplyItem brings it back.
func (a *App) DeactivateSupplyItem(ctx context.Context, input models.DeactivateSupplyItemInput) (*models.DeactivateSupplyItemPayload, error) {
	inactive := false
	return a.editSupplyItem(ctx, call{"deactivateSupplyItem", writer, input.IdempotencyKey, input}, models.UpdateSupplyItemInput{ID: input.ID, IsActive: &inactive})
}

func (a *App) editSupplyItem(ctx context.Context, c call, input models.UpdateSupplyItemInput) (*models.SupplyItemPayload, error) {
	var id uuid.UUID
	return a.changeSupplyItem(ctx, c, func(k *checks) {
		id = k.about("id", models.KindSupplyItem, input.ID)
		k.kept("name", input.Name, maxName)
		k.kept("category", input.Category, maxShort)
		k.optionalName("provider", input.Provider.Value(), maxShort)
		if document, ok := input.Specifications.ValueOK(); ok && document == nil {
			k.wrong("specifications", "cannot be cleared")
		}
		k.object("specifications", input.Specifications.Value(), maxMetadata)
		k.object("pricing", input.Pricing.Value(), maxMetadata)
		k.object("availability", input.Availability.Value(), maxMetadata)
		k.object("performanceMetrics", input.PerformanceMetrics.Value(), maxMetadata)
		k.metadata(input.Metadata.Value())
	}, func(tx *store.Tx, viewer models.Viewer) (uuid.UUID, error) {
		var seen []*models.SupplyItem
		tx.SupplyItems([]uuid.UUID{id}, &seen)
		item, err := tx.LockSupplyItem(ctx, id)
		if len(seen) == 1 && seen[0].IsSystem() && !viewer.Superuser {
			return id, models.Errorf(models.Forbidden, "only superusers change system items")
		}
		if err != nil {
			return id, err
		}
		if err := expect(input.ExpectedVersion, item.Version, models.KindSupplyItem); err != nil {
			return id, err
		}
		tx.UpdateSupplyItem(id, input)
		return id, nil
	})
}

// kept is a name that may be absent, but not null.
func (k *checks) kept(path string, value graphql.Omittable[*string], characters int) {
	name, given := value.ValueOK()
	if given && name == nil {
		k.wrong(path, "cannot be cleared")
		return
	}
	k.optionalName(path, name, characters)
}

// changeSupplyItem is perform for verbs that answer one item.
func (a *App) changeSupplyItem(ctx context.Context, c call, check func(*checks), act func(*store.Tx, models.Viewer) (uuid.UUID, error)) (*models.SupplyItemPayload, error) {
	var rows []*models.SupplyItem
	wrong, err := perform(ctx, a, c, check, act, func(tx *store.Tx, id uuid.UUID) error {
		tx.SupplyItems([]uuid.UUID{id}, &rows)
		return nil
	})
	return &models.SupplyItemPayload{SupplyItem: one(rows), UserErrors: wrong}, err
}
