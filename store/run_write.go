package store

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// Runs reads those of ids that the viewer may see, with all their columns, in any order: into is set when a later statement has been answered, or at the end.
func (t *Tx) Runs(ids []uuid.UUID, into *[]*models.Run) {
	laterByID(t, into, runs, ids, "uuid")
}

// InsertRun asks for a run of a user.
func (t *Tx) InsertRun(run *models.Run) uuid.UUID {
	id := uuid.New()
	t.later(`INSERT INTO runs (id, thread_id, user_id, agent_type, input_data, metadata)
		VALUES ($1, $2, $3, $4, $5::text::jsonb, coalesce($6::text::jsonb, '{}'))`, id, run.ThreadID, run.UserID, run.AgentType, run.InputData, run.Metadata)
	return id
}

// RepeatRun asks for another run like one, whose metadata says so.
func (t *Tx) RepeatRun(id uuid.UUID) uuid.UUID {
	another := uuid.New()
	t.later(`INSERT INTO runs (id, thread_id, user_id, agent_type, input_data, metadata)
		SELECT $2, thread_id, user_id, agent_type, input_data,
			CASE jsonb_typeof(metadata) WHEN 'object' THEN metadata ELSE '{}' END || jsonb_build_object('retry_of', id)
		FROM runs WHERE id = $1`, id, another)
	return another
}

// RunStep is a run's step to another status.
type RunStep struct {
	Status       models.RunStatus
	Version      *int        // the one that the run must have
	OutputData   models.JSON // replaces the run's, unless nil
	ErrorMessage *string     // replaces the run's, unless nil
}

// StepTaken is what came of a step.
type StepTaken struct {
	ID       uuid.UUID        `bun:"id"`
	Previous models.RunStatus `bun:"previous"`
	Version  int              `bun:"version"` // before the step
	Moved    bool             `bun:"moved"`
}

// AdvanceRuns takes each of the runs one step, where it is legal. Runs that the viewer may not see are left out. Rows are locked in one order, so
// that two calls cannot wait for each other.
func (t *Tx) AdvanceRuns(ctx context.Context, ids []uuid.UUID, step RunStep) ([]*StepTaken, error) {
	sorted := slices.Clone(ids)
	slices.SortFunc(sorted, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	return rowsOf[*StepTaken](ctx, t, `SELECT asked.id, step.previous, step.version, step.moved
		FROM unnest((SELECT $1::uuid[])::uuid[]) AS asked(id) CROSS JOIN LATERAL advance_run(asked.id, $2::text, $3::bigint, $4::text::jsonb, $5::text) AS step`,
		slices.Compact(sorted), string(step.Status), step.Version, step.OutputData, step.ErrorMessage)
}
