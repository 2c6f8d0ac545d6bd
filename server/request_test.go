package server_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/netra-ai/netra/server"
)

func TestServer_Requests(t *testing.T) {
	t.Parallel()
	e := open(t, func(cfg *server.Config) { cfg.Limits.Body = 1000 })
	get := func(pairs ...string) string {
		values := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			values.Add(pairs[i], pairs[i+1])
		}
		return "/graphql?" + values.Encode()
	}
	const ok = `{"query":"{__typename}"}`
	for name, test := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code               string
	}{
		"a query":                                {body: ok, status: 200},
		"null parameters":                        {body: `{"query":"{__typename}","variables":null,"operationName":null,"extensions":null}`, status: 200},
		"unknown extensions":                     {body: `{"query":"{__typename}","extensions":{"persistedQuery":{"version":1}}}`, status: 200},
		"unknown parameters":                     {body: `{"query":"{__typename}","id":"x"}`, status: 200},
		"UTF-8 by name":                          {body: ok, headers: []string{"Content-Type", "application/json; charset=UTF-8"}, status: 200},
		"a query by GET":                         {method: "GET", path: get("query", "{__typename}"), status: 200},
		"variables by GET":                       {method: "GET", path: get("query", "query($n:String!){__type(name:$n){name}}", "variables", `{"n":"User"}`), status: 200},
		"empty parameters by GET":                {method: "GET", path: get("query", "{__typename}", "variables", "", "operationName", ""), status: 200},
		"an operation by name":                   {body: `{"query":"query A{__typename} query B{a:__typename}","operationName":"B"}`, status: 200},
		"no body":                                {status: 400, code: "BAD_USER_INPUT"},
		"not JSON":                               {body: `{"query":"{secret}"`, status: 400, code: "BAD_USER_INPUT"},
		"something after the JSON":               {body: ok + `{}`, status: 400, code: "BAD_USER_INPUT"},
		"a key twice":                            {body: `{"query":"{__typename}","query":"{__typename}"}`, status: 400, code: "BAD_USER_INPUT"},
		"a key twice within variables":           {body: `{"query":"{__typename}","variables":{"a":{"b":1,"b":1}}}`, status: 400, code: "BAD_USER_INPUT"},
		"a batch":                                {body: `[` + ok + `]`, status: 400, code: "BAD_USER_INPUT"},
		"text":                                   {body: `"{__typename}"`, status: 400, code: "BAD_USER_INPUT"},
		"invalid UTF-8":                          {body: "{\"query\":\"{__typename}\",\"x\":\"\xff\"}", status: 400, code: "BAD_USER_INPUT"},
		"half a surrogate pair":                  {body: `{"query":"{__typename}","variables":{"a":"\ud83d"}}`, status: 400, code: "BAD_USER_INPUT"},
		"endless nesting":                        {body: `{"query":"{__typename}","variables":{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`, status: 400, code: "BAD_USER_INPUT"},
		"no query":                               {body: `{}`, status: 400, code: "BAD_USER_INPUT"},
		"no query by GET":                        {method: "GET", path: "/graphql", status: 400, code: "BAD_USER_INPUT"},
		"a query that is a number":               {body: `{"query":1}`, status: 400, code: "BAD_USER_INPUT"},
		"variables that are a list":              {body: `{"query":"{__typename}","variables":[]}`, status: 400, code: "BAD_USER_INPUT"},
		"variables that are text":                {body: `{"query":"{__typename}","variables":"{}"}`, status: 400, code: "BAD_USER_INPUT"},
		"extensions that are a number":           {body: `{"query":"{__typename}","extensions":1}`, status: 400, code: "BAD_USER_INPUT"},
		"an operation's name that is an object":  {body: `{"query":"{__typename}","operationName":{}}`, status: 400, code: "BAD_USER_INPUT"},
		"variables by GET that are not JSON":     {method: "GET", path: get("query", "{__typename}", "variables", "{"), status: 400, code: "BAD_USER_INPUT"},
		"variables by GET that are a list":       {method: "GET", path: get("query", "{__typename}", "variables", "[]"), status: 400, code: "BAD_USER_INPUT"},
		"a parameter twice by GET":               {method: "GET", path: get("query", "{__typename}", "query", "{__typename}"), status: 400, code: "BAD_USER_INPUT"},
		"a URL that is not UTF-8":                {method: "GET", path: "/graphql?query=%ff", status: 400, code: "BAD_USER_INPUT"},
		"a malformed URL":                        {method: "GET", path: "/graphql?query=%zz", status: 400, code: "BAD_USER_INPUT"},
		"no content type":                        {body: ok, headers: []string{"Content-Type", ""}, status: 415, code: "BAD_USER_INPUT"},
		"a form":                                 {body: "query={__typename}", headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, code: "BAD_USER_INPUT"},
		"a multipart form":                       {body: ok, headers: []string{"Content-Type", "multipart/form-data; boundary=x"}, status: 415, code: "BAD_USER_INPUT"},
		"plain text":                             {body: ok, headers: []string{"Content-Type", "text/plain"}, status: 415, code: "BAD_USER_INPUT"},
		"another encoding":                       {body: ok, headers: []string{"Content-Type", "application/json; charset=utf-16"}, status: 415, code: "BAD_USER_INPUT"},
		"a compressed body":                      {body: ok, headers: []string{"Content-Type", jsonType, "Content-Encoding", "gzip"}, status: 415, code: "BAD_USER_INPUT"},
		"an answer in HTML":                      {body: ok, headers: []string{"Content-Type", jsonType, "Accept", "text/html"}, status: 406, code: "BAD_USER_INPUT"},
		"the largest body":                       {body: ok + strings.Repeat(" ", 1000-len(ok)), status: 200},
		"a body over the limit":                  {body: ok + strings.Repeat(" ", 1001-len(ok)), status: 413, code: "TOO_COMPLEX"},
		"PUT":                                    {method: "PUT", body: ok, status: 405, code: "BAD_USER_INPUT"},
		"a mutation by GET":                      {method: "GET", path: get("query", "mutation{__typename}"), status: 405, code: "BAD_USER_INPUT"},
		"a subscription by POST":                 {body: `{"query":"subscription{runStatusChanged{version}}"}`, status: 400, code: "BAD_USER_INPUT"},
		"a subscription by GET":                  {method: "GET", path: get("query", "subscription{runStatusChanged{version}}"), status: 400, code: "BAD_USER_INPUT"},
		"a document that does not parse":         {body: `{"query":"{"}`, status: 400, code: "GRAPHQL_PARSE_FAILED"},
		"an empty document":                      {body: `{"query":""}`, status: 400, code: "GRAPHQL_VALIDATION_FAILED"},
		"a document without operation":           {body: `{"query":"fragment F on User{id}"}`, status: 400, code: "GRAPHQL_VALIDATION_FAILED"},
		"a field that there is not":              {body: `{"query":"{nothing}"}`, status: 400, code: "GRAPHQL_VALIDATION_FAILED"},
		"@defer":                                 {body: `{"query":"{...@defer{__typename}}"}`, status: 200},
		"@defer with a label twice":              {body: `{"query":"{viewer{...@defer(label:\"a\"){id}...@defer(label:\"a\",if:false){email}}}"}`, status: 400, code: "GRAPHQL_VALIDATION_FAILED"},
		"@defer with a variable for a label":     {body: `{"query":"query($l:String){viewer{...@defer(label:$l){id}}}"}`, status: 400, code: "GRAPHQL_VALIDATION_FAILED"},
		"@defer twice in one place":              {body: `{"query":"{...@defer@defer{__typename}}"}`, status: 400, code: "GRAPHQL_VALIDATION_FAILED"},
		"@defer on a field":                      {body: `{"query":"{__typename@defer}"}`, status: 400, code: "GRAPHQL_VALIDATION_FAILED"},
		"@defer beyond the limit":                {body: `{"query":"{__typename` + strings.Repeat("...@defer{__typename}", 21) + `}"}`, status: 400, code: "TOO_COMPLEX"},
		"NUL in the document":                    {body: `{"query":"{__typename \u0000}"}`, status: 400, code: "GRAPHQL_PARSE_FAILED"},
		"a missing variable":                     {body: `{"query":"query($id:ID!){node(id:$id){id}}"}`, status: 400, code: "BAD_USER_INPUT"},
		"a variable of another type":             {body: `{"query":"query($id:ID!){node(id:$id){id}}","variables":{"id":{}}}`, status: 400, code: "BAD_USER_INPUT"},
		"an unknown field in a variable":         {body: `{"query":"query($f:RunFilter){viewer{runs(filter:$f){totalCount}}}","variables":{"f":{"x":1}}}`, status: 400, code: "BAD_USER_INPUT"},
		"an enum's value that there is not":      {body: `{"query":"query($f:RunFilter){viewer{runs(filter:$f){totalCount}}}","variables":{"f":{"status":["LOST"]}}}`, status: 400, code: "BAD_USER_INPUT"},
		"several operations and no name":         {body: `{"query":"query A{__typename} query B{__typename}"}`, status: 400, code: "BAD_USER_INPUT"},
		"a name that no operation has":           {body: `{"query":"query A{__typename}","operationName":"Z"}`, status: 400, code: "BAD_USER_INPUT"},
		"a token of another scheme":              {body: ok, headers: []string{"Content-Type", jsonType, "Authorization", "Basic eDp5"}, status: 401, code: "UNAUTHENTICATED"},
		"a path that there is not":               {path: "/graphql/x", body: ok, status: 404},
		"a token while the database is away":     {body: ok, headers: []string{"Content-Type", jsonType, "Authorization", "Bearer " + tokenOf(t, homeless)}, status: 503, code: "DATABASE_UNAVAILABLE"},
		"a token of somebody inactive or absent": {body: ok, headers: []string{"Content-Type", jsonType, "Authorization", "Bearer " + tokenOf(t, inactive)}, status: 401, code: "UNAUTHENTICATED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.method == "" {
				test.method = http.MethodPost
			}
			if test.path == "" {
				test.path = "/graphql"
			}
			headers := test.headers
			if headers == nil {
				headers = []string{"Content-Type", jsonType}
			}
			if http.Header.Get(headerOf(headers), "Accept") == "" {
				headers = append(headers, "Accept", newType)
			}
			x := e.ask(t, test.method, test.path, test.body, headers...)
			require.Equal(t, test.status, x.status, x.body)
			require.NotContains(t, x.body, "secret", "a request's text is not repeated")
			if test.status == http.StatusNotFound {
				return
			}
			if test.code == "" {
				require.Empty(t, x.answer.Errors, x.body)
				return
			}
			require.NotEmpty(t, x.answer.Errors, x.body)
			require.Equal(t, test.code, x.codes()[0], x.body)
			require.NotContains(t, x.body, `"data"`)
			require.Contains(t, x.header.Get("Content-Type"), "; charset=utf-8")
			switch test.status {
			case http.StatusMethodNotAllowed:
				require.Contains(t, x.header.Get("Allow"), "POST")
			case http.StatusUnauthorized:
				require.Contains(t, x.header.Get("WWW-Authenticate"), "Bearer ")
			}
		})
	}
}

