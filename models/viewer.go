package models

import "context"

// Viewer is on whose behalf a statement runs. The database enforces what it may see.
type Viewer struct {
	UserID    int
	Superuser bool // sees every tenant
}

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
