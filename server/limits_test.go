package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/99designs/gqlgen/graphql/introspection"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/server"
)

// referenceQuery is the screen that the platform is built around.
const referenceQuery = `query Reference {
  viewer { id email name threads(first: 20) {
    pageInfo { hasNextPage endCursor }
    edges { cursor node { id title status createdAt updatedAt
      messages(first: 20) { pageInfo { hasNextPage endCursor } edges { cursor node { id role content tokensUsed model createdAt } } }
      runs(first: 5) { edges { cursor node { id status agentType errorMessage startedAt completedAt createdAt version } } }
    } }
  } }
}`

// bomb doubles with each of n fragments, and has no end without memory.
func bomb(n int, inner string) string {
	var doc strings.Builder
	doc.WriteString("{viewer{...F0 ...F0}}")
	for i := range n {
		fmt.Fprintf(&doc, " fragment F%d on User{...F%d ...F%d}", i, i+1, i+1)
	}
	fmt.Fprintf(&doc, " fragment F%d on User{%s}", n, inner)
	return doc.String()
}

func nested(levels int) string {
	return strings.Repeat("{user", levels-1) + "{id" + strings.Repeat("}", levels)
}

// repeated writes a pattern n times, with the number for %d and the next number for %n.
func repeated(n int, pattern string) string {
	var text strings.Builder
	for i := range n {
		_, _ = strings.NewReplacer("%d", strconv.Itoa(i), "%n", strconv.Itoa(i+1)).WriteString(&text, pattern)
	}
	return text.String()
}

func TestLimits_OfTheDocument(t *testing.T) {
	t.Parallel()
	limits := server.Limits{
		Tokens: 60, Definitions: 3, Selections: 30, Repeats: 3, Aliases: 2, Directives: 2, Depth: 5, RootFields: 3, Objects: 6,
	}
	const deep = "{thread{user{threads{nodes{id}}}}}"
	for name, test := range map[string]struct{ allowed, refused, says string }{
		"tokens":      {"{viewer{" + repeated(10, "...{f%d} ") + "}}", "{node(id:" + strings.Repeat("[", 60) + "", "more than 60 tokens"},
		"definitions": {"{...A} fragment A on Query{...B} fragment B on Query{a}", "{...A} fragment A on Query{...B} fragment B on Query{...C} fragment C on Query{a}", "4 operations and fragments; at most 3"},
		"selections":  {"{viewer{" + repeated(29, "f%d ") + "}}", "{viewer{" + repeated(30, "f%d ") + "}}", "31 fields and fragment spreads; at most 30"},
		"aliases":     {"{a:viewer{b:id}}", "{a:viewer{b:id c:id}}", "3 aliases; at most 2"},
		"directives":  {"{viewer@a{id@b}}", "query@a{viewer@b{...@c{id}}}", "3 directives; at most 2"},
		"depth":       {nested(5), nested(6), "6 levels deep; at most 5"},
		"depth through fragments": {"{viewer{...A}} fragment A on User{a{b{c{d}}}}", "{viewer{...A}} fragment A on User{a{...B}} fragment B on User{b{c{d{e}}}}",
			"6 levels deep; at most 5"},
		"root fields":                   {"{a b c}", "{a b c d}", "4 fields at the root; at most 3"},
		"root fields through fragments": {"{...A c} fragment A on Query{a b}", "{...A ...A} fragment A on Query{a b}", "4 fields at the root"},
		"objects":                       {deep, "{...A ...A} fragment A on Query{a{b{c{d{e}}}}}", "8 fields that have fields"},
		"repeats":                       {"{viewer{...A id}} fragment A on User{id id}", "{viewer{id ...A} viewer{...A}} fragment A on User{id ...{id id}}", "the same field 4 times in one place; at most 3"},
		"any operation counts":          {"query A{a} query B{b}", "query A{a} query B{a b c d}", "4 fields at the root"},
		"cycles end":                    {"{...A} fragment A on Query{a{...A}}", "{...A a b c} fragment A on Query{a{...A}}", "4 fields at the root"},
		"unknown fragments are nothing": {"{...A}", "{...A a b c d}", "4 fields at the root"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, limits.Check(test.allowed))
			err := limits.Check(test.refused)
			require.ErrorContains(t, err, test.says)
			require.Equal(t, models.TooComplex, models.CodeOf(err))
		})
	}
}

