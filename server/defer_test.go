package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

// charts is a graph whose users have metrics that a test controls. The name asked for says what comes of it.
type charts struct {
	graph.ResolverRoot
	slow *held

	mu    sync.Mutex
	asked map[string]int // by user and name
}

func (c *charts) Query() graph.QueryResolver { return chartedRoots{} }
func (c *charts) User() graph.UserResolver   { return chartedUsers{charts: c} }

type chartedRoots struct{ graph.QueryResolver }

func (chartedRoots) Viewer(ctx context.Context) (*models.User, error) { return alice(ctx) }

func (chartedRoots) Node(context.Context, string) (models.Node, error) {
	return nil, models.Errorf(models.NotFound, "no such thing")
}

// Users has one that is not there when they are ordered by their addresses.
func (chartedRoots) Users(_ context.Context, _ *int, _ *string, _ *int, _ *string, _ *models.UserFilter, order models.UserOrder) (*models.UserConnection, error) {
	users := []*models.User{{DatabaseID: 1, Email: "alice@example.com"}, {DatabaseID: 2, Email: "bob@example.com"}, {DatabaseID: 3, Email: "carol@example.com"}}
	if order.Field == models.UserEmail {
		users[1] = nil
	}
	return models.NewConnection(users, models.Page{Limit: 20, Order: order.Order()}, false,
		func(context.Context) (int, error) { return 0, errors.New("password=hunter2") }), nil
}

type chartedUsers struct {
	graph.UserResolver
	charts *charts
}

func (u chartedUsers) Metrics(ctx context.Context, user *models.User, _ models.TimeRange, names []string) ([]*models.MetricSummary, error) {
	name := names[0]
	u.charts.mu.Lock()
	if u.charts.asked == nil {
		u.charts.asked = map[string]int{}
	}
	u.charts.asked[fmt.Sprint(user.DatabaseID, name)]++
	u.charts.mu.Unlock()
	switch name {
	case "slow":
		if _, err := u.charts.slow.viewer(ctx); err != nil {
			return nil, err
		}
	case "away":
		return nil, models.Wrap(errors.New("password=hunter2"), models.AnalyticsUnavailable, "analytics cannot be reached now")
	case "fails":
		return nil, errors.New("password=hunter2")
	case "panics":
		panic("password=hunter2")
	case "none":
		return nil, nil
	}
	return []*models.MetricSummary{{Metric: name, Unit: `{"`, Count: int64(user.DatabaseID)}}, nil
}

func charting(c *charts) func(*server.Config) { return func(cfg *server.Config) { cfg.Resolvers = c } }

// chart selects a metric.
func chart(name string) string {
	return fmt.Sprintf(`%s:metrics(range:{from:"2026-01-01T00:00:00Z",to:"2026-01-02T00:00:00Z"},names:[%q]){metric count}`, name, name)
}

const (
	apolloAccept   = "multipart/mixed;deferSpec=20220824,application/graphql-response+json,application/json;q=0.9"
	urqlAccept     = "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
	graphiqlAccept = "application/json, multipart/mixed"
)

// increment is a deferred fragment's part of an answer.
type increment struct {
	Data   map[string]any   `json:"data"`
	Path   []any            `json:"path"`
	Label  string           `json:"label"`
	Errors []map[string]any `json:"errors"`
}

// part is one of a multipart answer.
type part struct {
	Data        map[string]any   `json:"data"`
	Errors      []map[string]any `json:"errors"`
	Incremental []increment      `json:"incremental"`
	HasNext     bool             `json:"hasNext"`
}

func partsOf(t *testing.T, header http.Header, body io.Reader) *multipart.Reader {
	t.Helper()
	mediaType, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/mixed", mediaType)
	require.Equal(t, map[string]string{"boundary": "-", "deferspec": "20220824"}, parameters)
	return multipart.NewReader(body, "-")
}

func nextPart(t *testing.T, reader *multipart.Reader) part {
	t.Helper()
	raw, err := reader.NextPart()
	require.NoError(t, err)
	require.Equal(t, "application/json; charset=utf-8", raw.Header.Get("Content-Type"))
	var p part
	require.NoError(t, json.NewDecoder(raw).Decode(&p))
	return p
}

