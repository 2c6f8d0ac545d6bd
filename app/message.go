package app

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// posted is what a message made.
type posted struct {
	Message uuid.UUID
	Run     *uuid.UUID `json:",omitempty"`
}

// PostMessage says something as the user in a thread that is in use, and starts a run with it where the input has one.
func (a *App) PostMessage(ctx context.Context, input models.PostMessageInput) (*models.PostMessagePayload, error) {
	var threadID uuid.UUID
	var messages []*models.Message
	var runs []*models.Run
	wrong, err := perform(ctx, a, call{"postMessage", writer, input.IdempotencyKey, input}, func(k *checks) {
		threadID = k.about("threadId", models.KindThread, input.ThreadID)
		k.name("content", input.Content, maxContent)
		k.metadata(input.Metadata)
		if run := input.StartRun; run != nil {
			k.optionalName("startRun.agentType", run.AgentType, maxShort)
			k.document("startRun.inputData", run.InputData, maxDocument)
			k.object("startRun.metadata", run.Metadata, maxMetadata)
		}
	}, func(tx *store.Tx, _ models.Viewer) (posted, error) {
		thread, err := useThread(ctx, tx, threadID, models.ThreadActive)
		if err != nil {
			return posted{}, err
		}
		done := say(tx, &models.Message{ThreadID: threadID, Role: models.RoleUser, Content: input.Content, Metadata: input.Metadata})
		if input.StartRun == nil {
			return done, nil
		}
		data := input.StartRun.InputData
		if data == nil {
			data = models.JSON("{}")
		}
		run := tx.InsertRun(&models.Run{ThreadID: &threadID, UserID: thread.UserID, AgentType: input.StartRun.AgentType, InputData: data, Metadata: input.StartRun.Metadata})
		done.Run = &run
		return done, nil
	}, func(tx *store.Tx, done posted) error {
		tx.Messages([]uuid.UUID{done.Message}, &messages)
		if done.Run != nil {
			tx.Runs([]uuid.UUID{*done.Run}, &runs)
		}
		return nil
	})
	return &models.PostMessagePayload{Message: one(messages), Run: one(runs), UserErrors: wrong}, err
}

// AppendMessage says something as an agent. A run that outlasts its thread's use still reports: only the bin is closed.
func (a *App) AppendMessage(ctx context.Context, input models.AppendMessageInput) (*models.AppendMessagePayload, error) {
	var threadID uuid.UUID
	var messages []*models.Message
	wrong, err := perform(ctx, a, call{"appendMessage", agent, input.IdempotencyKey, input}, func(k *checks) {
		threadID = k.about("threadId", models.KindThread, input.ThreadID)
		k.text("content", input.Content, maxContent)
		if input.Role == models.RoleUser {
			k.wrong("role", "an agent does not speak as the user: ASSISTANT, SYSTEM or TOOL")
		}
		if input.TokensUsed != nil && *input.TokensUsed < 0 {
			k.wrong("tokensUsed", "must not be negative")
		}
		k.optionalName("model", input.Model, maxShort)
		k.metadata(input.Metadata)
	}, func(tx *store.Tx, _ models.Viewer) (posted, error) {
		if _, err := useThread(ctx, tx, threadID, models.ThreadActive, models.ThreadArchived); err != nil {
			return posted{}, err
		}
		return say(tx, &models.Message{ThreadID: threadID, Role: input.Role, Content: input.Content, TokensUsed: input.TokensUsed, Model: input.Model, Metadata: input.Metadata}), nil
	}, func(tx *store.Tx, done posted) error {
		tx.Messages([]uuid.UUID{done.Message}, &messages)
		return nil
	})
	return &models.AppendMessagePayload{Message: one(messages), UserErrors: wrong}, err
}

// useThread locks a thread to add to it, so that messages get the order of their times and none comes into a thread that is just being put away.
func useThread(ctx context.Context, tx *store.Tx, id uuid.UUID, usable ...models.ThreadStatus) (*models.Thread, error) {
	thread, err := tx.LockThread(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, status := range usable {
		if thread.Status == status {
			return thread, nil
		}
	}
	return nil, models.Errorf(models.Conflict, "the thread is %s: restore it first", upper(thread.Status))
}

func say(tx *store.Tx, m *models.Message) posted {
	id := tx.InsertMessage(m)
	tx.On(models.KindMessage, id.String())
	tx.TouchThread(m.ThreadID)
	return posted{Message: id}
}