func TestLimits_AreOfNoConcernToHonestQueries(t *testing.T) {
	t.Parallel()
	e := open(t, func(cfg *server.Config) { cfg.Resolvers = nothing{} })
	const hundred = `{viewer{threads(first:100){edges{cursor node{id databaseId title status createdAt updatedAt metadata
		messages(first:100){totalCount pageInfo{hasNextPage hasPreviousPage startCursor endCursor}
			edges{cursor node{id databaseId role content tokensUsed model createdAt metadata}}}}}}}}`
	for name, query := range map[string]string{
		"the reference query":  referenceQuery,
		"two levels of 100":    hundred,
		"GraphiQL's schema":    introspection.Query,
		"the schema two times": strings.Replace(introspection.Query, "__schema {", "a: __type(name: \"User\") { ...FullType } __schema {", 1),
	} {
		x := e.post(t, query)
		require.Equal(t, http.StatusOK, x.status, "%s: %s", name, x.body)
		require.Empty(t, x.answer.Errors, name)
	}
}

func TestLimits_RefuseWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	e := open(t, func(cfg *server.Config) { cfg.Resolvers = nothing{} })
	const thousand = `{users(first:100){nodes{threads(first:100){nodes{messages(first:100){nodes{id}}}}}}}`
	for name, query := range map[string]string{
		"three levels of 100":          thousand,
		"three levels of last 100":     strings.ReplaceAll(thousand, "first", "last"),
		"a bomb":                       bomb(26, "id"),
		"a bomb of lists":              bomb(26, "threads(first:1){nodes{id}}"),
		"10,000 times a field":         "{viewer{" + strings.Repeat("id ", 10_000) + "}}",
		"20,000 unknown fields":        "{" + repeated(20_000, "f%d ") + "}",
		"1,000 aliases":                "{viewer{" + repeated(1000, "f%d:id ") + "}}",
		"1,000 chained fragments":      "{viewer{...F0}}" + repeated(1000, " fragment F%d on User{id}"),
		"a very deep document":         nested(2000),
		"a very deep value":            "{node(id:" + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "){id}}",
		"a very long name":             "{" + strings.Repeat("x", 129) + "}",
		"twins in the schema's depths": "{__schema{types{...T0}}}" + repeated(30, " fragment T%d on __Type{ofType{...T%n} a:ofType{...T%n}}") + " fragment T30 on __Type{name}",
		"50 times the schema":          "{" + repeated(50, "s%d:__schema{types{name}} ") + "}",
		"many statements in one walk":  "{viewer{...A}}" + repeated(8, " fragment W%d on Thread{user{threads(first:1){nodes{id}} runs(first:1){nodes{id}}}}") + " fragment A on User{" + repeated(60, "t%d:threads(first:1){nodes{id messages(first:1){nodes{id}} runs(first:1){nodes{id}}}} ") + "}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := e.post(t, query)
			require.Equal(t, http.StatusBadRequest, x.status, x.body)
			require.Equal(t, []string{"TOO_COMPLEX"}, x.codes())
			require.Regexp(t, `\d`, x.answer.Errors[0].Message)
			require.Less(t, len(x.body), 500)
		})
	}
}

func TestLimits_ErrorsAreCounted(t *testing.T) {
	t.Parallel()
	x := open(t).post(t, "{viewer{"+repeated(50, "unknown%d ")+"}}")
	require.Len(t, x.answer.Errors, 20)
	require.Equal(t, "31 more errors were left out", x.answer.Errors[19].Message)
	require.Equal(t, "GRAPHQL_VALIDATION_FAILED", x.codes()[19])
}

func TestLimits_LongMessagesAreCut(t *testing.T) {
	t.Parallel()
	x := open(t).post(t, `{node(id:{a:"`+strings.Repeat("x", 50_000)+`"}){id}}`)
	require.Equal(t, http.StatusBadRequest, x.status)
	require.Less(t, len(x.body), 1000)
}

func TestLimits_AnOperationEndsInTime(t *testing.T) {
	t.Parallel()
	e := open(t, func(cfg *server.Config) { cfg.Limits.Timeout = 500 * time.Millisecond }, resolving(answers{
		viewer: func(ctx context.Context) (*models.User, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("ask: %w", ctx.Err())
		},
	}))
	x := e.post(t, "{viewer{id}}")
	require.Equal(t, http.StatusOK, x.status)
	require.Equal(t, []string{"TIMEOUT"}, x.codes())
	require.JSONEq(t, `{"viewer":null}`, string(x.answer.Data))
}

var schema = graph.NewExecutableSchema(graph.Config{}).Schema()

func costOf(t testing.TB, query string, variables map[string]any) int {
	t.Helper()
	doc, errs := gqlparser.LoadQueryWithRules(schema, query, rules.NewDefaultRules())
	require.Empty(t, errs, query)
	return server.CostOf(doc.Operations[0], doc.Fragments, variables)
}

