package server

import (
	"context"
	"strings"

	"github.com/netra-ai/netra/models"
)

// isAPIKey tells an API key from a signed token, by how it begins.
func isAPIKey(bearer string) bool { return strings.HasPrefix(bearer, models.APIKeyPrefix) }

// authenticateKey is authenticate for an API key.
func (s *Server) authenticateKey(ctx context.Context, bearer string) (Session, error) {
	key, err := models.ParseAPIKeyToken(bearer)
	if err != nil {
		return Session{}, err
	}
	if s.keys == nil {
		return Session{}, models.Errorf(models.Unauthenticated, "API keys are not accepted here")
	}
	asking, cancel := context.WithTimeout(ctx, viewerTimeout)
	defer cancel()
	viewer, expires, err := s.keys(asking, key)
	if err != nil {
		return Session{}, err
	}
	requestFrom(ctx).setUser(viewer.UserID)
	return Session{Viewer: viewer, Expires: expires}, nil
}

// mayAsk is whether the viewer may use a root field. Mutations have rules of their own, but for events, which are recorded over HTTP too.
func mayAsk(ctx context.Context, object, field string) error {
	viewer, err := models.ViewerFrom(ctx)
	switch {
	case err != nil:
		return err
	case field == "recordEvents":
		return mayIngest(ctx)
	case object != "Mutation" && !viewer.May(models.PermissionRead):
		return models.Errorf(models.Forbidden, "this API key may not read")
	}
	return nil
}

// mayIngest is whether the viewer may record events.
func mayIngest(ctx context.Context) error {
	viewer, err := models.ViewerFrom(ctx)
	if err == nil && !viewer.May(models.PermissionIngest) {
		err = models.Errorf(models.Forbidden, "this API key may not record events")
	}
	return err
}
