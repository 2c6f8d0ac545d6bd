package plain

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/stretchr/testify/require"
	"github.com/vektah/gqlparser/v2/ast"
)

// An answer can have thousands of texts, which all wait for the last of them.
func TestText_ShortOnesHoldNoMoreThanTheyAreLong(t *testing.T) {
	t.Parallel()
	for _, length := range []int{1, 100, shortText, shortText + 1, pieceLength, 3 * pieceLength} {
		want := strings.Repeat("x", length)
		var a answer
		a.more()
		for i := range want {
			a.text = append(a.text, want[i])
			a.next()
		}
		text := a.end()
		require.Equal(t, length, text.size())
		held := 0
		for p := text.first; p != nil; p = p.next {
			held += cap(p.text)
		}
		require.LessOrEqual(t, held, 8*length+8)
		var written bytes.Buffer
		text.MarshalGQL(&written)
		require.Equal(t, want, written.String())
	}
	for range 20 {
		require.GreaterOrEqual(t, cap(pool.Get().(*piece).text), pieceLength+pieceRoom, "what was cut is not used again")
	}
}

// Directives around a repeated field give it other selections for each combination of variables.
func TestKept_PlansOfADocumentAreBounded(t *testing.T) {
	t.Parallel()
	r := &response{kept: new(Kept)}
	operation := &graphql.OperationContext{Doc: &ast.QueryDocument{}}
	made := 0
	compile := func(*graphql.OperationContext, string, ast.SelectionSet) Plan { made++; return nil }
	fields := make([]graphql.CollectedField, 3*mostKept)
	for i := range fields {
		fields[i] = graphql.CollectedField{
			Field:      &ast.Field{Definition: &ast.FieldDefinition{Type: ast.NamedType("User", nil)}},
			Selections: ast.SelectionSet{&ast.Field{Name: "id"}},
		}
	}
	for range 2 {
		for _, field := range fields {
			r.plan(operation, field, compile)
		}
	}
	require.Equal(t, len(fields), made, "an operation makes each of its plans once")
	require.Equal(t, mostKept, r.kept.count)
}

func TestOnce_IsAskedOnceOfADocumentThatIsKept(t *testing.T) {
	t.Parallel()
	field := func(directives ...*ast.Directive) ast.SelectionSet {
		return ast.SelectionSet{&ast.Field{Name: "id", Directives: directives}}
	}
	free, dependent := field(), field(&ast.Directive{Name: "skip"})
	found := map[string]int{}
	operate := func(there *Kept, selections ast.SelectionSet) {
		ctx := graphql.WithOperationContext(t.Context(), &graphql.OperationContext{Doc: &ast.QueryDocument{}})
		ctx = context.WithValue(ctx, responseKey{}, &response{kept: there})
		for _, typeName := range []string{"User", "Thread"} {
			for range 2 {
				text := Once(ctx, typeName, selections, func() string { found[typeName]++; return typeName })
				require.Equal(t, typeName, text)
				length := Once(ctx, typeName, selections, func() int { return len(typeName) })
				require.Len(t, typeName, length, "what follows can be of several types")
			}
		}
	}
	for name, want := range map[string]int{"kept": 1, "not kept": 3, "kept, with a directive": 3} {
		clear(found)
		there, selections := new(Kept), free
		switch name {
		case "not kept":
			there = nil
		case "kept, with a directive":
			selections = dependent
		}
		for range 3 {
			operate(there, selections)
		}
		require.Equal(t, map[string]int{"User": want, "Thread": want}, found, name)
	}
	require.Equal(t, 1, Once(t.Context(), "User", free, func() int { return 1 }), "outside of a response nothing is known")
}
