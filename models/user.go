package models

import (
	"strconv"
	"time"

	"github.com/uptrace/bun"
)

// User is a row of users, without its password hash.
type User struct {
	bun.BaseModel `bun:"table:users"`
	Batched       `bun:"-"`

	DatabaseID    int        `bun:"id,pk"`
	Email         string     `bun:"email"`
	Name          *string    `bun:"name"`
	OauthProvider *string    `bun:"oauth_provider"`
	OauthID       *string    `bun:"oauth_id"`
	Picture       *string    `bun:"picture"`
	IsActive      bool       `bun:"is_active"`
	IsSuperuser   bool       `bun:"is_superuser"`
	CreatedAt     time.Time  `bun:"created_at"`
	UpdatedAt     time.Time  `bun:"updated_at"`
	LastLoginAt   *time.Time `bun:"last_login_at"`
	Metadata      JSON       `bun:"metadata,type:jsonb"`
}

func (*User) IsNode()      {}
func (u *User) ID() string { return globalID(KindUser, strconv.Itoa(u.DatabaseID)) }

// Cursor is the user's position under order.
func (u *User) Cursor(order Order) Cursor {
	c := Cursor{Column: order.Column, ID: strconv.Itoa(u.DatabaseID), Value: CursorTime(u.CreatedAt)}
	if order.Column == "email" {
		c.Value = u.Email
	}
	return c
}

// UserOrderField is a column by which users can be listed.
type UserOrderField string

const (
	UserCreatedAt UserOrderField = "CREATED_AT"
	UserEmail     UserOrderField = "EMAIL"
)

// UserOrder is the argument `orderBy` of a list of users.
type UserOrder struct {
	Field     UserOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o UserOrder) Order() Order {
	order := Order{Column: "created_at", Type: Timestamp, IDType: Integer, Descending: o.Direction == Descending}
	if o.Field == UserEmail {
		order.Column, order.Type = "email", Text
	}
	return order
}

// UserFilter narrows a list of users.
type UserFilter struct {
	IsActive    *bool
	IsSuperuser *bool
	Email       []string
	CreatedAt   *TimeFilter
	Metadata    JSON
}
