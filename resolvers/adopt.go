package resolvers

import (
	"context"

	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
)

// What a mutation did to several objects is one cohort, as if a list had handed them out.

func adoptThreads(ctx context.Context, payload *models.ArchiveThreadsPayload) {
	var threads []*models.Thread
	for _, result := range payload.Results {
		if result.Thread != nil {
			threads = append(threads, result.Thread)
		}
	}
	loaders.Adopt(ctx, threads)
}

func adoptRuns(ctx context.Context, payload *models.CancelRunsPayload) {
	var runs []*models.Run
	for _, result := range payload.Results {
		if result.Run != nil {
			runs = append(runs, result.Run)
		}
	}
	loaders.Adopt(ctx, runs)
}
