package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/models"
)

var errLeak = errors.New(`pq: relation "secret_table" does not exist, password=hunter2`)

func TestErrors_ShowNothingInternal(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err           error
		code, message string
		logged        string // the level, or nothing
	}{
		"a known error":              {models.Errorf(models.NotFound, "no such thing"), "NOT_FOUND", "no such thing", ""},
		"a known error, wrapped":     {fmt.Errorf("list threads of hunter2: %w", models.Errorf(models.Conflict, "try again")), "CONFLICT", "try again", ""},
		"a known error with a cause": {models.Wrap(errLeak, models.DatabaseUnavailable, "the database is away"), "DATABASE_UNAVAILABLE", "the database is away", "WARN"},
		"a driver's error":           {errLeak, "INTERNAL", "", "ERROR"},
		"a driver's error, wrapped":  {fmt.Errorf("list: %w", errLeak), "INTERNAL", "", "ERROR"},
		"an internal known error":    {models.Wrap(errLeak, models.Internal, "hunter2"), "INTERNAL", "", "ERROR"},
		"a GraphQL error of a room":  {gqlerror.Errorf("hunter2"), "INTERNAL", "", "ERROR"},
		"a GraphQL error in disguise": {&gqlerror.Error{Message: "hunter2", Extensions: map[string]any{"code": "FORBIDDEN", "debug": "hunter2"}},
			"INTERNAL", "", "ERROR"},
		"a deadline":            {fmt.Errorf("ask hunter2: %w", context.DeadlineExceeded), "TIMEOUT", "the operation took too long", ""},
		"cancelled by nobody":   {fmt.Errorf("ask hunter2: %w", context.Canceled), "INTERNAL", "", "ERROR"},
		"several errors in one": {errors.Join(errLeak, models.Errorf(models.Forbidden, "not yours")), "FORBIDDEN", "not yours", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t, resolving(answers{viewer: func(context.Context) (*models.User, error) { return nil, test.err }}))
			x := e.post(t, "{\n me: viewer { id } }")
			require.Equal(t, http.StatusOK, x.status)
			require.Equal(t, []string{test.code}, x.codes(), x.body)
			require.Equal(t, []any{"me"}, x.answer.Errors[0].Path)
			require.Equal(t, []map[string]int{{"line": 2, "column": 2}}, x.answer.Errors[0].Locations)
			require.NotContains(t, x.body, "hunter2")
			logged := e.log.with(t, "operation failed")
			if test.logged == "" {
				require.Empty(t, logged)
			} else {
				require.Len(t, logged, 1)
				require.Equal(t, test.logged, logged[0]["level"])
				require.Contains(t, logged[0]["error"], "hunter2")
				require.Equal(t, x.header.Get("X-Request-Id"), logged[0]["request_id"])
				require.Equal(t, "me", logged[0]["path"])
			}
			if test.message != "" {
				require.Equal(t, test.message, x.answer.Errors[0].Message)
				return
			}
			require.Equal(t, fmt.Sprintf("internal error, reference %s", logged[0]["reference"]), x.answer.Errors[0].Message)
		})
	}
}

func TestErrors_APanicIsOurFaultAndNotTheEnd(t *testing.T) {
	t.Parallel()
	e := open(t, resolving(answers{viewer: func(context.Context) (*models.User, error) { panic("hunter2") }}))
	for range 2 {
		x := e.post(t, "{viewer{id}}")
		require.Equal(t, http.StatusOK, x.status)
		require.Equal(t, []string{"INTERNAL"}, x.codes())
		require.NotContains(t, x.body, "hunter2")
	}
	logged := e.log.with(t, "operation failed")
	require.Len(t, logged, 2)
	require.Contains(t, logged[0]["error"], "panic: hunter2")
	require.Contains(t, logged[0]["stack"], "errors_test.go")
	require.NotEqual(t, logged[0]["reference"], logged[1]["reference"])
}

