package app

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// How long links can be used. An upload that has begun in time may take longer.
const (
	uploadLinkAge   = 15 * time.Minute
	downloadLinkAge = 15 * time.Minute
)

// purpose is what a link is for; it serves no other.
type purpose string

const (
	toUpload   purpose = "netra-upload"
	toDownload purpose = "netra-download"
)

const maxLink = 2048 // bytes

// links signs URLs that stand for a viewer and one thing to do. What the viewer may do is looked up when a link is used.
type links struct {
	secret []byte
	parser *jwt.Parser
}

// newLinks derives a key of its own, so that no link is ever a bearer token.
func newLinks(secret []byte) (*links, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "netra links", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of links: %w", err)
	}
	return &links{secret: key, parser: jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithLeeway(5*time.Second), jwt.WithStrictDecoding(),
	)}, nil
}

// claims are what a link says: ID is the reference, Subject the user.
type claims struct {
	jwt.RegisteredClaims
	APIKey  *uuid.UUID `json:"key,omitempty"` // which the user had signed in with
	MaxSize int64      `json:"max,omitempty"` // bytes
}

func (l *links) sign(viewer models.Viewer, to purpose, reference uuid.UUID, maxSize int64, expires time.Time) (string, error) {
	c := claims{MaxSize: maxSize, RegisteredClaims: jwt.RegisteredClaims{
		Audience: jwt.ClaimStrings{string(to)}, Subject: strconv.Itoa(viewer.UserID), ID: reference.String(), ExpiresAt: jwt.NewNumericDate(expires),
	}}
	if viewer.ByKey() {
		c.APIKey = &viewer.APIKey
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(l.secret)
	if err != nil {
		return "", fmt.Errorf("sign a link: %w", err)
	}
	return token, nil
}

func (l *links) read(token string, to purpose) (models.Link, error) {
	invalid := models.Errorf(models.Unauthenticated, "the link is invalid: ask for another")
	if len(token) > maxLink {
		return models.Link{}, invalid
	}
	var c claims
	_, err := l.parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return l.secret, nil })
	if errors.Is(err, jwt.ErrTokenExpired) {
		return models.Link{}, models.Errorf(models.Unauthenticated, "the link has expired: ask for another")
	}
	if err != nil || len(c.Audience) != 1 || c.Audience[0] != string(to) {
		return models.Link{}, invalid
	}
	link := models.Link{MaxSize: c.MaxSize}
	var idErr error
	link.UserID, err = strconv.Atoi(c.Subject)
	link.Reference, idErr = uuid.Parse(c.ID)
	if err != nil || idErr != nil {
		return models.Link{}, invalid
	}
	if c.APIKey != nil {
		link.APIKey = *c.APIKey
	}
	return link, nil
}
