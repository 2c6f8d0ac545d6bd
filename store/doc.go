// Package store is all of PostgreSQL: the connection that carries the viewer to the database's row-level security, the
// queries, and the translation of PostgreSQL's errors into the models'.
package store