func headerOf(pairs []string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

func TestServer_RefusedOperationsAreOKUnderTheOlderMediaType(t *testing.T) {
	t.Parallel()
	e := open(t)
	for _, query := range []string{"{", "{nothing}", "query($id:ID!){node(id:$id){id}}", "{" + strings.Repeat("a:", 1) + "viewer{" + strings.Repeat("id ", 2000) + "}}"} {
		body, err := json.Marshal(map[string]string{"query": query})
		require.NoError(t, err)
		x := e.ask(t, http.MethodPost, "/graphql", string(body), "Content-Type", jsonType, "Accept", jsonType)
		require.Equal(t, http.StatusOK, x.status, x.body)
		require.NotEmpty(t, x.answer.Errors)
		require.NotContains(t, x.body, `"data"`)
	}
}

func TestServer_PeopleAreSentToThePlayground(t *testing.T) {
	t.Parallel()
	x := open(t).ask(t, http.MethodGet, "/graphql", "", "Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
	require.Equal(t, http.StatusSeeOther, x.status)
	require.Equal(t, "/", x.header.Get("Location"))
}

func TestServer_NumbersStayExact(t *testing.T) {
	t.Parallel()
	value, err := server.DecodeJSON([]byte(`{"n":12345678901234567890,"x":0.1e1}`))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"n": json.Number("12345678901234567890"), "x": json.Number("0.1e1")}, value)
}

