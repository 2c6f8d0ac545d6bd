// Package models has the nouns of the platform: entities as PostgreSQL and GraphQL know them, enums, ids, pages, cursors and
// the one error type. It knows no database and no transport.
package models
