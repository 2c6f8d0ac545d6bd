package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/netra-ai/netra/models"
)

const (
	// MinSecret is how many bytes a signing key has at least: those of the hash.
	MinSecret = 32

	tokenIssuer   = "netra"
	tokenAudience = "netra-api"
	tokenLeeway   = 5 * time.Second // between the clocks of replicas
	maxToken      = 4096            // bytes

	maxVerified = 10_000 // tokens whose signature is not computed again; past it all are forgotten
)

// NewToken signs a bearer token for a user. What the user may do is looked up when the token is used; it is no part of it.
func NewToken(secret []byte, userID int, ttl time.Duration) (string, error) {
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Issuer:    tokenIssuer,
		Audience:  jwt.ClaimStrings{tokenAudience},
		Subject:   strconv.Itoa(userID),
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(ttl)),
	}).SignedString(secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

type authenticator struct {
	secret []byte
	parser *jwt.Parser
	viewer func(ctx context.Context, userID int) (models.Viewer, error)

	mu       sync.Mutex
	verified map[string]claim // tokens that were good: they stay so until they expire
	most     int              // of them
}

// claim is what a token says.
type claim struct {
	userID  int
	expires time.Time
}

func newAuthenticator(secret []byte, viewer func(context.Context, int) (models.Viewer, error)) *authenticator {
	return &authenticator{secret: secret, viewer: viewer, verified: map[string]claim{}, most: maxVerified, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithIssuer(tokenIssuer),
		jwt.WithAudience(tokenAudience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(tokenLeeway),
		jwt.WithStrictDecoding(),
	)}
}

// authenticate says what a token or an API key gives. It fails with Unauthenticated for one that is not good, and with whatever asking for its
// user failed with.
func (s *Server) authenticate(ctx context.Context, bearer string) (Session, error) {
	if isAPIKey(bearer) {
		return s.authenticateKey(ctx, bearer)
	}
	said, err := s.auth.check(bearer)
	if err != nil {
		return Session{}, err
	}
	viewer, err := s.auth.viewer(ctx, said.userID)
	if err != nil {
		return Session{}, err
	}
	requestFrom(ctx).setUser(viewer.UserID)
	return Session{Viewer: viewer, Expires: said.expires}, nil
}

// check fails with Unauthenticated for a token that is not good.
func (a *authenticator) check(token string) (claim, error) {
	a.mu.Lock()
	known, ok := a.verified[token]
	a.mu.Unlock()
	if ok && time.Now().Before(known.expires) {
		return known, nil
	}
	said, err := a.verify(token)
	if err == nil {
		a.mu.Lock()
		if len(a.verified) >= a.most {
			clear(a.verified)
		}
		a.verified[strings.Clone(token)] = said // not all of the header's memory
		a.mu.Unlock()
	}
	return said, err
}

func (a *authenticator) verify(token string) (claim, error) {
	invalid := models.Errorf(models.Unauthenticated, "the bearer token is invalid")
	if len(token) > maxToken {
		return claim{}, invalid
	}
	var claims jwt.RegisteredClaims
	_, err := a.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return a.secret, nil })
	if errors.Is(err, jwt.ErrTokenExpired) {
		return claim{}, models.Errorf(models.Unauthenticated, "the bearer token has expired")
	}
	if err != nil {
		return claim{}, invalid
	}
	userID, err := strconv.Atoi(claims.Subject)
	if err != nil || userID < 1 || strconv.Itoa(userID) != claims.Subject {
		return claim{}, invalid
	}
	return claim{userID, claims.ExpiresAt.Time}, nil
}

// authenticateHeader puts the viewer whom the Authorization header names into the request's context. Without one there is no viewer, which is no
// error.
func (s *Server) authenticateHeader(r *http.Request) (context.Context, error) {
	session, err := s.sessionOf(r, s.acceptedBy(r.Header))
	return session.context(r.Context()), err
}

// sessionOf is what the Authorization header gives; the zero session without one. Clients who may want an event stream wait for their turn.
func (s *Server) sessionOf(r *http.Request, accepted accepted) (Session, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return Session{}, nil
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return Session{}, models.Errorf(models.Unauthenticated, "the Authorization header must be: Bearer, a space and a token")
	}
	if accepted.events {
		return s.streams.authenticate(r.Context(), strings.TrimSpace(token))
	}
	return s.authenticate(r.Context(), strings.TrimSpace(token))
}

// context has the session's viewer; the zero session has none.
func (s Session) context(ctx context.Context) context.Context {
	if s == (Session{}) {
		return ctx
	}
	return models.WithViewer(ctx, s.Viewer)
}

// challenge is the WWW-Authenticate header for a token that was refused (RFC 6750, section 3).
func challenge(message string) string {
	return fmt.Sprintf("Bearer realm=%q, error=%q, error_description=%q", tokenIssuer, "invalid_token", message)
}
