// Package plain answers fields without the executor where all that is selected below them is in memory already: columns of a row, the items of a
// page. The executor makes a context, a closure and often a goroutine for every value; this package writes the text of the whole field at once, byte for byte
// as the executor would. Whatever needs more than memory (a resolver, an argument, a directive) and whatever can fail is left to the executor.
package plain

import (
	"bytes"
	"context"
	"io"
	"sync"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// Append adds the text of a value that an object of type T has. False says that only the executor can tell what to answer, such as a null where the
// schema allows none.
type Append[T any] func(text []byte, object T) ([]byte, bool)

// Field says how a field is written with what is selected below it; nil where something there is not plain.
type Field[T any] func(operation *graphql.OperationContext, selections ast.SelectionSet) Append[T]

// Type is a type of the graph, whose objects are of type T.
type Type[T any] struct {
	Name       string
	Implements []string // its name and those of its interfaces
	// Field is nil for fields that are not plain.
	Field func(name string) Field[T]
}

// Leaf is a field without fields.
func Leaf[T any](write Append[T]) Field[T] {
	return func(*graphql.OperationContext, ast.SelectionSet) Append[T] { return write }
}

// Object is a field that has an object, or null.
func Object[T any, V comparable](of Type[V], nonNull bool, get func(T) V) Field[T] {
	return func(operation *graphql.OperationContext, selections ast.SelectionSet) Append[T] {
		write := of.compile(operation, selections)
		if write == nil {
			return nil
		}
		write = orNull(write, nonNull)
		return func(text []byte, object T) ([]byte, bool) { return write(text, get(object)) }
	}
}

// List is a field that has a list of objects. A list that is nil is null where the schema allows it.
func List[T any, V comparable](of Type[V], nonNull, itemNonNull bool, get func(T) []V) Field[T] {
	return func(operation *graphql.OperationContext, selections ast.SelectionSet) Append[T] {
		write := of.compile(operation, selections)
		if write == nil {
			return nil
		}
		write = orNull(write, itemNonNull)
		return func(text []byte, object T) ([]byte, bool) {
			items := get(object)
			if items == nil && !nonNull {
				return Null(text), true
			}
			return appendList(text, items, write)
		}
	}
}

// Null is the text of nothing.
func Null(text []byte) []byte { return append(text, "null"...) }

// Values adds a list of leaves.
func Values[V any](text []byte, values []V, write func([]byte, V) []byte) []byte {
	text, _ = appendList(text, values, func(text []byte, value V) ([]byte, bool) { return write(text, value), true })
	return text
}

func appendList[V any](text []byte, items []V, write Append[V]) ([]byte, bool) {
	text = append(text, '[')
	for i, item := range items {
		if i > 0 {
			text = append(text, ',')
		}
		var ok bool
		if text, ok = write(text, item); !ok {
			return nil, false
		}
	}
	return append(text, ']'), true
}

func orNull[V comparable](write Append[V], nonNull bool) Append[V] {
	var none V
	return func(text []byte, object V) ([]byte, bool) {
		if object == none {
			return Null(text), !nonNull
		}
		return write(text, object)
	}
}

// compile is nil unless every selected field is plain.
func (t Type[T]) compile(operation *graphql.OperationContext, selections ast.SelectionSet) Append[T] {
	type step struct {
		key   []byte // with the comma before it
		write Append[T]
	}
	var steps []step
	seen := map[string]bool{}
	for _, field := range graphql.CollectFields(operation, selections, t.Implements) {
		if field.IsDeferred() {
			return nil
		}
		if seen[field.Alias] {
			continue
		}
		seen[field.Alias] = true
		key := []byte(`,"` + field.Alias + `":`)
		if field.Name == "__typename" {
			key = append(key, `"`+t.Name+`"`...)
			steps = append(steps, step{key: key, write: func(text []byte, _ T) ([]byte, bool) { return text, true }})
			continue
		}
		known := t.Field(field.Name)
		if known == nil {
			return nil
		}
		write := known(operation, field.Selections)
		if write == nil {
			return nil
		}
		steps = append(steps, step{key, write})
	}
	if len(steps) > 0 {
		steps[0].key[0] = '{'
	}
	return func(text []byte, object T) ([]byte, bool) {
		if len(steps) == 0 {
			text = append(text, '{')
		}
		for i := range steps {
			text = append(text, steps[i].key...)
			var ok bool
			if text, ok = steps[i].write(text, object); !ok {
				return nil, false
			}
		}
		return append(text, '}'), true
	}
}

// Plan writes what a field resolved to.
type Plan interface {
	// write makes the text of an object or of a list of objects; nil where the executor has to.
	write(value any) text
}

// Compile is the plan for what is selected of a field's objects; nil where something is not plain.
func Compile[T comparable](of Type[T], operation *graphql.OperationContext, selections ast.SelectionSet) Plan {
	write := of.compile(operation, selections)
	if write == nil {
		return nil
	}
	return &plan[T]{one: orNull(write, true)}
}

type plan[T comparable] struct {
	one  Append[T]
	size atomic.Int64 // of the longest text yet, as which the next one is expected
}

func (p *plan[T]) write(value any) text {
	expected := int(p.size.Load())
	buffer := make([]byte, 0, max(expected, 128))
	var ok bool
	switch value := value.(type) {
	case T:
		buffer, ok = p.one(buffer, value)
	case []T:
		if value != nil {
			buffer, ok = appendList(buffer, value, p.one)
		}
	}
	if !ok {
		return nil
	}
	if len(buffer) > expected {
		p.size.Store(int64(len(buffer) + len(buffer)/8))
	}
	return buffer
}

// Fields is an extension of the executor that answers plain fields. Compile is the plan for a field whose objects are of the named type of the graph.
type Fields func(typeName string, operation *graphql.OperationContext, selections ast.SelectionSet) Plan

var _ interface {
	graphql.HandlerExtension
	graphql.ResponseInterceptor
	graphql.RootFieldInterceptor
	graphql.FieldInterceptor
} = Fields(nil)

func (Fields) ExtensionName() string                   { return "Plain" }
func (Fields) Validate(graphql.ExecutableSchema) error { return nil }

// Without leaves all fields of a response to the executor: where several responses share what a field resolved to, it has to stay an object.
func Without(ctx context.Context) context.Context {
	return context.WithValue(ctx, plansKey{}, (*plans)(nil))
}

// InterceptResponse keeps plans for as long as the response is made: siblings share them.
func (Fields) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	if _, without := ctx.Value(plansKey{}).(*plans); !without {
		ctx = context.WithValue(ctx, plansKey{}, &plans{})
	}
	return next(ctx)
}

