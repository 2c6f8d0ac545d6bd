package models

import (
	"github.com/99designs/gqlgen/graphql"
)

// CreateThreadInput is what the mutation createThread takes.
type CreateThreadInput struct {
	Title          *string `json:",omitzero"`
	Metadata       JSON    `json:",omitzero"`
	IdempotencyKey *string `json:"-"`
}

// UpdateThreadInput is what the mutation updateThread takes. What is absent stays as it is.
type UpdateThreadInput struct {
	ID              string
	Title           graphql.Omittable[*string] `json:",omitzero"`
	Metadata        graphql.Omittable[JSON]    `json:",omitzero"`
	ExpectedVersion *int                       `json:",omitzero"`
	IdempotencyKey  *string                    `json:"-"`
}

// ArchiveThreadInput is what the mutation archiveThread takes.
type ArchiveThreadInput struct {
	ID             string
	IdempotencyKey *string `json:"-"`
}

// RestoreThreadInput is what the mutation restoreThread takes.
type RestoreThreadInput = ArchiveThreadInput

// DeleteThreadInput is what the mutation deleteThread takes.
type DeleteThreadInput struct {
	ID             string
	Purge          *bool   `json:",omitzero"`
	IdempotencyKey *string `json:"-"`
}

// ArchiveThreadsInput is what the mutation archiveThreads takes.
type ArchiveThreadsInput struct {
	IDs            []string
	IdempotencyKey *string `json:"-"`
}

// ThreadPayload is what mutations of one thread answer.
type ThreadPayload struct {
	Thread     *Thread
	UserErrors []*UserError
}

type (
	CreateThreadPayload  = ThreadPayload
	UpdateThreadPayload  = ThreadPayload
	ArchiveThreadPayload = ThreadPayload
	RestoreThreadPayload = ThreadPayload
)

// DeleteThreadPayload is what the mutation deleteThread answers.
type DeleteThreadPayload struct {
	DeletedID  *string
	Thread     *Thread
	UserErrors []*UserError
}

// ThreadResult is what became of one of several threads.
type ThreadResult struct {
	ID         string
	Thread     *Thread
	UserErrors []*UserError
}

// ArchiveThreadsPayload is what the mutation archiveThreads answers.
type ArchiveThreadsPayload struct {
	Results    []*ThreadResult
	UserErrors []*UserError
}