func TestCost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		query     string
		variables map[string]any
		cost      int
	}{
		"every field is one":          {query: "{viewer{id email}}", cost: 3},
		"20 unless told":              {query: "{viewer{threads{nodes{id}}}}", cost: 3 + 20*2},
		"as many as first":            {query: "{viewer{threads(first:7){nodes{id}}}}", cost: 3 + 7*2},
		"as many as last":             {query: "{viewer{threads(last:7){nodes{id}}}}", cost: 3 + 7*2},
		"edges are as long as nodes":  {query: "{viewer{threads(first:7){edges{cursor node{id}} nodes{id}}}}", cost: 4 + 7*4 + 7*2},
		"a page's frame counts once":  {query: "{viewer{threads(first:7){totalCount pageInfo{endCursor}}}}", cost: 5},
		"levels multiply":             {query: "{viewer{threads(first:7){nodes{messages(first:3){nodes{id}}}}}}", cost: 3 + 7*(3+3*2)},
		"a variable's value":          {query: "query($n:Int){viewer{threads(first:$n){nodes{id}}}}", variables: map[string]any{"n": int64(7)}, cost: 3 + 7*2},
		"a variable as JSON has it":   {query: "query($n:Int){viewer{threads(first:$n){nodes{id}}}}", variables: map[string]any{"n": json.Number("7")}, cost: 3 + 7*2},
		"a variable without value":    {query: "query($n:Int){viewer{threads(first:$n){nodes{id}}}}", cost: 3 + 20*2},
		"null is no length":           {query: "{viewer{threads(first:null){nodes{id}}}}", cost: 3 + 20*2},
		"at most a page":              {query: "{viewer{threads(first:1000000){nodes{id}}}}", cost: 3 + 100*2},
		"at least one":                {query: "{viewer{threads(first:-5){nodes{id}}}}", cost: 3 + 1*2},
		"the larger of two":           {query: "{viewer{threads(first:5,last:9){nodes{id}}}}", cost: 3 + 9*2},
		"as many as ids":              {query: `{nodes(ids:["a","b","c"]){id}}`, cost: 1 + 3*2},
		"as many as a variable's ids": {query: `query($ids:[ID!]!){nodes(ids:$ids){id}}`, variables: map[string]any{"ids": []any{"a", "b"}}, cost: 1 + 2*2},
		"a single id is a list":       {query: `{nodes(ids:"a"){id}}`, cost: 1 + 1*2},
		"unknown lists are ten":       {query: `{viewer{metrics(range:{from:"x",to:"x"}){metric}}}`, cost: 2 + 10*2},
		"as many as names":            {query: `{viewer{metrics(range:{from:"x",to:"x"},names:["a","b"]){metric}}}`, cost: 2 + 2*2},
		"fragments count each time":   {query: "{viewer{...F ...F}} fragment F on User{id name}", cost: 1 + 4},
		"a fragment in a connection":  {query: "{viewer{threads(first:7){...F}}} fragment F on ThreadConnection{nodes{id}}", cost: 3 + 7*2},
		"skipped is free":             {query: "{viewer{id@skip(if:true) name@include(if:false) ...@skip(if:true){email}}}", cost: 1},
		"skipped by a variable":       {query: "query($x:Boolean!){viewer{id@skip(if:$x) name@include(if:$x)}}", variables: map[string]any{"x": true}, cost: 2},
		"alternatives add up":         {query: `{node(id:"x"){...on User{id name} ...on Run{id}}}`, cost: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.cost, costOf(t, test.query, test.variables))
		})
	}
}

// naive is the definition of cost, written down: every fragment is walked wherever it is spread, and lists are counted out.
func naive(fragments ast.FragmentDefinitionList, selections ast.SelectionSet, around int) int {
	sum := 0
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.InlineFragment:
			sum += naive(fragments, selection.SelectionSet, around)
		case *ast.FragmentSpread:
			sum += naive(fragments, fragments.ForName(selection.Name).SelectionSet, around)
		case *ast.Field:
			sum++
			given := map[string]*ast.Value{}
			for _, argument := range selection.Arguments {
				given[argument.Name] = argument.Value
			}
			switch {
			case selection.Definition.Arguments.ForName("first") != nil:
				length := 20
				for _, name := range []string{"first", "last"} {
					if given[name] != nil {
						length, _ = strconv.Atoi(given[name].Raw)
					}
				}
				sum += naive(fragments, selection.SelectionSet, length)
			case selection.Definition.Type.Elem != nil:
				items := around
				if ids := given["ids"]; ids != nil {
					items = len(ids.Children)
				}
				for range items {
					sum += 1 + naive(fragments, selection.SelectionSet, 10)
				}
			default:
				sum += naive(fragments, selection.SelectionSet, 10)
			}
		}
	}
	return sum
}

