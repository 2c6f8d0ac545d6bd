// Package server is netra's edge: GraphQL over HTTP and websockets, authentication, limits, the one place where errors are masked,
// health, metrics and logs. What a client may see of a failure is decided here and nowhere else.
package server
