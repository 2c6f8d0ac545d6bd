// Package graph is the public contract, a file for each domain, and the code that gqlgen generates from it. Only the schema is
// written by hand.
package graph

//go:generate go tool gqlgen generate
