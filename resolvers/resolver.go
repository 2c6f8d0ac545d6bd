// Package resolvers translates between the graph and the rooms below: parse the arguments, one call, wrap the result.
package resolvers

import (
	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/analytics/ingest"
	"github.com/netra-ai/netra/app"
	"github.com/netra-ai/netra/embeddings"
	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/live"
	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// Loading is how fields are loaded that are answered without the executor.
var Loading = plain.Loading{Together: loaders.Together, Beside: store.Beside}

// Resolver is the root of the graph.
type Resolver struct {
	Store      *store.Store
	App        *app.App
	Files      *app.Files
	Analytics  *analytics.Analytics
	Ingest     *ingest.Ingester
	Live       *live.Hub
	Loaders    *loaders.Loaders
	Embeddings *embeddings.Endpoint // nil where there is none

	runs     eventRows[models.Run]
	messages eventRows[models.Message]
}
