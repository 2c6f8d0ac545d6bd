// Package graph is the public contract, a file for each domain, and the code that gqlgen generates from it. Only the schema is
// written by hand, and what packages scalar and plain give the generated code to call.
package graph

//go:generate go run ./plain/generate
