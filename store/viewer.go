package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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

// Viewers is the viewers that these users are now, in one statement and past the cache; inactive and absent users are missing.
func (s *Store) Viewers(ctx context.Context, userIDs []int) ([]models.Viewer, error) {
	rows, err := s.db.DB.QueryContext(ctx, `SELECT k.id, v.superuser FROM unnest($1::int[]) AS k(id) CROSS JOIN LATERAL authenticate_viewer(k.id) AS v`, userIDs)
	if err != nil {
		return nil, translate(ctx, err)
	}
	defer rows.Close() // its error is that of Err
	viewers := make([]models.Viewer, 0, len(userIDs))
	for rows.Next() {
		var viewer models.Viewer
		if err := rows.Scan(&viewer.UserID, &viewer.Superuser); err != nil {
			return nil, fmt.Errorf("scan viewer: %w", err)
		}
		viewers = append(viewers, viewer)
	}
	if err := rows.Err(); err != nil {
		return nil, translate(ctx, err)
	}
	return viewers, nil
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
