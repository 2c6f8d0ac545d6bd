package models

import (
	"context"

	"github.com/google/uuid"
)

// Viewer is on whose behalf a statement runs. The database enforces what it may see.
type Viewer struct {
	UserID    int
	Superuser bool // sees every tenant

	APIKey      uuid.UUID     // the key that signed in; zero for a person
	Permissions PermissionSet // of the key; a person needs none
}

// ByKey is whether a program has signed in with an API key, and not a person.
func (v Viewer) ByKey() bool { return v.APIKey != uuid.Nil }

// May is whether the viewer may use p: a person may everything, a key what it has been given.
func (v Viewer) May(p Permission) bool { return !v.ByKey() || v.Permissions.Has(p) }

// System is the viewer of our own background work: it sees every tenant and is nobody.
var System = Viewer{Superuser: true}

type viewerKey struct{}

// WithViewer returns a context whose statements run for v.
func WithViewer(ctx context.Context, v Viewer) context.Context {
	return context.WithValue(ctx, viewerKey{}, v)
}

// ViewerFrom is the viewer of ctx. Without one it fails with Unauthenticated.
func ViewerFrom(ctx context.Context) (Viewer, error) {
	if v, ok := ctx.Value(viewerKey{}).(Viewer); ok {
		return v, nil
	}
	return Viewer{}, Errorf(Unauthenticated, "sign in: send a bearer token in the Authorization header")
}
