package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

const (
	// viewerAge bounds how long a deactivated user, or one who lost a right, goes on unnoticed.
	viewerAge = time.Second
	// askAgain is the age from which on the version is asked for anew, beside the request that finds it so old.
	askAgain = viewerAge / 3
	// viewerTimeout bounds how long anybody waits to be known.
	viewerTimeout = 5 * time.Second
	// maxViewers bounds the memory; past it everybody is forgotten.
	maxViewers = 100_000
)

// viewers are who has signed in, so that authentication is not a statement of every request. They hold as long as the version of all users' standing
// is what it was when they were asked about, and that is known to be no longer ago than viewerAge.
type viewers struct {
	mu      sync.Mutex
	known   map[int]models.Viewer
	version int64
	asked   time.Time // when the version was asked for that is the latest known
	asking  bool
}

// get is a viewer who is known to be one still. Again is true for who finds that it is time to ask for the version.
func (v *viewers) get(userID int, now time.Time) (viewer models.Viewer, ok, again bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	age := now.Sub(v.asked)
	if age >= viewerAge {
		return models.Viewer{}, false, false
	}
	viewer, ok = v.known[userID]
	if again = ok && age >= askAgain && !v.asking; again {
		v.asking = true
	}
	return viewer, ok, again
}

// holds notes a version that was asked for at a time. False says that it is not the latest known: an answer can be overtaken. No version comes twice, so it does
// not matter for how long nobody asked.
func (v *viewers) holds(version int64, asked time.Time) bool {
	if asked.After(v.asked) {
		if version != v.version {
			clear(v.known)
		}
		v.version, v.asked = version, asked
	}
	return version == v.version
}

func (v *viewers) add(viewer models.Viewer, version int64, asked time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.holds(version, asked) {
		return
	}
	if len(v.known) >= maxViewers {
		clear(v.known)
	}
	if v.known == nil {
		v.known = map[int]models.Viewer{}
	}
	v.known[viewer.UserID] = viewer
}

// renewed ends what get began. Without a version the next one tries again.
func (v *viewers) renewed(version *int64, asked time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asking = false
	if version != nil {
		v.holds(*version, asked)
	}
}

// Viewer is the viewer that a user is now. Inactive and absent users fail with Unauthenticated.
func (s *Store) Viewer(ctx context.Context, userID int) (models.Viewer, error) {
	asked := time.Now()
	viewer, ok, again := s.viewers.get(userID, asked)
	if again {
		s.background.Go(func() { s.renewViewers(asked) })
	}
	if ok {
		return viewer, nil
	}
	// Whoever comes within viewerAge for the same user waits for the same answer.
	question := fmt.Sprint(userID, " ", asked.UnixNano()/int64(viewerAge))
	answer := s.viewing.DoChan(question, func() (any, error) { return s.askViewer(context.WithoutCancel(ctx), userID, asked) })
	select {
	case found := <-answer:
		if found.Err != nil {
			return models.Viewer{}, found.Err
		}
		return found.Val.(models.Viewer), nil
	case <-ctx.Done():
		return models.Viewer{}, translate(ctx, context.Cause(ctx))
	}
}

func (s *Store) askViewer(ctx context.Context, userID int, asked time.Time) (viewer models.Viewer, err error) {
	asking, cancel := context.WithTimeout(models.WithViewer(ctx, models.Viewer{UserID: userID}), viewerTimeout)
	defer cancel()
	rows, err := query[grant](asking, s, fixed(standing, []int{userID}))
	if err != nil {
		return models.Viewer{}, err
	}
	if len(rows) == 0 {
		return models.Viewer{}, models.Errorf(models.Unauthenticated, "this account cannot be used")
	}
	viewer = rows[0].viewer()
	if version := rows[0].Version; version != nil {
		s.viewers.add(viewer, *version, asked)
	}
	return viewer, nil
}

