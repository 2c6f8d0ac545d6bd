package models

import "context"

// Listed is what a connection can hold.
type Listed interface {
	// Cursor is the object's position under order.
	Cursor(order Order) Cursor
	Join(Cohort)
}

// Connection is one page of a list.
type Connection[T Listed] struct {
	rows  []T
	page  Page
	more  bool
	count func(context.Context) (int, error)
}

// NewConnection makes a connection of rows in the list's order. More says whether the list goes on beyond the page in its
// direction; count is asked only when totalCount is selected.
func NewConnection[T Listed](rows []T, page Page, more bool, count func(context.Context) (int, error)) *Connection[T] {
	return &Connection[T]{rows: rows, page: page, more: more, count: count}
}

// Nodes are the page's objects.
func (c *Connection[T]) Nodes() []T { return c.rows }

// Edges are the page's objects with their cursors.
func (c *Connection[T]) Edges() []*Edge[T] {
	edges := make([]Edge[T], len(c.rows))
	pointers := make([]*Edge[T], len(c.rows))
	for i, row := range c.rows {
		edges[i] = Edge[T]{Node: row, order: c.page.Order}
		pointers[i] = &edges[i]
	}
	return pointers
}

// TotalCount is the length of the whole list under its filter.
func (c *Connection[T]) TotalCount(ctx context.Context) (int, error) { return c.count(ctx) }

// PageInfo says where the page lies in the list.
func (c *Connection[T]) PageInfo() *PageInfo {
	info := &PageInfo{HasNextPage: c.more, HasPreviousPage: c.page.After != nil}
	if c.page.Backward {
		info.HasNextPage, info.HasPreviousPage = c.page.Before != nil, c.more
	}
	if n := len(c.rows); n > 0 {
		start, end := c.rows[0].Cursor(c.page.Order).String(), c.rows[n-1].Cursor(c.page.Order).String()
		info.StartCursor, info.EndCursor = &start, &end
	}
	return info
}

// PageInfo is Relay's.
type PageInfo struct {
	HasNextPage     bool
	HasPreviousPage bool
	StartCursor     *string
	EndCursor       *string
}

// Edge is an object in a list.
type Edge[T Listed] struct {
	Node  T
	order Order
}

// Cursor is the object's position in its list.
func (e *Edge[T]) Cursor() string { return e.Node.Cursor(e.order).String() }

type (
	UserConnection    = Connection[*User]
	UserEdge          = Edge[*User]
	ThreadConnection  = Connection[*Thread]
	ThreadEdge        = Edge[*Thread]
	MessageConnection = Connection[*Message]
	MessageEdge       = Edge[*Message]
	RunConnection     = Connection[*Run]
	RunEdge           = Edge[*Run]

	RunTransitionConnection  = Connection[*RunTransition]
	RunTransitionEdge        = Edge[*RunTransition]
	ThreadActivityConnection = Connection[*ThreadActivity]
	ThreadActivityEdge       = Edge[*ThreadActivity]
)
