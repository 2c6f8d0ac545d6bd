package models

// Cohort is the set of objects that one batch handed out together; package loaders gives it its meaning.
type Cohort interface {
	// Size is how many times the batch's objects were handed to a parent.
	Size() int
}

// Batched is embedded in every object of the graph. It remembers the cohort, so that a field of one object can be loaded
// together with the same field of its siblings. An object with a cohort must not outlive its operation.
type Batched struct {
	cohort Cohort `bun:"-"`
}

// Cohort is nil until Join.
func (b *Batched) Cohort() Cohort { return b.cohort }

// Join puts the object into c.
func (b *Batched) Join(c Cohort) { b.cohort = c }
