package store

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

const (
	// viewerAge bounds how long a deactivated user, or one who lost a right, goes on unnoticed.
	viewerAge = time.Second
	// renewAge is what is left of it when all who came within busyAge are asked about anew, in one statement: who comes often finds an answer.
	renewAge = viewerAge / 3
	busyAge  = 3 * viewerAge
)

// viewerCache keeps who has signed in, so that authentication is not a statement of every request.
type viewerCache[K comparable] struct {
	mu      sync.Mutex
	entries map[K]*cachedViewer
}

type cachedViewer struct {
	mu      sync.Mutex // held while asking, so that one statement serves all who wait
	viewer  models.Viewer
	expires time.Time // of the key that was presented
	until   time.Time
	used    time.Time // only of users
}

// maxCachedViewers bounds the cache's memory; past it the cache is begun anew.
const maxCachedViewers = 100_000

// Viewer is the viewer that a user is now. Inactive and absent users fail with Unauthenticated.
func (s *Store) Viewer(ctx context.Context, userID int) (models.Viewer, error) {
	entry := s.viewers.entry(userID)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	entry.used = time.Now()
	if left := entry.until.Sub(entry.used); left > 0 {
		if left < renewAge && s.renewing.CompareAndSwap(false, true) {
			s.renewal.Go(s.renewViewers)
		}
		return entry.viewer, nil
	}
	asking := models.WithViewer(ctx, models.Viewer{UserID: userID})
	rows, err := query[grant](asking, s, fixed(standing, []int{userID}))
	if err != nil {
		return models.Viewer{}, err
	}
	if len(rows) == 0 {
		return models.Viewer{}, models.Errorf(models.Unauthenticated, "this account cannot be used")
	}
	entry.viewer, entry.until = rows[0].viewer(), time.Now().Add(viewerAge)
	return entry.viewer, nil
}

// renewViewers asks about the users who come often. When it fails they are asked about one by one, and told.
func (s *Store) renewViewers() {
	defer s.renewing.Store(false)
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), viewerAge) // after that the answer is of no use
	defer cancel()
	busy := s.viewers.busy(began)
	viewers := make([]models.Viewer, 0, len(busy))
	for id := range busy {
		viewers = append(viewers, models.Viewer{UserID: id})
	}
	now, err := s.Standing(ctx, viewers)
	if err != nil {
		return
	}
	for _, viewer := range now {
		busy[viewer.UserID].renew(viewer, began.Add(viewerAge))
		delete(busy, viewer.UserID)
	}
	for id := range busy {
		busy[id].renew(models.Viewer{}, time.Time{}) // whoever comes is asked about
	}
}

// renew keeps a newer answer, unless there is somebody who is asking.
func (c *cachedViewer) renew(viewer models.Viewer, until time.Time) {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	c.viewer, c.until = viewer, until
}

// busy is who came within busyAge, and forgets the others.
func (c *viewerCache[K]) busy(now time.Time) map[K]*cachedViewer {
	c.mu.Lock()
	defer c.mu.Unlock()
	busy := map[K]*cachedViewer{}
	for key, entry := range c.entries {
		if !entry.mu.TryLock() {
			continue // somebody is here
		}
		if now.Sub(entry.used) < busyAge {
			busy[key] = entry
		} else {
			delete(c.entries, key)
		}
		entry.mu.Unlock()
	}
	return busy
}

// ViewerByKey is the viewer that an API key makes its bearer now, and until when the key is good; zero is for ever. Keys that are unknown, revoked or expired, and
// those of users who are inactive, fail with Unauthenticated.
func (s *Store) ViewerByKey(ctx context.Context, token models.APIKeyToken) (models.Viewer, time.Time, error) {
	hash := token.Hash()
	entry := s.keys.entry(hash)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if time.Now().Before(entry.until) {
		return entry.viewer, entry.expires, nil
	}
	rows, err := query[grant](ctx, s, fixed("SELECT $1::uuid AS api_key, user_id, superuser, permissions, expires_at FROM authenticate_api_key($1, $2)", token.ID, hash))
	if err != nil {
		return models.Viewer{}, time.Time{}, err
	}
	if len(rows) == 0 {
		s.keys.forget(hash)
		return models.Viewer{}, time.Time{}, models.Errorf(models.Unauthenticated, "the API key is invalid, has been revoked or has expired")
	}
	entry.viewer, entry.expires, entry.until = rows[0].viewer(), time.Time{}, time.Now().Add(viewerAge)
	if expires := rows[0].ExpiresAt; expires != nil {
		entry.expires = *expires
		if entry.expires.Before(entry.until) {
			entry.until = entry.expires
		}
	}
	return entry.viewer, entry.expires, nil
}