// inParts posts a query and reads all parts of the answer.
func (e *edge) inParts(t *testing.T, query string, variables map[string]any) []part {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	require.NoError(t, err)
	x := e.ask(t, http.MethodPost, "/graphql", string(body), "Content-Type", jsonType, "Accept", apolloAccept,
		"Authorization", "Bearer "+tokenOf(t, ordinary))
	require.Equal(t, http.StatusOK, x.status)
	reader := partsOf(t, x.header, strings.NewReader(x.body))
	parts := []part{nextPart(t, reader)}
	for parts[len(parts)-1].HasNext {
		parts = append(parts, nextPart(t, reader))
	}
	_, err = reader.NextPart()
	require.ErrorIs(t, err, io.EOF, "the last part is followed by the last delimiter")
	return parts
}

// merged puts an answer together as clients do. It requires each increment's place to be there.
func merged(t *testing.T, parts []part) (map[string]any, []map[string]any) {
	t.Helper()
	data, errs := parts[0].Data, slices.Clone(parts[0].Errors)
	for _, p := range parts[1:] {
		for _, i := range p.Incremental {
			errs = append(errs, i.Errors...)
			if i.Data == nil {
				continue
			}
			var at any = data
			for _, element := range i.Path {
				switch element := element.(type) {
				case string:
					at = at.(map[string]any)[element]
				case float64:
					at = at.([]any)[int(element)]
				}
			}
			require.IsType(t, map[string]any{}, at, "%v is there when what belongs to it comes", i.Path)
			into(at.(map[string]any), i.Data)
		}
	}
	return data, errs
}

func into(object, more map[string]any) {
	for key, value := range more {
		if have, ok := object[key].(map[string]any); ok {
			if more, ok := value.(map[string]any); ok {
				into(have, more)
				continue
			}
		}
		if have, ok := object[key].([]any); ok {
			if more, ok := value.([]any); ok && len(have) == len(more) {
				for i := range have {
					if inner, ok := have[i].(map[string]any); ok {
						into(inner, more[i].(map[string]any))
					}
				}
				continue
			}
		}
		object[key] = value
	}
}

func TestDefer_ThePartsAreWhatClientsRead(t *testing.T) {
	t.Parallel()
	e := open(t, charting(&charts{}))
	x := e.ask(t, http.MethodPost, "/graphql", `{"query":"{viewer{email ...@defer(label:\"later\"){databaseId}}}"}`,
		"Content-Type", jsonType, "Accept", apolloAccept, "Authorization", "Bearer "+tokenOf(t, ordinary))
	require.Equal(t, `multipart/mixed; boundary="-"; deferSpec=20220824`, x.header.Get("Content-Type"))
	require.Equal(t, "---\r\n"+
		"Content-Type: application/json; charset=utf-8\r\n\r\n"+
		`{"data":{"viewer":{"email":"alice@example.com"}},"hasNext":true}`+"\r\n"+
		"---\r\n"+
		"Content-Type: application/json; charset=utf-8\r\n\r\n"+
		`{"incremental":[{"data":{"databaseId":1},"path":["viewer"],"label":"later"}],"hasNext":false}`+"\r\n"+
		"-----\r\n", x.body)
	require.Eventually(t, func() bool { return len(e.log.with(t, "request")) == 1 }, soon, time.Millisecond)
	require.EqualValues(t, len(x.body), e.log.with(t, "request")[0]["bytes"])
}

func TestDefer_OnlyClientsWhoTakePartsGetThem(t *testing.T) {
	t.Parallel()
	e := open(t, charting(&charts{}))
	const deferring, plain = "{viewer{email ...@defer{databaseId}}}", "{viewer{email ...@defer(if:false){databaseId}}}"
	for accept, inParts := range map[string]bool{
		apolloAccept:                      true,
		urqlAccept:                        true,
		graphiqlAccept:                    true,
		"multipart/mixed":                 true,
		"multipart/mixed;q=0.1,*/*":       true,
		`multipart/mixed;boundary="x"`:    true,
		"multipart/mixed;q=0," + jsonType: false,
		"multipart/mixed;deferSpec=20991231," + jsonType:                           false,
		"multipart/mixed;incrementalSpec=v0.2," + jsonType:                         false,
		`multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json`: false,
		"multipart/*," + jsonType:                                                  false,
		"*/*":                                                                      false,
		"":                                                                         false,
		jsonType:                                                                   false,
		newType:                                                                    false,
	} {
		for query, defers := range map[string]bool{deferring: true, plain: false} {
			for method, path := range map[string]string{http.MethodPost: "/graphql", http.MethodGet: "/graphql?query=" + url.QueryEscape(query)} {
				x := e.ask(t, method, path, fmt.Sprintf(`{"query":%q}`, query), "Content-Type", jsonType, "Accept", accept,
					"Authorization", "Bearer "+tokenOf(t, ordinary))
				about := fmt.Sprint(method, " ", accept, " ", query)
				require.Equal(t, http.StatusOK, x.status, about)
				if inParts && defers {
					require.True(t, nextPart(t, partsOf(t, x.header, strings.NewReader(x.body))).HasNext, about)
					continue
				}
				require.JSONEq(t, `{"viewer":{"email":"alice@example.com","databaseId":1}}`, string(x.answer.Data), about)
				require.NotContains(t, x.body, "hasNext", about)
			}
		}
	}
}