// InterceptRootField lets the buffer of the answer grow once, by what is known to be coming: doubling it takes three times the memory.
func (Fields) InterceptRootField(ctx context.Context, next graphql.RootResolver) graphql.Marshaler {
	answer := next(ctx)
	known, _ := ctx.Value(plansKey{}).(*plans)
	if known == nil || answer == graphql.Null || answer == graphql.RequiredNull {
		return answer
	}
	return graphql.WriterFunc(func(w io.Writer) {
		if buffer, ok := w.(*bytes.Buffer); ok {
			coming := int(known.coming.Swap(0))
			buffer.Grow(coming + coming/8)
		}
		answer.MarshalGQL(w)
	})
}

// InterceptField answers with text in the place of objects.
func (compile Fields) InterceptField(ctx context.Context, next graphql.Resolver) (any, error) {
	value, err := next(ctx)
	if value == nil || err != nil {
		return value, err
	}
	field := graphql.GetFieldContext(ctx).Field
	if len(field.Selections) == 0 {
		return value, nil
	}
	known, _ := ctx.Value(plansKey{}).(*plans)
	if known == nil {
		return value, nil
	}
	if plan := known.plan(ctx, field, compile); plan != nil {
		if text := plan.write(value); text != nil {
			known.coming.Add(int64(len(text)))
			return text, nil
		}
	}
	return value, nil
}

func (known *plans) plan(ctx context.Context, field graphql.CollectedField, compile Fields) Plan {
	at := place{&field.Selections[0], len(field.Selections)}
	known.mu.Lock()
	defer known.mu.Unlock()
	plan, ok := known.of[at]
	if !ok {
		plan = compile(field.Definition.Type.Name(), graphql.GetOperationContext(ctx), field.Selections)
		if known.of == nil {
			known.of = map[place]Plan{}
		}
		known.of[at] = plan
	}
	return plan
}

type plansKey struct{}

// plans are those of one response. A nil one says that there is none.
type plans struct {
	mu     sync.Mutex
	of     map[place]Plan
	coming atomic.Int64 // bytes of text that are not in the buffer yet
}

// place is a selection set of the operation: siblings have the same one.
type place struct {
	first *ast.Selection
	count int
}

type text []byte

func (t text) MarshalGQL(w io.Writer) { _, _ = w.Write(t) } // a buffer
