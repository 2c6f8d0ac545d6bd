package app

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// CreateThread begins a conversation of the viewer.
func (a *App) CreateThread(ctx context.Context, input models.CreateThreadInput) (*models.CreateThreadPayload, error) {
	return a.changeThread(ctx, call{"createThread", writer, input.IdempotencyKey, input}, func(k *checks) {
		k.optionalName("title", input.Title, maxName)
		k.metadata(input.Metadata)
	}, func(tx *store.Tx, viewer models.Viewer) (uuid.UUID, error) {
		id := tx.InsertThread(viewer.UserID, input.Title, input.Metadata)
		tx.On(models.KindThread, id.String())
		return id, nil
	})
}

// UpdateThread edits a thread's title and metadata. A thread in the bin is not edited.
func (a *App) UpdateThread(ctx context.Context, input models.UpdateThreadInput) (*models.UpdateThreadPayload, error) {
	var id uuid.UUID
	return a.changeThread(ctx, call{"updateThread", writer, input.IdempotencyKey, input}, func(k *checks) {
		id = k.about("id", models.KindThread, input.ID)
		k.optionalName("title", input.Title.Value(), maxName)
		k.metadata(input.Metadata.Value())
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		thread, err := tx.LockThread(ctx, id)
		if err != nil {
			return id, err
		}
		if err := expect(input.ExpectedVersion, thread.Version, models.KindThread); err != nil {
			return id, err
		}
		if thread.Status == models.ThreadDeleted {
			return id, models.Errorf(models.Conflict, "the thread is DELETED: restore it first")
		}
		tx.UpdateThread(id, input)
		return id, nil
	})
}

// expect holds the version that an edit was made of against the one that is there.
func expect(expected *int, version int, kind models.Kind) error {
	if expected != nil && *expected != version {
		return ofArgument("expectedVersion", models.Errorf(models.Conflict, "the %s has been changed: its version is %d and not %d; read it again", kind, version, *expected))
	}
	return nil
}

// ArchiveThread puts a thread away. One that is away already stays so.
func (a *App) ArchiveThread(ctx context.Context, input models.ArchiveThreadInput) (*models.ArchiveThreadPayload, error) {
	return a.moveThread(ctx, call{"archiveThread", writer, input.IdempotencyKey, input}, input.ID, models.ThreadArchived)
}

// RestoreThread takes a thread out of the archive or the bin.
func (a *App) RestoreThread(ctx context.Context, input models.RestoreThreadInput) (*models.RestoreThreadPayload, error) {
	return a.moveThread(ctx, call{"restoreThread", writer, input.IdempotencyKey, input}, input.ID, models.ThreadActive)
}

func (a *App) moveThread(ctx context.Context, c call, global string, to models.ThreadStatus) (*models.ThreadPayload, error) {
	var id uuid.UUID
	return a.changeThread(ctx, c, func(k *checks) {
		id = k.about("id", models.KindThread, global)
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		thread, err := tx.LockThread(ctx, id)
		if err != nil {
			return id, err
		}
		if err := mayMove(thread.Status, to); err != nil {
			return id, err
		}
		tx.SetThreadStatus([]uuid.UUID{id}, to)
		return id, nil
	})
}

// mayMove is where a thread can go: anywhere but from the bin to the archive. A step to where it is changes nothing and is no fault.
func mayMove(from, to models.ThreadStatus) error {
	if from == models.ThreadDeleted && to == models.ThreadArchived {
		return models.Errorf(models.Conflict, "a thread cannot go from DELETED to ARCHIVED: restore it first")
	}
	return nil
}

// changeThread is perform for verbs that answer one thread.
func (a *App) changeThread(ctx context.Context, c call, check func(*checks), act func(*store.Tx, models.Viewer) (uuid.UUID, error)) (*models.ThreadPayload, error) {
	var rows []*models.Thread
	wrong, err := perform(ctx, a, c, check, act, func(tx *store.Tx, id uuid.UUID) error {
		tx.Threads([]uuid.UUID{id}, &rows)
		return nil
	})
	return &models.ThreadPayload{Thread: one(rows), UserErrors: wrong}, err
}

// one is the only row there is, or none: what a repeated call did may be gone since.
func one[T any](rows []*T) *T {
	if len(rows) == 0 {
		return nil
	}
	return rows[0]
}

