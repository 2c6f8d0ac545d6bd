// Package app has the verbs: each checks what it is given, asks whether the viewer may, and does it in one transaction together with its
// line in the audit log.
package app

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// App changes what the store holds. Its methods are the graph's mutations: they answer what is wrong with the input, or does not suit the state, as user
// errors, and fail with anything else (Unauthenticated, DatabaseUnavailable, Timeout). Each is recorded in the audit log, refused ones too.
type App struct {
	store *store.Store
	files *Files
}

// New makes an App. The files are over the same store.
func New(s *store.Store, files *Files) *App { return &App{store: s, files: files} }

// call is one use of a verb.
type call struct {
	action string                    // the mutation's name
	may    func(models.Viewer) error // who may
	key    *string                   // of idempotency
	input  any                       // all of it but the key
}

// perform uses a verb. Check looks at the input alone; act changes the state and says, in something that goes through JSON, what it did; read asks
// for what the answer is made of, now or when the same call is repeated. What it asks for has come when perform returns no error, neither of the two kinds.
func perform[D any](ctx context.Context, a *App, c call, check func(*checks), act func(*store.Tx, models.Viewer) (D, error), read func(*store.Tx, D) error) ([]*models.UserError, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	k := &checks{}
	check(k)
	if c.key != nil {
		k.name("idempotencyKey", *c.key, maxKey)
	}
	err = a.store.Write(ctx, c.action, func(tx *store.Tx) error {
		if k.kind != "" {
			tx.On(k.kind, k.key)
		}
		if err := c.may(viewer); err != nil {
			return err
		}
		if err := k.refusal(); err != nil {
			return err
		}
		if c.key == nil {
			done, err := act(tx, viewer)
			if err != nil {
				return err
			}
			return read(tx, done)
		}
		return once(ctx, tx, c, func() (D, error) { return act(tx, viewer) }, func(done D) error { return read(tx, done) })
	})
	return k.userErrors(err)
}

// once acts unless the call has been made before.
func once[D any](ctx context.Context, tx *store.Tx, c call, act func() (D, error), read func(D) error) error {
	input, err := json.Marshal(c.input)
	if err != nil {
		return fmt.Errorf("encode the input of %s: %w", c.action, err)
	}
	key := sha256.Sum256([]byte(*c.key))
	before, repeated, err := tx.Claim(ctx, c.action, key, sha256.Sum256(input))
	if errors.Is(err, store.ErrOtherInput) {
		return ofArgument("idempotencyKey", err)
	}
	if err != nil {
		return err
	}
	var done D
	if repeated {
		if err := json.Unmarshal(before, &done); err != nil {
			return fmt.Errorf("decode what %s has done: %w", c.action, err)
		}
		return read(done)
	}
	if done, err = act(); err != nil {
		return err
	}
	answer, err := json.Marshal(done)
	if err != nil {
		return fmt.Errorf("encode what %s has done: %w", c.action, err)
	}
	tx.Answer(c.action, key, answer)
	return read(done)
}

// userErrors tells what is for the person who gave the input from what is not.
func (k *checks) userErrors(err error) ([]*models.UserError, error) {
	var several *refusal
	var known *models.Error
	switch {
	case err == nil:
		return []*models.UserError{}, nil
	case errors.As(err, &several):
		return several.errors, nil
	case errors.As(err, &known):
		switch known.Code {
		case models.NotFound:
			return []*models.UserError{{Field: append([]string{}, k.target...), Message: known.Message, Code: string(known.Code)}}, nil
		case models.BadUserInput, models.Forbidden, models.Conflict, models.TooComplex:
			field := []string{}
			if place := new(argumentError); errors.As(err, &place) {
				field = append(field, place.argument)
			}
			return []*models.UserError{{Field: field, Message: known.Message, Code: string(known.Code)}}, nil
		}
	}
	return nil, err
}

// argumentError is that the state does not suit an argument.
type argumentError struct {
	argument string
	error
}

func ofArgument(name string, err error) error { return &argumentError{name, err} }
func (e *argumentError) Unwrap() error        { return e.error }

// itemErrors is userErrors for one of several objects.
func itemErrors(err error) []*models.UserError {
	if err == nil {
		return []*models.UserError{}
	}
	return []*models.UserError{{Field: []string{}, Message: err.Error(), Code: string(models.CodeOf(err))}}
}

// writer is everybody but keys that may not.
func writer(v models.Viewer) error {
	if !v.May(models.PermissionWrite) {
		return models.Errorf(models.Forbidden, "this API key may not write")
	}
	return nil
}

// agent is a program with a key for agents.
func agent(v models.Viewer) error {
	if !v.ByKey() || !v.May(models.PermissionAgent) {
		return models.Errorf(models.Forbidden, "this is for agents: sign in with an API key that has the permission AGENT")
	}
	return nil
}

// person is whoever signed in without a key: no key changes the account.
func person(v models.Viewer) error {
	if v.ByKey() {
		return models.Errorf(models.Forbidden, "API keys may not do this: sign in as a person")
	}
	return nil
}

// superuser is a person who sees every tenant.
func superuser(v models.Viewer) error {
	if err := person(v); err != nil {
		return err
	}
	if !v.Superuser {
		return models.Errorf(models.Forbidden, "only superusers may do this")
	}
	return nil
}