// The operations with everything that can be deferred, and what the same operation without @defer answers.
func TestDefer_NothingIsLostNorAskedTwice(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]string{
		"a field":                          `{viewer{email ...@defer{` + chart("a") + `}}}`,
		"all there is":                     `{...@defer{viewer{email}}}`,
		"all of an object":                 `{viewer{...@defer{email}}}`,
		"several by label":                 `{viewer{...@defer(label:"a"){` + chart("a") + `}...@defer(label:"b"){` + chart("b") + `}}}`,
		"several without label":            `{viewer{...@defer{` + chart("a") + `}...@defer{` + chart("b") + `}}}`,
		"the same field twice":             `{viewer{...@defer{` + chart("a") + `}...@defer{` + chart("a") + `}}}`,
		"a field that is not deferred too": `{viewer{` + chart("a") + ` ...@defer{` + chart("a") + ` email}}}`,
		"more of an object":                `{viewer{id} ...@defer{viewer{email ` + chart("a") + `}}}`,
		"nested without label":             `{viewer{...@defer{email ...@defer{` + chart("a") + `...@defer{` + chart("b") + `}}}}}`,
		"nested below":                     `{...@defer{users(first:3){nodes{email ...@defer(label:"n"){` + chart("a") + `}}}}}`,
		"in a list":                        `{users(first:3){nodes{email ...@defer{` + chart("a") + `}}}}`,
		"in edges":                         `{users(first:3){edges{...@defer{cursor node{` + chart("a") + `}}}pageInfo{...@defer{hasNextPage}}}}`,
		"a spread":                         `{viewer{...F@defer}} fragment F on User{email ` + chart("a") + `}`,
		"a spread that is not deferred too, after":  `{viewer{...F@defer ...F}} fragment F on User{email ` + chart("a") + `}`,
		"a spread that is not deferred too, before": `{viewer{...F ...F@defer}} fragment F on User{email ` + chart("a") + `}`,
		"within a fragment in several places":       `{viewer{...F} users(first:3){nodes{...F}}} fragment F on User{email ...@defer(label:"x"){` + chart("a") + `}}`,
		"a fragment deferred within two others":     `{viewer{...@defer{...F} ...@defer{...G}}} fragment F on User{...H@defer} fragment G on User{id ...H} fragment H on User{` + chart("a") + `}`,
		"an interface":                              `{viewer{...on Node@defer{id} ...on User{...@defer{email}}}}`,
		"a fragment that does not apply":            `{users(first:3){nodes{...on Node{...on Thread@defer{title}}}}}`,
		"skipped":                                   `{viewer{email ...@defer@skip(if:true){` + chart("a") + `}...@include(if:true)@defer{` + chart("b") + `}}}`,
		"null":                                      `{viewer{email ...@defer{` + chart("none") + `}}}`,
		"an object that is not there":               `{node(id:"x"){...@defer{id}...on User{...@defer{` + chart("a") + `}}}}`,
		"analytics away":                            `{viewer{email ...@defer{` + chart("away") + chart("a") + `}}}`,
		"a fault":                                   `{users(first:3){nodes{...@defer{` + chart("fails") + `}}}}`,
		"a fault that two parts have":               `{viewer{...@defer{` + chart("fails") + `}...@defer{email ` + chart("fails") + `}}}`,
		"a panic":                                   `{viewer{...@defer{` + chart("panics") + chart("a") + `}}}`,
		"a count that fails":                        `{users(first:3){...@defer{totalCount}nodes{id}}}`,
		"a null that takes the list with it":        `{users(orderBy:{field:EMAIL}){nodes{...@defer{email}}}viewer{id}}`,
		"introspection":                             `{__schema{queryType{...@defer{name}}}...@defer{__type(name:"User"){name}}__typename}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plainCharts, deferredCharts, partCharts := &charts{}, &charts{}, &charts{}
			plain := open(t, charting(plainCharts)).post(t, strings.NewReplacer(`@defer(label:"a")`, "", `@defer(label:"b")`, "", `@defer(label:"n")`, "", `@defer(label:"x")`, "", "@defer", "").Replace(query))
			require.NotContains(t, plain.codes(), "GRAPHQL_VALIDATION_FAILED", plain.body)
			whole := open(t, charting(deferredCharts)).post(t, query)
			require.JSONEq(t, string(plain.answer.Data), string(whole.answer.Data))
			require.ElementsMatch(t, failures(plain.answer.Errors), failures(whole.answer.Errors))
			require.Equal(t, plainCharts.asked, deferredCharts.asked)

			parts := open(t, charting(partCharts)).inParts(t, query, nil)
			data, errs := merged(t, parts)
			encoded, err := json.Marshal(data)
			require.NoError(t, err)
			require.JSONEq(t, string(plain.answer.Data), string(encoded))
			told := map[string]bool{}
			for _, err := range errs {
				told[fmt.Sprint(err["path"], err["extensions"].(map[string]any)["code"])] = true
			}
			require.ElementsMatch(t, failures(plain.answer.Errors), slices.Collect(maps.Keys(told)))
			require.Equal(t, plainCharts.asked, partCharts.asked, "no resolver ran twice")
			require.NotContains(t, fmt.Sprint(parts), "hunter2")
		})
	}
}

func failures(errs []struct {
	Message    string
	Path       []any
	Locations  []map[string]int
	Extensions map[string]any
}) []string {
	var list []string
	for _, err := range errs {
		list = append(list, fmt.Sprint(err.Path, err.Extensions["code"]))
	}
	slices.Sort(list)
	return list
}

func TestDefer_APartIsSentWhenItIsReady(t *testing.T) {
	t.Parallel()
	c := &charts{slow: newHeld()}
	e := open(t, charting(c))
	response := e.begin(t.Context(), t, `{viewer{email ...@defer(label:"slow"){`+chart("slow")+`...@defer(label:"after"){`+chart("b")+`}}...@defer(label:"quick"){`+chart("a")+`}}}`)
	reader := partsOf(t, response.Header, response.Body)
	first := nextPart(t, reader)
	require.Equal(t, map[string]any{"viewer": map[string]any{"email": "alice@example.com"}}, first.Data)
	quick := nextPart(t, reader)
	require.Len(t, quick.Incremental, 1)
	require.Equal(t, "quick", quick.Incremental[0].Label)
	require.True(t, quick.HasNext)
	within(t, c.slow.entered)
	close(c.slow.release)
	slow := nextPart(t, reader)
	require.Equal(t, "slow", slow.Incremental[0].Label)
	require.True(t, slow.HasNext)
	after := nextPart(t, reader)
	require.Equal(t, []increment{{Label: "after", Path: []any{"viewer"}, Data: map[string]any{"b": []any{map[string]any{"metric": "b", "count": "1"}}}}}, after.Incremental)
	require.False(t, after.HasNext)
	require.NoError(t, response.Body.Close())
}

// begin sends a query and does not wait for more than the beginning of its answer.
func (e *edge) begin(ctx context.Context, t *testing.T, query string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/graphql", strings.NewReader(fmt.Sprintf(`{"query":%q}`, query)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", jsonType)
	r.Header.Set("Accept", apolloAccept)
	r.Header.Set("Authorization", "Bearer "+tokenOf(t, ordinary))
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func TestDefer_AClientThatLeavesEndsWhatIsDeferred(t *testing.T) {
	t.Parallel()
	c := &charts{slow: newHeld()}
	e := open(t, charting(c))
	ctx, leave := context.WithCancel(t.Context())
	response := e.begin(ctx, t, `{viewer{email ...@defer{`+chart("slow")+`}}}`)
	nextPart(t, partsOf(t, response.Header, response.Body))
	within(t, c.slow.entered)
	leave()
	require.ErrorIs(t, within(t, c.slow.ended), context.Canceled)
	require.Eventually(t, func() bool { return len(e.log.with(t, "request")) == 1 }, soon, time.Millisecond, "the request is over")
	require.Empty(t, e.log.with(t, "operation failed"), "that is nobody's fault")
}

func TestDefer_WhatIsDeferredHasTheOperationsDeadline(t *testing.T) {
	t.Parallel()
	c := &charts{slow: newHeld()}
	e := open(t, charting(c), func(cfg *server.Config) { cfg.Limits.Timeout = time.Second })
	parts := e.inParts(t, `{viewer{email ...@defer(label:"slow"){`+chart("slow")+`}}}`, nil)
	require.ErrorIs(t, within(t, c.slow.ended), context.DeadlineExceeded)
	require.Equal(t, map[string]any{"viewer": map[string]any{"email": "alice@example.com"}}, parts[0].Data)
	last := parts[len(parts)-1].Incremental
	require.Len(t, last, 1)
	require.Equal(t, "slow", last[0].Label)
	require.Equal(t, "TIMEOUT", last[0].Errors[0]["extensions"].(map[string]any)["code"])
	require.Equal(t, []any{"viewer", "slow"}, last[0].Errors[0]["path"])
}

func TestDefer_FaultsAreMaskedAndCounted(t *testing.T) {
	t.Parallel()
	e := open(t, charting(&charts{}), func(cfg *server.Config) { cfg.Limits.Errors = 2 })
	parts := e.inParts(t, `query Late{users(first:3){nodes{email ...@defer{`+chart("fails")+`}}}}`, nil)
	var errs []map[string]any
	for _, i := range parts[1].Incremental {
		errs = append(errs, i.Errors...)
	}
	require.Len(t, errs, 2, "the cap on errors holds")
	reference, found := strings.CutPrefix(errs[0]["message"].(string), "internal error, reference ")
	require.True(t, found, errs)
	faults := e.log.with(t, "operation failed")
	require.Len(t, faults, 3)
	require.Equal(t, reference, faults[0]["reference"])
	require.Eventually(t, func() bool { return len(e.log.with(t, "request")) == 1 }, soon, time.Millisecond)
	require.Equal(t, "INTERNAL", e.log.with(t, "request")[0]["errors"])
	metrics := e.ask(t, http.MethodGet, "/metrics", "").body
	require.Contains(t, metrics, `netra_operation_duration_seconds_count{outcome="errors",type="query"} 1`)
}

func TestDefer_WhatWasToldIsNotToldAgain(t *testing.T) {
	t.Parallel()
	for name, query := range map[string]string{
		"a failure on the way":                `{user(id:"x"){...@defer(label:"a"){email}...@defer(label:"b"){` + chart("a") + `}}}`,
		"a panic on the way":                  `{nodes(ids:[]){...@defer{id}}}`,
		"a null that takes the list with it":  `{users(orderBy:{field:EMAIL}){nodes{...@defer{email}}}}`,
		"a null that takes what is around it": `{users(orderBy:{field:EMAIL}){nodes{email}...@defer{edges{cursor}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parts := open(t, charting(&charts{})).inParts(t, query, nil)
			require.NotEmpty(t, parts[0].Errors)
			require.Equal(t, []part{{}}, parts[1:], "the rest is nothing")
		})
	}
}

