package models

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// APIKeyPrefix begins every API key, so that people and scanners of secrets know one when they see it.
const APIKeyPrefix = "ntr_"

// APIKeyToken is an API key as its bearer sends it: the prefix, the key's id and a secret of 256 random bits.
type APIKeyToken struct {
	ID     uuid.UUID
	secret [32]byte
}

// NewAPIKeyToken makes one that nobody can guess.
func NewAPIKeyToken() APIKeyToken {
	t := APIKeyToken{ID: uuid.New()}
	_, _ = rand.Read(t.secret[:]) // never fails
	return t
}

// String is what the bearer sends.
func (t APIKeyToken) String() string {
	return APIKeyPrefix + hex.EncodeToString(t.ID[:]) + "_" + base64.RawURLEncoding.EncodeToString(t.secret[:])
}

// Hash is what is kept of it. The secret is random and not a person's, so that there is nothing to guess which a slow hash would protect.
func (t APIKeyToken) Hash() string {
	sum := sha256.Sum256([]byte(t.String()))
	return hex.EncodeToString(sum[:])
}

// ParseAPIKeyToken reads what a bearer sends. It fails with Unauthenticated.
func ParseAPIKeyToken(s string) (APIKeyToken, error) {
	invalid := Errorf(Unauthenticated, "the API key is invalid")
	id, secret, _ := strings.Cut(strings.TrimPrefix(s, APIKeyPrefix), "_")
	var t APIKeyToken
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(t.ID) {
		return APIKeyToken{}, invalid
	}
	copy(t.ID[:], raw)
	raw, err = base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(raw) != len(t.secret) {
		return APIKeyToken{}, invalid
	}
	copy(t.secret[:], raw)
	if t.String() != s {
		return APIKeyToken{}, invalid
	}
	return t, nil
}
