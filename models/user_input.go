package models

import "github.com/99designs/gqlgen/graphql"

// UpdateProfileInput is what the mutation updateProfile takes. What is absent stays as it is.
type UpdateProfileInput struct {
	Name           graphql.Omittable[*string] `json:",omitzero"`
	Picture        graphql.Omittable[*string] `json:",omitzero"`
	Metadata       graphql.Omittable[JSON]    `json:",omitzero"`
	IdempotencyKey *string                    `json:"-"`
}

// SetUserActiveInput is what the mutation setUserActive takes.
type SetUserActiveInput struct {
	ID             string
	IsActive       bool
	IdempotencyKey *string `json:"-"`
}

// UserPayload is what mutations of one user answer.
type UserPayload struct {
	User       *User
	UserErrors []*UserError
}

type (
	UpdateProfilePayload = UserPayload
	SetUserActivePayload = UserPayload
)
