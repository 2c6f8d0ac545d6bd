package models

import "time"

// CreateAPIKeyInput is what the mutation createApiKey takes.
type CreateAPIKeyInput struct {
	Name           string
	Permissions    []Permission
	ExpiresAt      *time.Time `json:",omitzero"`
	Metadata       JSON       `json:",omitzero"`
	IdempotencyKey *string    `json:"-"`
}

// CreateAPIKeyPayload is what the mutation createApiKey answers.
type CreateAPIKeyPayload struct {
	APIKey     *APIKey
	Token      *string
	UserErrors []*UserError
}

// RevokeAPIKeyInput is what the mutation revokeApiKey takes.
type RevokeAPIKeyInput struct {
	ID             string
	IdempotencyKey *string `json:"-"`
}

// RevokeAPIKeyPayload is what the mutation revokeApiKey answers.
type RevokeAPIKeyPayload struct {
	APIKey     *APIKey
	UserErrors []*UserError
}
