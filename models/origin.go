package models

import (
	"context"
	"net/netip"
)

// Origin is where a request came from, for the audit log.
type Origin struct {
	Address   netip.Addr // zero when it is not known
	UserAgent string
	RequestID string
}

type originKey struct{}

// WithOrigin returns a context whose mutations are recorded as coming from o.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// OriginFrom is the origin of ctx; zero outside of requests.
func OriginFrom(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}
