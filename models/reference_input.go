package models

import "github.com/99designs/gqlgen/graphql"

// UpdateReferenceInput is what the mutation updateReference takes. What is absent stays as it is.
type UpdateReferenceInput struct {
	ID              string
	Name            graphql.Omittable[*string] `json:",omitzero"`
	Type            *ReferenceType             `json:",omitzero"`
	Metadata        graphql.Omittable[JSON]    `json:",omitzero"`
	ExpectedVersion *int                       `json:",omitzero"`
	IdempotencyKey  *string                    `json:"-"`
}

// DeleteReferenceInput is what the mutation deleteReference takes.
type DeleteReferenceInput struct {
	ID             string
	IdempotencyKey *string `json:"-"`
}

// UpdateReferencePayload is what the mutation updateReference answers.
type UpdateReferencePayload struct {
	Reference  *Reference
	UserErrors []*UserError
}

// DeleteReferencePayload is what the mutation deleteReference answers.
type DeleteReferencePayload struct {
	DeletedID  *string
	UserErrors []*UserError
}