// DeleteThread moves a thread into the bin, or deletes it with its messages for good.
func (a *App) DeleteThread(ctx context.Context, input models.DeleteThreadInput) (*models.DeleteThreadPayload, error) {
	purge := input.Purge != nil && *input.Purge
	var id uuid.UUID
	var rows []*models.Thread
	wrong, err := perform(ctx, a, call{"deleteThread", writer, input.IdempotencyKey, input}, func(k *checks) {
		id = k.about("id", models.KindThread, input.ID)
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		if _, err := tx.LockThread(ctx, id); err != nil {
			return id, err
		}
		if purge {
			tx.PurgeThread(id)
		} else {
			tx.SetThreadStatus([]uuid.UUID{id}, models.ThreadDeleted)
		}
		return id, nil
	}, func(tx *store.Tx, id uuid.UUID) error {
		tx.Threads([]uuid.UUID{id}, &rows)
		return nil
	})
	payload := &models.DeleteThreadPayload{Thread: one(rows), UserErrors: wrong}
	if len(wrong) == 0 {
		payload.DeletedID = &input.ID
	}
	return payload, err
}

// itemDone is what became of one of several objects.
type itemDone struct {
	Key     uuid.UUID
	Code    models.Code `json:",omitempty"`
	Message string      `json:",omitempty"`
}

func (i itemDone) err() error {
	if i.Code == "" {
		return nil
	}
	return models.Errorf(i.Code, "%s", i.Message)
}

// itemsDone notes what became of each, in the order in which they were given.
func itemsDone(tx *store.Tx, kind models.Kind, keys []uuid.UUID, became func(uuid.UUID) error) ([]itemDone, error) {
	items := make([]itemDone, len(keys))
	for i, key := range keys {
		err := became(key)
		items[i].Key = key
		if err != nil {
			items[i].Code, items[i].Message = models.CodeOf(err), err.Error()
		}
		if err := tx.Item(kind, key.String(), err); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// ArchiveThreads puts several threads away; one that cannot be does not hinder the others.
func (a *App) ArchiveThreads(ctx context.Context, input models.ArchiveThreadsInput) (*models.ArchiveThreadsPayload, error) {
	var ids []uuid.UUID
	var done []itemDone
	var rows []*models.Thread
	wrong, err := perform(ctx, a, call{"archiveThreads", writer, input.IdempotencyKey, input}, func(k *checks) {
		ids = k.ids("ids", models.KindThread, input.IDs)
	}, func(tx *store.Tx, _ models.Viewer) ([]itemDone, error) {
		locked, err := tx.LockThreads(ctx, ids)
		if err != nil {
			return nil, err
		}
		found := byKey(locked, threadKey)
		var moving []uuid.UUID
		items, err := itemsDone(tx, models.KindThread, ids, func(id uuid.UUID) error {
			thread, ok := found[id]
			if !ok {
				return models.Errorf(models.NotFound, "no such %s", models.KindThread)
			}
			if err := mayMove(thread.Status, models.ThreadArchived); err != nil {
				return err
			}
			moving = append(moving, id)
			return nil
		})
		if err != nil {
			return nil, err
		}
		tx.SetThreadStatus(moving, models.ThreadArchived)
		return items, nil
	}, func(tx *store.Tx, items []itemDone) error {
		done = items
		tx.Threads(keysOf(items), &rows)
		return nil
	})
	payload := &models.ArchiveThreadsPayload{Results: []*models.ThreadResult{}, UserErrors: wrong}
	if err != nil || len(wrong) > 0 {
		return payload, err
	}
	payload.Results = resultsOf(done, byKey(rows, threadKey), func(i int, thread *models.Thread, wrong []*models.UserError) *models.ThreadResult {
		return &models.ThreadResult{ID: input.IDs[i], Thread: thread, UserErrors: wrong}
	})
	return payload, nil
}

func threadKey(t *models.Thread) uuid.UUID { return t.DatabaseID }

func byKey[T any](rows []T, key func(T) uuid.UUID) map[uuid.UUID]T {
	found := make(map[uuid.UUID]T, len(rows))
	for _, row := range rows {
		found[key(row)] = row
	}
	return found
}

// resultsOf makes what is answered of each of several objects, of those found that something was done to.
func resultsOf[T, R any](items []itemDone, found map[uuid.UUID]*T, result func(i int, object *T, wrong []*models.UserError) R) []R {
	results := make([]R, len(items))
	for i, item := range items {
		var object *T
		if item.Code == "" {
			object = found[item.Key]
		}
		results[i] = result(i, object, itemErrors(item.err()))
	}
	return results
}

func keysOf(items []itemDone) []uuid.UUID {
	keys := make([]uuid.UUID, len(items))
	for i, item := range items {
		keys[i] = item.Key
	}
	return keys
}
