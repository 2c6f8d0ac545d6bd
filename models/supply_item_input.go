package models

import "github.com/99designs/gqlgen/graphql"

// CreateSupplyItemInput is what the mutation createSupplyItem takes.
type CreateSupplyItemInput struct {
	Name               string
	Category           string
	Provider           *string `json:",omitzero"`
	Specifications     JSON
	Pricing            JSON    `json:",omitzero"`
	Availability       JSON    `json:",omitzero"`
	PerformanceMetrics JSON    `json:",omitzero"`
	Metadata           JSON    `json:",omitzero"`
	IsSystem           *bool   `json:",omitzero"`
	IdempotencyKey     *string `json:"-"`
}

// UpdateSupplyItemInput is what the mutation updateSupplyItem takes. What is absent stays as it is.
type UpdateSupplyItemInput struct {
	ID                 string
	Name               graphql.Omittable[*string] `json:",omitzero"`
	Category           graphql.Omittable[*string] `json:",omitzero"`
	Provider           graphql.Omittable[*string] `json:",omitzero"`
	Specifications     graphql.Omittable[JSON]    `json:",omitzero"`
	Pricing            graphql.Omittable[JSON]    `json:",omitzero"`
	Availability       graphql.Omittable[JSON]    `json:",omitzero"`
	PerformanceMetrics graphql.Omittable[JSON]    `json:",omitzero"`
	Metadata           graphql.Omittable[JSON]    `json:",omitzero"`
	IsActive           *bool                      `json:",omitzero"`
	ExpectedVersion    *int                       `json:",omitzero"`
	IdempotencyKey     *string                    `json:"-"`
}

// DeactivateSupplyItemInput is what the mutation deactivateSupplyItem takes.
type DeactivateSupplyItemInput struct {
	ID             string
	IdempotencyKey *string `json:"-"`
}

// SupplyItemPayload is what mutations of one supply item answer.
type SupplyItemPayload struct {
	SupplyItem *SupplyItem
	UserErrors []*UserError
}

type (
	CreateSupplyItemPayload     = SupplyItemPayload
	UpdateSupplyItemPayload     = SupplyItemPayload
	DeactivateSupplyItemPayload = SupplyItemPayload
)