// drawing makes random documents: each selection set is written out, in an inline fragment, or in fragments of its own.
type drawing struct {
	*rand.Rand
	fragments []string
}

func (d *drawing) selections(typeName string, depth int) string {
	var fields []string
	for _, field := range schema.Types[typeName].Fields {
		if strings.HasPrefix(field.Name, "__") || field.Name == "totalCount" || needsMore(field) {
			continue
		}
		definition := schema.Types[field.Type.Name()]
		if definition.IsLeafType() {
			if d.IntN(5) == 0 {
				fields = append(fields, field.Name)
			}
			continue
		}
		if depth == 0 || d.IntN(3) > 0 {
			continue
		}
		fields = append(fields, fmt.Sprintf("%s%s{%s}", field.Name, d.arguments(field), d.selections(definition.Name, depth-1)))
	}
	text := strings.Join(append(fields, "__typename"), " ")
	switch d.IntN(6) {
	case 0:
		return fmt.Sprintf("...on %s{%s}", typeName, text)
	case 1:
		d.fragments = append(d.fragments, fmt.Sprintf("fragment F%d on %s{%s}", len(d.fragments), typeName, text))
		spread := fmt.Sprintf("...F%d ", len(d.fragments)-1)
		return strings.Repeat(spread, 1+d.IntN(3))
	default:
		return text
	}
}

// needsMore says that a field has required arguments beyond those that drawings know.
func needsMore(field *ast.FieldDefinition) bool {
	return slices.ContainsFunc(field.Arguments, func(a *ast.ArgumentDefinition) bool {
		return a.Type.NonNull && a.DefaultValue == nil && a.Name != "id" && a.Name != "ids"
	})
}

func (d *drawing) arguments(field *ast.FieldDefinition) string {
	switch {
	case field.Name == "nodes" && field.Arguments.ForName("ids") != nil:
		return "(ids:[" + strings.Repeat(`"x" `, d.IntN(5)) + "])"
	case field.Arguments.ForName("id") != nil:
		return `(id:"x")`
	case field.Arguments.ForName("first") != nil:
		switch d.IntN(3) {
		case 0:
			return fmt.Sprintf("(first:%d)", 1+d.IntN(100))
		case 1:
			return fmt.Sprintf("(last:%d)", 1+d.IntN(100))
		}
	}
	return ""
}

func TestCost_IsWhatCountingGives(t *testing.T) {
	t.Parallel()
	counted := 0
	for seed := range uint64(1_000) {
		d := &drawing{Rand: rand.New(rand.NewPCG(seed, seed))}
		query := "{" + d.selections("Query", 5) + "} " + strings.Join(d.fragments, " ")
		doc, errs := gqlparser.LoadQueryWithRules(schema, query, rules.NewDefaultRules())
		require.Empty(t, errs, query)
		cost := server.CostOf(doc.Operations[0], doc.Fragments, nil)
		if cost > 200_000 { // counting would take too long
			continue
		}
		counted++
		require.Equal(t, naive(doc.Fragments, doc.Operations[0].SelectionSet, 10), cost, query)
	}
	require.Greater(t, counted, 500)
}

func BenchmarkCost_OfABomb(b *testing.B) {
	doc, errs := gqlparser.LoadQueryWithRules(schema, bomb(26, "threads{nodes{id}}"), rules.NewDefaultRules())
	require.Empty(b, errs)
	for b.Loop() {
		server.CostOf(doc.Operations[0], doc.Fragments, nil)
	}
}

func TestCost_IsLinearInTheDocument(t *testing.T) {
	t.Parallel()
	doc, errs := gqlparser.LoadQueryWithRules(schema, bomb(60, "threads{nodes{id}}"), rules.NewDefaultRules())
	require.Empty(t, errs)
	// Written out, the document has 2^60 fields: whoever walks each of them does not come to an end.
	require.Greater(t, server.CostOf(doc.Operations[0], doc.Fragments, nil), 1<<26)
	require.ErrorContains(t, server.Limits{}.Check(bomb(60, "threads{nodes{id}}")), "at most 300")
}

func FuzzLimits(f *testing.F) {
	for _, seed := range []string{referenceQuery, bomb(5, "id"), introspection.Query, nested(10), "{...A} fragment A on Query{a{...A}}", "{a(b:[{c:$d}])@e}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		if server.Limits.Check(server.Limits{}, query) != nil {
			return
		}
		doc, errs := gqlparser.LoadQueryWithRules(schema, query, rules.NewDefaultRules())
		if len(errs) > 0 {
			return
		}
		require.GreaterOrEqual(t, server.CostOf(doc.Operations[0], doc.Fragments, nil), 0)
	})
}
