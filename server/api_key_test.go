package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

func TestAPIKeys_SignIn(t *testing.T) {
	t.Parallel()
	reader, collector, revoked := models.NewAPIKeyToken(), models.NewAPIKeyToken(), models.NewAPIKeyToken()
	ingester, spooled := spooling(t, 1<<20)
	e := open(t, spooled, resolving(answers{viewer: alice, record: ingester.Record}), func(cfg *server.Config) {
		cfg.AuthenticateKey = func(_ context.Context, key models.APIKeyToken) (models.Viewer, time.Time, error) {
			switch key {
			case reader:
				return models.Viewer{UserID: ordinary, APIKey: key.ID, Permissions: models.NewPermissionSet([]models.Permission{models.PermissionRead})}, time.Time{}, nil
			case collector:
				return models.Viewer{UserID: ordinary, APIKey: key.ID, Permissions: models.NewPermissionSet([]models.Permission{models.PermissionIngest})}, time.Time{}, nil
			default:
				return models.Viewer{}, time.Time{}, models.Errorf(models.Unauthenticated, "the API key is invalid, has been revoked or has expired")
			}
		}
	})
	ask := func(key string) *exchange {
		return e.ask(t, http.MethodPost, "/graphql", `{"query":"{viewer{email}}"}`, "Content-Type", jsonType, "Authorization", "Bearer "+key)
	}
	x := ask(reader.String())
	require.JSONEq(t, `{"viewer":{"email":"alice@example.com"}}`, string(x.answer.Data))
	require.NotContains(t, e.log.String(), reader.String(), "no key is logged")
	require.Contains(t, ask(collector.String()).body, "FORBIDDEN", "recording events is not reading")
	record := func(key string) *exchange {
		return e.ask(t, http.MethodPost, "/ingest/events", oneEvent, "Content-Type", "application/x-ndjson", "Authorization", "Bearer "+key)
	}
	x = record(collector.String())
	require.Equal(t, http.StatusOK, x.status, x.body)
	x = record(reader.String())
	require.Equal(t, http.StatusForbidden, x.status)
	require.Contains(t, x.body, "FORBIDDEN", "reading is not recording events")
	mutate := func(key string) *exchange {
		return e.ask(t, http.MethodPost, "/graphql", `{"query":"mutation{recordEvents(input:{events:[{workloadId:\"w\"}]}){accepted}}"}`, "Content-Type", jsonType, "Authorization", "Bearer "+key)
	}
	require.JSONEq(t, `{"recordEvents":{"accepted":1}}`, string(mutate(collector.String()).answer.Data), "a mutation asks for its own permission, not for READ")
	require.Contains(t, mutate(reader.String()).body, "this API key may not record events")
	good := reader.String()
	for _, bad := range []string{revoked.String(), "ntr_", "ntr_x_y", good[:len(good)-1], good + "A", strings.ToUpper(good[:36]) + good[36:], good[:len(good)-1] + "!", strings.Repeat("ntr_", 1000)} {
		require.Equal(t, http.StatusUnauthorized, ask(bad).status, bad)
	}
}

func TestAPIKeys_AreRefusedWhereNobodyKnowsThem(t *testing.T) {
	t.Parallel()
	x := open(t).ask(t, http.MethodPost, "/graphql", `{"query":"{viewer{email}}"}`, "Content-Type", jsonType, "Authorization", "Bearer "+models.NewAPIKeyToken().String())
	require.Equal(t, http.StatusUnauthorized, x.status)
}