// standing is a grant for each of these users that are good now and whom the asking viewer may see, such as itself. standingWithKeys has the API keys that are good
// besides.
const (
	standing         = `SELECT NULL::uuid AS api_key, id AS user_id, is_superuser AS superuser, NULL::text[] AS permissions FROM users WHERE id = ANY((SELECT $1::int[])::int[]) AND is_active`
	standingWithKeys = standing + ` UNION ALL SELECT id, user_id, superuser, permissions FROM usable_api_keys($2::uuid[])`
)

// Standing is what these viewers are now, each by the API key that was presented or else by the user, in any order: in one statement and past
// the caches. Absent and inactive users, and keys that are not good, are missing.
func (s *Store) Standing(ctx context.Context, viewers []models.Viewer) ([]models.Viewer, error) {
	var users []int
	var keys []uuid.UUID
	for _, viewer := range viewers {
		if viewer.ByKey() {
			keys = append(keys, viewer.APIKey)
		} else {
			users = append(users, viewer.UserID)
		}
	}
	rows, err := query[grant](models.WithViewer(ctx, models.System), s, fixed(standingWithKeys, users, keys))
	if err != nil {
		return nil, err
	}
	now := make([]models.Viewer, len(rows))
	for i, row := range rows {
		now[i] = row.viewer()
	}
	return now, nil
}

// Standing is what the viewer is now, which stays so until the transaction ends: whoever closes the account or revokes the key that was presented waits. It
// fails with Unauthenticated.
func (t *Tx) Standing(ctx context.Context) (models.Viewer, error) {
	users, keys := []int{t.viewer.UserID}, []uuid.UUID{}
	t.later("SELECT FROM users WHERE id = $1 FOR SHARE", t.viewer.UserID)
	if t.viewer.ByKey() {
		users, keys = []int{}, []uuid.UUID{t.viewer.APIKey}
		t.later("SELECT FROM api_keys WHERE id = $1 FOR SHARE", t.viewer.APIKey)
	}
	now, err := rowsOf[grant](ctx, t, standingWithKeys, users, keys)
	if err == nil && len(now) == 0 {
		err = models.Errorf(models.Unauthenticated, "this account or API key cannot be used any more")
	}
	if err != nil {
		return models.Viewer{}, err
	}
	return now[0].viewer(), nil
}

// grant is what the database says of a credential.
type grant struct {
	APIKey      *uuid.UUID          `bun:"api_key"`
	UserID      int                 `bun:"user_id"`
	Superuser   bool                `bun:"superuser"`         // the user, whatever the key may
	Permissions []models.Permission `bun:"permissions,array"` // of the key
	ExpiresAt   *time.Time          `bun:"expires_at"`
}

func (g grant) viewer() models.Viewer {
	if g.APIKey == nil {
		return models.Viewer{UserID: g.UserID, Superuser: g.Superuser}
	}
	permissions := models.NewPermissionSet(g.Permissions)
	return models.Viewer{UserID: g.UserID, APIKey: *g.APIKey, Permissions: permissions, Superuser: g.Superuser && permissions.Has(models.PermissionAdmin)}
}

func (c *viewerCache[K]) entry(key K) *cachedViewer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCachedViewers {
		clear(c.entries)
	}
	entry, ok := c.entries[key]
	if !ok {
		entry = new(cachedViewer)
		if c.entries == nil {
			c.entries = map[K]*cachedViewer{}
		}
		c.entries[key] = entry
	}
	return entry
}

// forget keeps credentials that are not good, of which anybody can make any number, out of the cache.
func (c *viewerCache[K]) forget(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, key)
}
