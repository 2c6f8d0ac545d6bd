package server_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

func TestAuthentication_RefusesTokensThatAreNotOurs(t *testing.T) {
	t.Parallel()
	e := open(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	claims := func(change func(*jwt.RegisteredClaims)) jwt.RegisteredClaims {
		c := jwt.RegisteredClaims{
			Issuer: "netra", Audience: jwt.ClaimStrings{"netra-api"}, Subject: "1", ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		}
		change(&c)
		return c
	}
	as := func(c *jwt.RegisteredClaims) {}
	sign := func(method jwt.SigningMethod, key any, c jwt.Claims) string {
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		require.NoError(t, err)
		return token
	}
	ours := func(change func(*jwt.RegisteredClaims)) string {
		return sign(jwt.SigningMethodHS256, secret, claims(change))
	}
	good := ours(as)
	require.Equal(t, http.StatusOK, e.ask(t, "POST", "/graphql", `{"query":"{viewer{id}}"}`, "Content-Type", jsonType, "Authorization", "bearer "+good).status)
	head, rest, _ := strings.Cut(good, ".")
	payload, _, _ := strings.Cut(rest, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	const expired, invalid = "the bearer token has expired", "the bearer token is invalid"
	for name, test := range map[string]struct{ header, says string }{
		"expired":                   {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Minute)) }), expired},
		"forged and expired":        {"Bearer " + sign(jwt.SigningMethodHS256, []byte("x"), claims(func(c *jwt.RegisteredClaims) { c.ExpiresAt = jwt.NewNumericDate(time.Unix(1, 0)) })), invalid},
		"without end":               {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.ExpiresAt = nil }), invalid},
		"not yet issued":            {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.IssuedAt = jwt.NewNumericDate(time.Now().Add(time.Hour)) }), invalid},
		"not yet good":              {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(time.Hour)) }), invalid},
		"another issuer":            {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Issuer = "x" }), invalid},
		"no issuer":                 {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Issuer = "" }), invalid},
		"another audience":          {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Audience = jwt.ClaimStrings{"x"} }), invalid},
		"no audience":               {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Audience = nil }), invalid},
		"no subject":                {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Subject = "" }), invalid},
		"a subject that is no user": {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Subject = "admin" }), invalid},
		"subject zero":              {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Subject = "0" }), invalid},
		"a padded subject":          {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Subject = "+1" }), invalid},
		"another key":               {"Bearer " + sign(jwt.SigningMethodHS256, []byte("another key of thirty-two bytes!"), claims(as)), invalid},
		"HS512":                     {"Bearer " + sign(jwt.SigningMethodHS512, secret, claims(as)), invalid},
		"RS256":                     {"Bearer " + sign(jwt.SigningMethodRS256, rsaKey, claims(as)), invalid},
		"alg none":                  {"Bearer " + sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(as)), invalid},
		"alg none by hand":          {"Bearer " + none + "." + payload + ".", invalid},
		"no signature":              {"Bearer " + head + "." + payload + ".", invalid},
		"another payload":           {"Bearer " + head + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"2"}`)) + "." + good[strings.LastIndex(good, ".")+1:], invalid},
		"a bit more":                {"Bearer " + good + "A", invalid},
		"garbage":                   {"Bearer garbage", invalid},
		"nothing":                   {"Bearer ", invalid},
		"endless":                   {"Bearer " + strings.Repeat("a", 20_000), invalid},
		"another scheme":            {"Basic " + good, "the Authorization header must be"},
		"no scheme":                 {good, "the Authorization header must be"},
		"an inactive user":          {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Subject = "3" }), "this account cannot be used"},
		"an absent user":            {"Bearer " + ours(func(c *jwt.RegisteredClaims) { c.Subject = "99" }), "this account cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Even what strangers may have is not had with a bad token: its owner would not notice.
			x := e.ask(t, http.MethodPost, "/graphql", `{"query":"{__typename}"}`, "Content-Type", jsonType, "Authorization", test.header)
			require.Equal(t, http.StatusUnauthorized, x.status, x.body)
			require.Equal(t, []string{"UNAUTHENTICATED"}, x.codes())
			require.Contains(t, x.answer.Errors[0].Message, test.says)
			require.Contains(t, x.header.Get("WWW-Authenticate"), `Bearer realm="netra", error="invalid_token"`)
		})
	}
	t.Run("two headers", func(t *testing.T) {
		t.Parallel()
		x := e.ask(t, http.MethodPost, "/graphql", `{"query":"{__typename}"}`, "Content-Type", jsonType, "Authorization", "Bearer "+good, "Authorization", "Bearer "+good)
		require.Equal(t, http.StatusUnauthorized, x.status)
	})
}

func TestAuthentication_StrangersHaveTheSchemaOnly(t *testing.T) {
	t.Parallel()
	e := open(t, resolving(answers{
		viewer: func(context.Context) (*models.User, error) { panic("a resolver ran for a stranger") },
		node:   func(context.Context, string) (models.Node, error) { panic("a resolver ran for a stranger") },
	}))
	x := e.ask(t, http.MethodPost, "/graphql", `{"query":"{me:viewer{id} node(id:\"x\"){id} ...on Query{viewer{id}} __typename __schema{queryType{name}} __type(name:\"User\"){name}}"}`,
		"Content-Type", jsonType)
	require.Equal(t, http.StatusOK, x.status)
	require.JSONEq(t, `{"me":null,"node":null,"viewer":null,"__typename":"Query","__schema":{"queryType":{"name":"Query"}},"__type":{"name":"User"}}`, string(x.answer.Data))
	require.Equal(t, []string{"UNAUTHENTICATED", "UNAUTHENTICATED", "UNAUTHENTICATED"}, x.codes())
	paths := []any{}
	for _, err := range x.answer.Errors {
		require.Len(t, err.Path, 1)
		paths = append(paths, err.Path[0])
	}
	require.ElementsMatch(t, []any{"me", "node", "viewer"}, paths)
}

func TestAuthentication_TheRightIsLookedUpAndNotBelieved(t *testing.T) {
	t.Parallel()
	seen := make(chan models.Viewer, 2)
	e := open(t, resolving(answers{viewer: func(ctx context.Context) (*models.User, error) {
		viewer, err := models.ViewerFrom(ctx)
		seen <- viewer
		return nil, err
	}}))
	for _, user := range []int{ordinary, super} {
		// A claim of the token's own means nothing.
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
			"iss": "netra", "aud": "netra-api", "sub": map[int]string{ordinary: "1", super: "2"}[user], "exp": time.Now().Add(time.Hour).Unix(),
			"superuser": true, "is_superuser": true,
		}).SignedString(secret)
		require.NoError(t, err)
		x := e.ask(t, http.MethodPost, "/graphql", `{"query":"{viewer{id}}"}`, "Content-Type", jsonType, "Authorization", "Bearer "+token)
		require.Equal(t, http.StatusOK, x.status)
		require.Equal(t, models.Viewer{UserID: user, Superuser: user == super}, <-seen)
	}
}

func TestNew_RefusesAShortSecret(t *testing.T) {
	t.Parallel()
	_, err := server.New(server.Config{Secret: []byte("short")})
	require.ErrorContains(t, err, "the secret has 5 bytes; it needs at least 32")
}
