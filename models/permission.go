package models

import (
	"io"
	"slices"
)

// Permission is something that an API key may be allowed to do for its user. A person who has signed in may do everything that the account may.
type Permission string

const (
	PermissionRead   Permission = "read"   // queries and subscriptions
	PermissionWrite  Permission = "write"  // what a person does with threads, runs, references and supply items; reading too
	PermissionAgent  Permission = "agent"  // what agents report: messages, and how runs go on; reading too
	PermissionIngest Permission = "ingest" // recording workload events, and nothing else
	PermissionAdmin  Permission = "admin"  // the rights of a superuser, where the user has them; no other permission
)

// APIKeyPermission is Permission under the graph's name.
type APIKeyPermission = Permission

// Permissions lists every permission.
func Permissions() []Permission {
	return []Permission{PermissionRead, PermissionWrite, PermissionAgent, PermissionIngest, PermissionAdmin}
}

func (p Permission) MarshalGQL(w io.Writer)    { marshalEnum(w, p) }
func (p *Permission) UnmarshalGQL(v any) error { return unmarshalEnum(v, p, Permissions()) }

// PermissionSet is a set of permissions that can be compared.
type PermissionSet uint8

// NewPermissionSet is the set of list and of what it implies. Permissions that this version does not know give nothing.
func NewPermissionSet(list []Permission) PermissionSet {
	var set PermissionSet
	for _, p := range list {
		set |= p.bit()
		if p == PermissionWrite || p == PermissionAgent {
			set |= PermissionRead.bit()
		}
	}
	return set
}

// Has is whether p is in the set.
func (s PermissionSet) Has(p Permission) bool { return s&p.bit() != 0 }

func (p Permission) bit() PermissionSet {
	if i := slices.Index(Permissions(), p); i >= 0 {
		return 1 << i
	}
	return 0
}