func TestDefer_ANullThatTakesTheObjectIsTold(t *testing.T) {
	t.Parallel()
	parts := open(t, charting(&charts{})).inParts(t, `{users(orderBy:{field:EMAIL}){edges{...@defer(label:"x"){node{email}}}}}`, nil)
	require.Empty(t, parts[0].Errors)
	require.Len(t, parts[1].Incremental, 1)
	i := parts[1].Incremental[0]
	require.Nil(t, i.Data)
	require.Equal(t, "x", i.Label)
	require.Equal(t, []any{"users", "edges", 1.}, i.Path)
	require.Equal(t, []any{"users", "edges", 1., "node"}, i.Errors[0]["path"])
}

func TestDefer_RefusedOperationsAreAnsweredInOnePiece(t *testing.T) {
	t.Parallel()
	e := open(t, charting(&charts{}))
	for query, code := range map[string]string{
		`{viewer{...@defer{nothing}}}`:        "GRAPHQL_VALIDATION_FAILED",
		`{viewer{...@defer`:                   "GRAPHQL_PARSE_FAILED",
		`{viewer{...F0@defer}}` + manifold(6): "TOO_COMPLEX",
		`query($l:Boolean){viewer{...@defer(if:$l,label:"a"){id ...A}}}fragment A on User{...@defer(label:"a"){id}}`: "GRAPHQL_VALIDATION_FAILED",
	} {
		x := e.ask(t, http.MethodPost, "/graphql", fmt.Sprintf(`{"query":%q}`, query), "Content-Type", jsonType, "Accept", apolloAccept,
			"Authorization", "Bearer "+tokenOf(t, ordinary))
		require.Equal(t, http.StatusBadRequest, x.status, x.body)
		require.Equal(t, []string{code}, x.codes(), query)
	}
}

