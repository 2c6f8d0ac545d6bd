package server

import (
	"context"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/models"
)

const (
	maxDocuments     = 2_000
	maxDocumentBytes = 512 << 10 // of query text; a parsed document takes about 80 times as much memory
	maxDocumentShare = 8         // no document takes more than this fraction of the bytes
)

// documents keeps parsed and validated documents, so that a repeated query is not parsed again. What strangers send is not kept: they
// could push out everybody else's.
type documents struct {
	mu    sync.Mutex
	lru   *simplelru.LRU[string, *ast.QueryDocument]
	bytes int
}

var _ graphql.Cache[*ast.QueryDocument] = (*documents)(nil)

func newDocuments() (*documents, error) {
	d := &documents{}
	lru, err := simplelru.NewLRU(maxDocuments, func(query string, _ *ast.QueryDocument) { d.bytes -= len(query) })
	d.lru = lru
	return d, err
}

func (d *documents) Get(_ context.Context, query string) (*ast.QueryDocument, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lru.Get(query)
}

func (d *documents) Add(ctx context.Context, query string, document *ast.QueryDocument) {
	if _, err := models.ViewerFrom(ctx); err != nil || len(query) > maxDocumentBytes/maxDocumentShare {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lru.Contains(query) {
		return
	}
	d.lru.Add(query, document)
	for d.bytes += len(query); d.bytes > maxDocumentBytes; {
		d.lru.RemoveOldest()
	}
}
