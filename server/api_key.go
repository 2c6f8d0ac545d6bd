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
	viewer, expires, err := s.keys(ctx, key)
	if err != nil {
		return Session{}, err
	}
	requestFrom(ctx).setUser(viewer.UserID)
	return Session{Viewer: viewer, Expires: expires}, nil
}

// mayRead is whether the viewer may use root fields that change nothing. Mutations have rules of their own.
func mayRead(ctx context.Context) error {
	viewer, err := models.ViewerFrom(ctx)
	if err == nil && !viewer.May(models.PermissionRead) {
		err = models.Errorf(models.Forbidden, "this API key may not read")
	}
	return err
}

// signedIn is whether there is a viewer.
func signedIn(ctx context.Context) error {
	_, err := models.ViewerFrom(ctx)
	return err
}