func TestErrors_ManyFaultsAreOneReferenceAndFewLines(t *testing.T) {
	t.Parallel()
	e := open(t, resolving(answers{node: func(context.Context, string) (models.Node, error) { return nil, errLeak }}))
	x := e.post(t, "{"+repeated(20, `n%d:node(id:"x"){id} `)+"}")
	require.Len(t, x.answer.Errors, 20)
	for _, err := range x.answer.Errors {
		require.Equal(t, x.answer.Errors[0].Message, err.Message)
	}
	require.LessOrEqual(t, len(e.log.with(t, "operation failed")), 20)
}

func TestErrors_VariablesAreNeverLogged(t *testing.T) {
	t.Parallel()
	e := open(t, resolving(answers{node: func(context.Context, string) (models.Node, error) { return nil, errLeak }}))
	e.postWith(t, "query Named($id:ID!){node(id:$id){id}}", map[string]any{"id": "confidential"})
	e.postWith(t, "query Named($id:Int!){node(id:$id){id}}", map[string]any{"id": "confidential"})
	require.NotContains(t, e.log.String(), "confidential")
	require.NotContains(t, e.log.String(), tokenOf(t, ordinary)[:20])
}

func TestErrors_WhatIsWrongIsSaidWhereItIs(t *testing.T) {
	t.Parallel()
	e := open(t)
	x := e.post(t, "{\n  viewer {\n    emial\n  }\n}")
	require.Equal(t, []map[string]int{{"line": 3, "column": 5}}, x.answer.Errors[0].Locations)
	require.Contains(t, x.answer.Errors[0].Message, "email", "suggestions help")
	x = e.post(t, "{\n  viewer {")
	require.Equal(t, 2, x.answer.Errors[0].Locations[0]["line"])
	x = e.postWith(t, "query($f:RunFilter){viewer{runs(filter:$f){totalCount}}}", map[string]any{"f": map[string]any{"createdAt": map[string]any{"until": 1}}})
	require.Equal(t, []string{"BAD_USER_INPUT"}, x.codes())
	require.Equal(t, "variable $f.createdAt.until: unknown field", x.answer.Errors[0].Message)
	require.Empty(t, x.answer.Errors[0].Path, "a path is a place in the answer")
	require.NotContains(t, x.body, `"data"`)
}

// gqlgen panics at a directive whose argument is null, which a variable with a default may be.
func TestServer_ADirectiveNeedsAValue(t *testing.T) {
	t.Parallel()
	e := open(t)
	c := (&fixture{url: "ws" + strings.TrimPrefix(e.url, "http") + "/graphql"}).dial(t)
	c.send(`{"type":"connection_init","payload":{"authorization":"Bearer ` + tokenOf(t, ordinary) + `"}}`)
	c.expect(ack)
	for _, query := range []string{
		`query($x: Boolean = true) { viewer { id @skip(if: $x) } }`,
		`query($x: Boolean = true) { viewer @include(if: $x) { id } }`,
		`query($x: Boolean = true) { ...F ...F @skip(if: $x) } fragment F on Query { viewer { id } }`,
		`query($x: Boolean = true) { ... on Query { ...F } } fragment F on Query { viewer { ... @skip(if: $x) { id } } }`,
	} {
		x := e.postWith(t, query, map[string]any{"x": nil})
		require.Contains(t, x.body, string(models.BadUserInput), query)
		require.Contains(t, e.postWith(t, query, nil).body, `"data"`, query)
		payload, err := json.Marshal(map[string]any{"query": query, "variables": map[string]any{"x": nil}})
		require.NoError(t, err)
		c.send(`{"id":"x","type":"subscribe","payload":` + string(payload) + `}`)
		require.Contains(t, c.receive(), string(models.BadUserInput), query)
	}
	require.Contains(t, e.postWith(t, `query($x: Boolean = true, $y: String = "") { viewer { email @include(if: $x) } }`, map[string]any{"y": nil}).body, "$y", "it is used nowhere")
	require.Contains(t, e.postWith(t, `query($x: Boolean = true) { __type(name: "User") { fields(includeDeprecated: $x) { name } } }`, map[string]any{"x": nil}).body, `"data":{"__type"`, "what no directive depends on is the field's affair")
	c.send(`{"id":"q","type":"subscribe","payload":{"query":"{ viewer { email } }"}}`)
	require.Contains(t, c.receive(), "alice@example.com")
	c.expect(`{"id":"q","type":"complete"}`)
}
