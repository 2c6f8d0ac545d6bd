package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
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

	viewerTimeout = 5 * time.Second // to look a user up
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
}

func newAuthenticator(secret []byte, viewer func(context.Context, int) (models.Viewer, error)) *authenticator {
	return &authenticator{secret: secret, viewer: viewer, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithIssuer(tokenIssuer),
		jwt.WithAudience(tokenAudience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(tokenLeeway),
		jwt.WithStrictDecoding(),
	)}
}

// authenticate puts the viewer whom a token names into the context, and says until when the token is good. It fails with Unauthenticated for
// a token that is not, and with whatever asking for the user failed with.
func (s *Server) authenticate(ctx context.Context, bearer string) (context.Context, time.Time, error) {
	userID, expires, err := s.auth.check(bearer)
	if err != nil {
		return ctx, time.Time{}, err
	}
	asking, cancel := context.WithTimeout(ctx, viewerTimeout)
	defer cancel()
	viewer, err := s.auth.viewer(asking, userID)
	if err != nil {
		return ctx, time.Time{}, err
	}
	requestFrom(ctx).setUser(viewer.UserID)
	return models.WithViewer(ctx, viewer), expires, nil
}

func (a *authenticator) check(token string) (userID int, expires time.Time, err error) {
	invalid := models.Errorf(models.Unauthenticated, "the bearer token is invalid")
	if len(token) > maxToken {
		return 0, time.Time{}, invalid
	}
	var claims jwt.RegisteredClaims
	_, err = a.parser.ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return a.secret, nil })
	if errors.Is(err, jwt.ErrTokenExpired) {
		return 0, time.Time{}, models.Errorf(models.Unauthenticated, "the bearer token has expired")
	}
	if err != nil {
		return 0, time.Time{}, invalid
	}
	userID, err = strconv.Atoi(claims.Subject)
	if err != nil || userID < 1 || strconv.Itoa(userID) != claims.Subject {
		return 0, time.Time{}, invalid
	}
	return userID, claims.ExpiresAt.Time, nil
}

// authenticateHeader is authenticate for the Authorization header. Without one there is no viewer, which is no error.
func (s *Server) authenticateHeader(r *http.Request) (context.Context, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return r.Context(), nil
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return r.Context(), models.Errorf(models.Unauthenticated, "the Authorization header must be: Bearer, a space and a token")
	}
	ctx, _, err := s.authenticate(r.Context(), strings.TrimSpace(token))
	return ctx, err
}

// challenge is the WWW-Authenticate header for a token that was refused (RFC 6750, section 3).
func challenge(message string) string {
	return fmt.Sprintf("Bearer realm=%q, error=%q, error_description=%q", tokenIssuer, "invalid_token", message)
}
