package server

import (
	"context"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/graph/plain"
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
	lru   *simplelru.LRU[string, *document]
	bytes int
}

type document struct {
	*ast.QueryDocument
	plans plain.Kept
}

var _ graphql.Cache[*ast.QueryDocument] = (*documents)(nil)

func newDocuments() (*documents, error) {
	d := &documents{}
	lru, err := simplelru.NewLRU(maxDocuments, func(query string, _ *document) { d.bytes -= len(query) })
	d.lru = lru
	return d, err
}

func (d *documents) Get(_ context.Context, query string) (*ast.QueryDocument, bool) {
	if known := d.get(query); known != nil {
		return known.QueryDocument, true
	}
	return nil, false
}

// plans are those of a document that is kept; nil for one that is not, whatever its text.
func (d *documents) plans(query string, document *ast.QueryDocument) *plain.Kept {
	if known := d.get(query); known != nil && known.QueryDocument == document {
		return &known.plans
	}
	return nil
}

func (d *documents) get(query string) *document {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, _ := d.lru.Get(query)
	return known
}

func (d *documents) Add(ctx context.Context, query string, parsed *ast.QueryDocument) {
	if _, err := models.ViewerFrom(ctx); err != nil || len(query) > maxDocumentBytes/maxDocumentShare {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lru.Contains(query) {
		return
	}
	d.lru.Add(query, &document{QueryDocument: parsed})
	for d.bytes += len(query); d.bytes > maxDocumentBytes; {
		d.lru.RemoveOldest()
	}
}
