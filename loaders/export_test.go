package loaders

// Waiting is how many keys the next statement will ask for.
func (g *Gather[Q, K, V]) Waiting(question Q) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if next := g.waiting[question]; next != nil {
		return len(next.keys)
	}
	return 0
}
