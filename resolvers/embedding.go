package resolvers

import (
	"context"

	"github.com/netra-ai/netra/models"
)

// similarity is what something is to be similar to. It fails with BadUserInput, and for a text with EmbeddingsUnavailable where there is no
// endpoint, or none that answers, and with Timeout.
func (r *Resolver) similarity(ctx context.Context, in models.SimilarityInput) (models.Similarity, error) {
	to, err := in.Similarity()
	if err != nil || to.Text == "" {
		return to, err
	}
	if r.Embeddings == nil {
		return to, models.Errorf(models.EmbeddingsUnavailable, "nobody embeds texts here; give a vector instead")
	}
	model := r.Embeddings.Model()
	to.Model = &model
	to.Vector, err = r.Embeddings.Query(ctx, to.Text)
	return to, err
}