// manifold writes few fragments that defer each other in many ways.
func manifold(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `fragment F%d on User{...F%d@defer ...on User{...F%d@defer}}`, i, i+1, i+1)
	}
	fmt.Fprintf(&b, `fragment F%d on User{id}`, n)
	return b.String()
}

func TestDefer_RulesOfTheSpecification(t *testing.T) {
	t.Parallel()
	for query, fine := range map[string]bool{
		`mutation{a{...@defer{b}}}`: true,
		`mutation{...@defer{a}}`:    false,
		`mutation{...F} fragment F on M{...on M{...G@defer}} fragment G on M{a}`: false,
		`mutation{a{...F}} fragment F on A{...@defer{b}}`:                        true,
		`subscription{a{...@defer{b}}}`:                                          false,
		`subscription($x:Boolean){a{...@defer(if:$x){b}}}`:                       true,
		`subscription{a{...@defer(if:false){b}}}`:                                true,
		`subscription{a{...@defer(if:true){b}}}`:                                 false,
		`subscription{a{...F}} fragment F on A{...@defer{b}}`:                    false,
		`{...@defer{a}}`: true,
		`{...@defer(label:null){a}...@defer(label:null){b}}`: true,
	} {
		document, err := parser.ParseQuery(&ast.Source{Input: query})
		require.NoError(t, err)
		require.Equal(t, fine, server.CheckDefers(document) == nil, query)
	}
}

