package app

import (
	"context"
	"net/url"
	"strconv"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// UpdateProfile edits what the viewer says of themselves.
func (a *App) UpdateProfile(ctx context.Context, input models.UpdateProfileInput) (*models.UpdateProfilePayload, error) {
	return a.changeUser(ctx, call{"updateProfile", person, input.IdempotencyKey, input}, func(k *checks) {
		k.optionalName("name", input.Name.Value(), maxName)
		if picture := input.Picture.Value(); picture != nil {
			k.text("picture", *picture, maxURL)
			if u, err := url.Parse(*picture); err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
				k.wrong("picture", "must be a URL that begins with https:// or http://")
			}
		}
		k.metadata(input.Metadata.Value())
	}, func(tx *store.Tx, viewer models.Viewer) (int, error) {
		tx.On(models.KindUser, strconv.Itoa(viewer.UserID))
		tx.UpdateProfile(viewer.UserID, input)
		return viewer.UserID, nil
	})
}

// SetUserActive opens or closes an account. Superusers do not close their own.
func (a *App) SetUserActive(ctx context.Context, input models.SetUserActiveInput) (*models.SetUserActivePayload, error) {
	var id int
	return a.changeUser(ctx, call{"setUserActive", superuser, input.IdempotencyKey, input}, func(k *checks) {
		k.target = []string{"id"}
		parsed, err := models.ParseIDOf(models.KindUser, input.ID)
		if err == nil {
			id, err = parsed.Int()
		}
		if err != nil {
			k.wrong("id", "%s", err.Error())
			return
		}
		k.kind, k.key = models.KindUser, parsed.Key
	}, func(tx *store.Tx, viewer models.Viewer) (int, error) {
		if id == viewer.UserID && !input.IsActive {
			return id, models.Errorf(models.Conflict, "you cannot close your own account")
		}
		return id, tx.SetUserActive(ctx, id, input.IsActive)
	})
}

// changeUser is perform for verbs that answer one user.
func (a *App) changeUser(ctx context.Context, c call, check func(*checks), act func(*store.Tx, models.Viewer) (int, error)) (*models.UserPayload, error) {
	var rows []*models.User
	wrong, err := perform(ctx, a, c, check, act, func(tx *store.Tx, id int) error {
		tx.Users([]int{id}, &rows)
		return nil
	})
	return &models.UserPayload{User: one(rows), UserErrors: wrong}, err
}
