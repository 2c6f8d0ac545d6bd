package resolvers

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// reader is a store method that reads rows by their keys.
type reader[K comparable, T any] func(ctx context.Context, keys []K, selected store.Fields) ([]T, error)

// linked loads the object behind a link. A nil key is an empty link.
func linked[K comparable, T loaders.Object](ctx context.Context, r *Resolver, parent models.Cohort, key *K, read reader[K, T], keyOf func(T) K) (T, error) {
	return loaders.One(ctx, r.Loaders, parent, key, func(batch context.Context, keys []K) ([]T, error) {
		return read(batch, keys, selected(ctx))
	}, keyOf)
}

// lookup reads one object by its global id. It fails with BadUserInput, and with NotFound alike for what is absent and for what is not
// the viewer's to see.
func lookup[E any, T entity[E]](ctx context.Context, kind models.Kind, id string, read reader[uuid.UUID, T], keyed func(uuid.UUID) T) (T, error) {
	parsed, err := models.ParseIDOf(kind, id)
	if err != nil {
		return nil, err
	}
	key, err := parsed.UUID()
	if err != nil {
		return nil, err
	}
	return byKey(ctx, kind, key, read, keyed(key))
}

// entity is a pointer to an object of the graph.
type entity[E any] interface {
	*E
	loaders.Object
}

// byKey reads an object, at the same time as what is below it where that may be: keyed is the object with nothing but its key.
func byKey[K comparable, E any, T entity[E]](ctx context.Context, kind models.Kind, key K, read reader[K, T], keyed T) (T, error) {
	fields := selected(ctx)
	if plain.Later(ctx, func(ctx context.Context) (func(), error) {
		rows, err := read(ctx, []K{key}, fields)
		row, err := single(ctx, rows, err, kind)
		return func() {
			cohort := keyed.Cohort()
			*keyed = *row
			keyed.Join(cohort)
		}, err
	}) {
		return loaders.Adopt(ctx, []T{keyed})[0], nil
	}
	rows, err := read(ctx, []K{key}, fields)
	return single(ctx, rows, err, kind)
}

// single is the one object that a root field reads. It is a cohort of its own, so that its fields share answers too.
func single[T loaders.Object](ctx context.Context, rows []T, err error, kind models.Kind) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	if len(rows) == 0 {
		return none, models.Errorf(models.NotFound, "no such %s", kind)
	}
	return loaders.Adopt(ctx, rows)[0], nil
}

func userKey(u *models.User) int                  { return u.DatabaseID }
func threadKey(t *models.Thread) uuid.UUID        { return t.DatabaseID }
func runKey(r *models.Run) uuid.UUID              { return r.DatabaseID }
func messageKey(m *models.Message) uuid.UUID      { return m.DatabaseID }
func transitionKey(t *models.RunTransition) int64 { return t.Seq }
func referenceKey(r *models.Reference) uuid.UUID  { return r.DatabaseID }

func userWith(key int) *models.User                   { return &models.User{DatabaseID: key} }
func threadWith(key uuid.UUID) *models.Thread         { return &models.Thread{DatabaseID: key} }
func runWith(key uuid.UUID) *models.Run               { return &models.Run{DatabaseID: key} }
func messageWith(key uuid.UUID) *models.Message       { return &models.Message{DatabaseID: key} }
func referenceWith(key uuid.UUID) *models.Reference   { return &models.Reference{DatabaseID: key} }
func supplyItemWith(key uuid.UUID) *models.SupplyItem { return &models.SupplyItem{DatabaseID: key} }
func apiKeyWith(key uuid.UUID) *models.APIKey         { return &models.APIKey{DatabaseID: key} }
