package resolvers

import (
	"context"

	"github.com/netra-ai/netra/models"
)

// requireSuperuser fails with Forbidden for ordinary viewers. The database would show them only their own rows; this tells them why.
func requireSuperuser(ctx context.Context) error {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return err
	}
	if !viewer.Superuser {
		return models.Errorf(models.Forbidden, "only superusers may ask for this")
	}
	return nil
}