func TestDefer_SwitchedByAVariable(t *testing.T) {
	t.Parallel()
	e := open(t, charting(&charts{}))
	const query = `query($late:Boolean){viewer{email ...@defer(if:$late){databaseId}}}`
	require.Len(t, e.inParts(t, query, map[string]any{"late": true}), 2)
	require.Len(t, e.inParts(t, query, nil), 2, "it is on unless it is switched off")
	x := e.ask(t, http.MethodPost, "/graphql", fmt.Sprintf(`{"query":%q,"variables":{"late":false}}`, query), "Content-Type", jsonType, "Accept", apolloAccept,
		"Authorization", "Bearer "+tokenOf(t, ordinary))
	require.JSONEq(t, `{"viewer":{"email":"alice@example.com","databaseId":1}}`, string(x.answer.Data))
}

func TestDefer_WhatCostsTooMuchInPartsComesAtOnce(t *testing.T) {
	t.Parallel()
	e := open(t, charting(&charts{}), func(cfg *server.Config) { cfg.Limits.Cost = 700 })
	query := func(parts int) string {
		return `{users(first:100){nodes{id ` + strings.Repeat(`...@defer{email}`, parts) + `}}}`
	}
	require.Len(t, e.inParts(t, query(1), nil), 2)
	x := e.ask(t, http.MethodPost, "/graphql", fmt.Sprintf(`{"query":%q}`, query(3)), "Content-Type", jsonType, "Accept", apolloAccept,
		"Authorization", "Bearer "+tokenOf(t, ordinary))
	require.Equal(t, newType+"; charset=utf-8", x.header.Get("Content-Type"))
	require.Contains(t, x.body, "carol@example.com")
}

func TestDefer_SocketsAreAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, charting(&charts{}))
	dialer := websocket.Dialer{Subprotocols: []string{subprot}}
	conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(s.url, "http")+"/graphql", nil)
	require.NoError(t, err)
	c := client{t, conn}
	c.send(fmt.Sprintf(`{"type":"connection_init","payload":{"authorization":"Bearer %s"}}`, tokenOf(t, ordinary)))
	c.expect(ack)
	c.send(subscribe("1", `{viewer{email ...@defer{`+chart("a")+`}}}`))
	c.expect(`{"id":"1","type":"next","payload":{"data":{"viewer":{"email":"alice@example.com","a":[{"metric":"a","count":"1"}]}}}}`)
	c.expect(`{"id":"1","type":"complete"}`)
}