func TestMediaType(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"":                                      jsonType,
		"*/*":                                   jsonType,
		"application/*":                         jsonType,
		jsonType:                                jsonType,
		newType:                                 newType,
		newType + "; charset=utf-8":             newType,
		newType + ", " + jsonType:               newType,
		jsonType + ", " + newType:               jsonType,
		newType + ";q=0.5, " + jsonType:         jsonType,
		newType + ", */*;q=0.1":                 newType,
		newType + ", */*":                       newType,
		jsonType + ";q=0, */*":                  newType,
		"text/html, */*;q=0.8":                  jsonType,
		"text/html":                             "",
		jsonType + ";q=0":                       "",
		jsonType + ";charset=utf-16":            "",
		jsonType + ";q=x":                       "",
		"multipart/mixed, " + newType + ";q=.2": newType,
		"multipart/mixed":                       jsonType,
		",,":                                    "",
	} {
		require.Equal(t, want, server.MediaType(accept), accept)
	}
}

func FuzzPOST(f *testing.F) {
	for _, seed := range []string{
		`{"query":"{__typename}"}`, `{"query":"{viewer{id}}","variables":{}}`, `[{"query":"{a}"}]`, `{"query":"query($a:[ID!]!){nodes(ids:$a){id}}","variables":{"a":["x",1,null]}}`,
		`{"query":"query($f:RunFilter,$o:RunOrder!){viewer{runs(filter:$f,orderBy:$o){totalCount}}}","variables":{"f":{"createdAt":{"from":1}},"o":{"field":"X"}}}`,
		`{"query":"fragment F on User{...F} {viewer{...F}}"}`, `{"query":"{a:viewer b:viewer @skip(if:$x)}"}`, "{\"query\":\"\\ud800\"}", `{"query":{},"query":1}`,
		`{"query":"query($a:Int=1.5,$b:[[Int]]=[[1]]){__typename @include(if:$a)}","variables":{"b":[[1e400]]}}`, `{"query":"{__schema{types{fields{type{fields{name}}}}}}"}`, `{"query":"{...F@defer ...@defer(label:\"a\",if:true){viewer{id}}}fragment F on Query{viewer{...@defer{email}}}"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Add([]byte(`{"query":"query($f:UserFilter,$o:UserOrder!,$n:Int,$i:ID!,$l:[ID!]!){users(filter:$f,orderBy:$o,first:$n){totalCount} node(id:$i){id} nodes(ids:$l){id}}",` +
		`"variables":{"f":{"email":["a"],"createdAt":{"from":"2026-01-01T00:00:00Z"},"metadata":{"a":[1,{}]}},"o":{"field":"EMAIL","direction":"ASC"},"n":1.0,"i":1,"l":"x"}}`))
	s, err := server.New(server.Config{Resolvers: nothing{}, Authenticate: knownUsers, Secret: secret})
	require.NoError(f, err)
	handler, token := s.Handler(), tokenOf(f, ordinary)
	f.Fuzz(func(t *testing.T, body []byte) {
		x := handle(t, handler, body, token)
		require.Less(t, x.status, 500, "%s: %s", body, x.body)
		for _, code := range x.codes() {
			require.NotContains(t, []string{"", "INTERNAL"}, code, "%s: %s", body, x.body)
		}
	})
}

// Every argument that a root field has, each from a variable.
const everyArgument = `query($f:UserFilter,$o:UserOrder!={field:CREATED_AT},$n:Int,$c:String,$i:ID!,$l:[ID!]!){` +
	`users(filter:$f,orderBy:$o,first:$n,after:$c){totalCount} node(id:$i){id} nodes(ids:$l){id}}`

func FuzzVariables(f *testing.F) {
	for _, seed := range []string{
		`{"i":"x","l":[]}`, `{"i":1,"l":"x","f":{"email":["a"],"createdAt":{"from":"2026-01-01T00:00:00Z"},"metadata":{"a":[1,{}]}},"o":{"field":"EMAIL","direction":"ASC"},"n":1.0}`,
		`{"i":1e3,"l":[1,"a"],"n":1e400,"c":7}`, `{"i":null,"l":[null]}`, `{"i":"","l":{},"f":[{"isActive":1}]}`, `{"i":"\u0000","l":[[]],"o":{"field":1}}`,
		`{"i":true,"l":[true],"o":null}`, `{"i":"x","l":[],"o":{"field":"email"}}`, `{"i":"x","l":[],"f":{"metadata":{"\u0000":"\u0000"},"createdAt":{"from":"0000-00-00"}}}`,
		`{"i":"x","l":[],"n":"12","o":{"field":"EMAIL","direction":null},"f":{"email":"a","createdAt":[]}}`, `{"i":"x","l":[],"f":{"email":[1],"createdAt":null}}`,
	} {
		f.Add([]byte(seed))
	}
	s, err := server.New(server.Config{Resolvers: nothing{}, Authenticate: knownUsers, Secret: secret})
	require.NoError(f, err)
	handler, token := s.Handler(), tokenOf(f, ordinary)
	f.Fuzz(func(t *testing.T, variables []byte) {
		body := `{"query":"` + everyArgument + `","variables":` + string(variables) + `}`
		x := handle(t, handler, []byte(body), token)
		require.Less(t, x.status, 500, "%s: %s", body, x.body)
		for _, code := range x.codes() {
			require.NotContains(t, []string{"", "INTERNAL"}, code, "%s: %s", body, x.body)
		}
	})
}
