package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/netra-ai/netra/models"
)

// viewerAge bounds how long a deactivated user, or one who lost a right, goes on unnoticed.
const viewerAge = time.Second

// viewerCache keeps who has signed in, so that authentication is not a statement of every request.
type viewerCache struct {
	mu      sync.Mutex
	entries map[int]*cachedViewer
}

type cachedViewer struct {
	mu     sync.Mutex // held while asking, so that one statement serves all who wait
	viewer models.Viewer
	until  time.Time
}

// maxCachedViewers bounds the cache's memory; past it the cache is begun anew.
const maxCachedViewers = 100_000

// Viewer is the viewer that a user is now. Inactive and absent users fail with Unauthenticated.
func (s *Store) Viewer(ctx context.Context, userID int) (models.Viewer, error) {
	entry := s.viewers.entry(userID)
	entry.mu.Lock()
	defer entry.mu.Unlock()
	if time.Now().Before(entry.until) {
		return entry.viewer, nil
	}
	viewer := models.Viewer{UserID: userID}
	err := s.db.DB.QueryRowContext(ctx, "SELECT superuser FROM authenticate_viewer($1)", userID).Scan(&viewer.Superuser)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return models.Viewer{}, models.Errorf(models.Unauthenticated, "this account cannot be used")
	case err != nil:
		return models.Viewer{}, translate(ctx, err)
	}
	entry.viewer, entry.until = viewer, time.Now().Add(viewerAge)
	return viewer, nil
}

func (c *viewerCache) entry(userID int) *cachedViewer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxCachedViewers {
		clear(c.entries)
	}
	entry, ok := c.entries[userID]
	if !ok {
		entry = new(cachedViewer)
		c.entries[userID] = entry
	}
	return entry
}
