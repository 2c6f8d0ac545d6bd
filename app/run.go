package app

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// StartRun asks for a run, in a thread that is in use or outside of threads.
func (a *App) StartRun(ctx context.Context, input models.StartRunInput) (*models.StartRunPayload, error) {
	run := models.Run{AgentType: input.AgentType, InputData: input.InputData, Metadata: input.Metadata}
	return a.changeRun(ctx, call{"startRun", writer, input.IdempotencyKey, input}, func(k *checks) {
		if input.ThreadID != nil {
			id := k.about("threadId", models.KindThread, *input.ThreadID)
			run.ThreadID = &id
		}
		k.optionalName("agentType", input.AgentType, maxShort)
		k.document("inputData", input.InputData, maxDocument)
		k.metadata(input.Metadata)
	}, func(tx *store.Tx, viewer models.Viewer) (uuid.UUID, error) {
		run.UserID = viewer.UserID
		if run.ThreadID != nil {
			thread, err := useThread(ctx, tx, *run.ThreadID, models.ThreadActive)
			if err != nil {
				return uuid.Nil, err
			}
			run.UserID = thread.UserID
		}
		id := tx.InsertRun(&run)
		tx.On(models.KindRun, id.String())
		return id, nil
	})
}

// CancelRun calls a run off that has not ended.
func (a *App) CancelRun(ctx context.Context, input models.CancelRunInput) (*models.CancelRunPayload, error) {
	return a.step(ctx, call{"cancelRun", writer, input.IdempotencyKey, input}, input.ID, store.RunStep{Status: models.RunCancelled, Version: input.ExpectedVersion}, func(*checks) {})
}

// AdvanceRun is how an agent reports the progress of a run.
func (a *App) AdvanceRun(ctx context.Context, input models.AdvanceRunInput) (*models.AdvanceRunPayload, error) {
	step := store.RunStep{Status: input.Status, Version: input.ExpectedVersion, OutputData: input.OutputData, ErrorMessage: input.ErrorMessage}
	return a.step(ctx, call{"advanceRun", agent, input.IdempotencyKey, input}, input.ID, step, func(k *checks) {
		k.document("outputData", input.OutputData, maxDocument)
		k.optionalName("errorMessage", input.ErrorMessage, maxError)
		if input.ErrorMessage != nil && input.Status != models.RunFailed {
			k.wrong("errorMessage", "only a run that has FAILED has an error")
		}
	})
}

// RetryRun asks for a run like one that has failed or was cancelled, in a thread that is in use or outside of threads. That one stays as it is: it is history.
func (a *App) RetryRun(ctx context.Context, input models.RetryRunInput) (*models.RetryRunPayload, error) {
	var id uuid.UUID
	return a.changeRun(ctx, call{"retryRun", writer, input.IdempotencyKey, input}, func(k *checks) {
		id = k.about("id", models.KindRun, input.ID)
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		var runs []*models.Run
		tx.Runs([]uuid.UUID{id}, &runs)
		if err := tx.Send(ctx); err != nil {
			return uuid.Nil, err
		}
		if len(runs) == 0 {
			return uuid.Nil, models.Errorf(models.NotFound, "no such %s", models.KindRun)
		}
		if status := runs[0].Status; status != models.RunFailed && status != models.RunCancelled {
			return uuid.Nil, models.Errorf(models.Conflict, "a run that is %s cannot be retried: only one that is FAILED or CANCELLED", upper(status))
		}
		if thread := runs[0].ThreadID; thread != nil {
			if _, err := useThread(ctx, tx, *thread, models.ThreadActive); err != nil {
				return uuid.Nil, err
			}
		}
		return tx.RepeatRun(id), nil
	})
}

// CancelRuns calls several runs off; one that cannot be does not hinder the others.
func (a *App) CancelRuns(ctx context.Context, input models.CancelRunsInput) (*models.CancelRunsPayload, error) {
	var ids []uuid.UUID
	var done []itemDone
	var rows []*models.Run
	wrong, err := perform(ctx, a, call{"cancelRuns", writer, input.IdempotencyKey, input}, func(k *checks) {
		ids = k.ids("ids", models.KindRun, input.IDs)
	}, func(tx *store.Tx, _ models.Viewer) ([]itemDone, error) {
		step := store.RunStep{Status: models.RunCancelled}
		taken, err := tx.AdvanceRuns(ctx, ids, step)
		if err != nil {
			return nil, err
		}
		found := byKey(taken, func(t *store.StepTaken) uuid.UUID { return t.ID })
		return itemsDone(tx, models.KindRun, ids, func(id uuid.UUID) error { return judge(found[id], step) })
	}, func(tx *store.Tx, items []itemDone) error {
		done = items
		tx.Runs(keysOf(items), &rows)
		return nil
	})
	payload := &models.CancelRunsPayload{Results: []*models.RunResult{}, UserErrors: wrong}
	if err != nil || len(wrong) > 0 {
		return payload, err
	}
	found := byKey(rows, func(r *models.Run) uuid.UUID { return r.DatabaseID })
	payload.Results = resultsOf(done, found, func(i int, run *models.Run, wrong []*models.UserError) *models.RunResult {
		return &models.RunResult{ID: input.IDs[i], Run: run, UserErrors: wrong}
	})
	return payload, nil
}

func (a *App) step(ctx context.Context, c call, global string, step store.RunStep, check func(*checks)) (*models.RunPayload, error) {
	var id uuid.UUID
	return a.changeRun(ctx, c, func(k *checks) {
		id = k.about("id", models.KindRun, global)
		check(k)
	}, func(tx *store.Tx, _ models.Viewer) (uuid.UUID, error) {
		taken, err := tx.AdvanceRuns(ctx, []uuid.UUID{id}, step)
		if err != nil {
			return id, err
		}
		if len(taken) == 0 {
			return id, judge(nil, step)
		}
		return id, judge(taken[0], step)
	})
}

// judge says why a step was not taken.
func judge(taken *store.StepTaken, step store.RunStep) error {
	switch {
	case taken == nil:
		return models.Errorf(models.NotFound, "no such %s", models.KindRun)
	case taken.Moved:
		return nil
	default:
		if err := expect(step.Version, taken.Version, models.KindRun); err != nil {
			return err
		}
		return models.Errorf(models.Conflict, "a run cannot go from %s to %s", upper(taken.Previous), upper(step.Status))
	}
}

// changeRun is perform for verbs that answer one run.
func (a *App) changeRun(ctx context.Context, c call, check func(*checks), act func(*store.Tx, models.Viewer) (uuid.UUID, error)) (*models.RunPayload, error) {
	var rows []*models.Run
	wrong, err := perform(ctx, a, c, check, act, func(tx *store.Tx, id uuid.UUID) error {
		tx.Runs([]uuid.UUID{id}, &rows)
		return nil
	})
	return &models.RunPayload{Run: one(rows), UserErrors: wrong}, err
}

// upper is a status as the graph writes it.
func upper[S ~string](status S) string { return strings.ToUpper(string(status)) }