// renewViewers asks whether everybody's standing is what it was. When it fails users are asked about one by one, and told.
func (s *Store) renewViewers(asked time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), viewerAge) // after that the answer is of no use
	defer cancel()
	var version *int64
	rows, err := query[grant](ctx, s, fixed(standingVersion))
	if err == nil && len(rows) == 1 {
		version = rows[0].Version
	}
	s.viewers.renewed(version, asked)
}

// ViewerByKey is the viewer that an API key makes its bearer now, and until when the key is good; zero is for ever. Keys that are unknown, revoked or expired, and
// those of users who are inactive, fail with Unauthenticated.
func (s *Store) ViewerByKey(ctx context.Context, token models.APIKeyToken) (models.Viewer, time.Time, error) {
	arrived, hash := time.Now(), token.Hash()
	entry := s.keys.entry(hash)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	asked := time.Now()
	if asked.Before(entry.until) {
		return entry.viewer, entry.expires, nil
	}
	asking, cancel := context.WithDeadline(ctx, arrived.Add(viewerTimeout)) // waiting for whoever asked before included
	defer cancel()
	rows, err := query[grant](asking, s, fixed("SELECT $1::uuid AS api_key, user_id, superuser, permissions, expires_at FROM authenticate_api_key($1, $2)", token.ID, hash))
	if err != nil {
		return models.Viewer{}, time.Time{}, err
	}
	if len(rows) == 0 {
		s.keys.forget(hash)
		return models.Viewer{}, time.Time{}, models.Errorf(models.Unauthenticated, "the API key is invalid, has been revoked or has expired")
	}
	entry.viewer, entry.expires, entry.until = rows[0].viewer(), time.Time{}, asked.Add(viewerAge)
	if expires := rows[0].ExpiresAt; expires != nil {
		entry.expires = *expires
		if entry.expires.Before(entry.until) {
			entry.until = entry.expires
		}
	}
	return entry.viewer, entry.expires, nil
}

// standing is a grant for each of these users that are good now and whom the asking viewer may see, such as itself, with the version that everybody's standing
// has. standingWithKeys has the API keys that are good besides.
const (
	standingVersion = `SELECT version FROM user_standing`
	standing        = `SELECT NULL::uuid AS api_key, id AS user_id, is_superuser AS superuser, NULL::text[] AS permissions, (` + standingVersion + `) AS version
		FROM users WHERE id = ANY((SELECT $1::int[])::int[]) AND is_active`
	standingWithKeys = standing + ` UNION ALL SELECT id, user_id, superuser, permissions, NULL FROM usable_api_keys($2::uuid[])`
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
	asking, cancel := context.WithTimeout(models.WithViewer(ctx, models.System), viewerTimeout)
	defer cancel()
	rows, err := query[grant](asking, s, fixed(standingWithKeys, users, keys))
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
	Version     *int64              `bun:"version"` // of all users' standing
}

func (g grant) viewer() models.Viewer {
	if g.APIKey == nil {
		return models.Viewer{UserID: g.UserID, Superuser: g.Superuser}
	}
	permissions := models.NewPermissionSet(g.Permissions)
	return models.Viewer{UserID: g.UserID, APIKey: *g.APIKey, Permissions: permissions, Superuser: g.Superuser && permissions.Has(models.PermissionAdmin)}
}

// keyCache keeps what API keys gave, each for viewerAge: that a key is used is noted in its row, so it has to be asked about.
type keyCache struct {
	mu      sync.Mutex
	entries map[string]*cachedKey // by hash
}

type cachedKey struct {
	mu      sync.Mutex // held while asking, so that one statement serves all who wait
	viewer  models.Viewer
	expires time.Time
	until   time.Time
}

func (c *keyCache) entry(hash string) *cachedKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxViewers {
		clear(c.entries)
	}
	entry, ok := c.entries[hash]
	if !ok {
		entry = new(cachedKey)
		if c.entries == nil {
			c.entries = map[string]*cachedKey{}
		}
		c.entries[hash] = entry
	}
	return entry
}

// forget keeps keys that are not good, of which anybody can make any number, out of the cache.
func (c *keyCache) forget(hash string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.entries, hash)
}
