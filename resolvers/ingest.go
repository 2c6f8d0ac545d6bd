package resolvers

import (
	"context"
	"errors"
	"strconv"

	"github.com/netra-ai/netra/models"
)

// maxEvents is how many events one mutation records: more come faster as lines.
const maxEvents = 1000

// recordEvents records all events or none. What is wrong with the input, or not the viewer's to do, is for the user; everything else is an error of the field.
func (r *Resolver) recordEvents(ctx context.Context, input models.RecordEventsInput) (*models.RecordEventsPayload, error) {
	switch {
	case len(input.Events) == 0:
		return refusedEvents(models.Errorf(models.BadUserInput, "there are no events"), "events"), nil
	case len(input.Events) > maxEvents:
		return refusedEvents(models.Errorf(models.BadUserInput, "at most %d events at once; POST /ingest/events takes more", maxEvents), "events"), nil
	}
	key := ""
	if input.IdempotencyKey != nil {
		key = *input.IdempotencyKey
	}
	err := r.Ingest.Record(ctx, input.Events, key)
	var mistakes *models.EventErrors
	var known *models.Error
	switch {
	case err == nil:
		return &models.RecordEventsPayload{Accepted: len(input.Events), UserErrors: []*models.UserError{}}, nil
	case errors.As(err, &mistakes):
		payload := new(models.RecordEventsPayload)
		for _, mistake := range mistakes.Errors {
			payload.UserErrors = append(payload.UserErrors, userErrorOf(mistake))
		}
		return payload, nil
	case errors.As(err, &known) && known.Code == models.BadUserInput:
		return refusedEvents(known, "idempotencyKey"), nil
	case errors.As(err, &known) && (known.Code == models.Forbidden || known.Code == models.TooComplex):
		return refusedEvents(known), nil
	default:
		return nil, err
	}
}

// eventArguments are the arguments of an event by the columns that they are for.
var eventArguments = map[string]string{
	"event_id": "eventId", "timestamp": "timestamp", "user_id": "userId", "workload_id": "workloadId", "event_type": "eventType", "event_category": "eventCategory",
	"metrics": "metrics", "dimensions": "dimensions", "metadata": "metadata",
}

// userErrorOf calls a column as the graph does.
func userErrorOf(mistake *models.EventError) *models.UserError {
	place := strconv.Itoa(mistake.Place - 1)
	shown := &models.UserError{Field: []string{"events", place}, Message: mistake.Error(), Code: string(models.CodeOf(mistake))}
	if argument, ok := eventArguments[mistake.Column]; ok {
		shown.Field = append(shown.Field, argument)
		shown.Message = "events[" + place + "]: " + argument + mistake.What
	}
	return shown
}

func refusedEvents(err *models.Error, field ...string) *models.RecordEventsPayload {
	return &models.RecordEventsPayload{UserErrors: []*models.UserError{{Field: append([]string{}, field...), Message: err.Message, Code: string(err.Code)}}}
}
