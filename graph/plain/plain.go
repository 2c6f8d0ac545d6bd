// Package plain answers fields without the executor where all that is selected below them is in memory already (columns of a row, the items of a page)
// or is loaded for siblings together (links, pages, counts). The executor makes a context, a closure and often a goroutine for every value; this package asks
// once for a field of all siblings, level by level, and writes the text of the whole field at once, byte for byte as the executor would. Whatever else
// there is, such as a directive or a list that a resolver makes, is left to the executor, and so is an answer in which something failed: it finds what has been loaded.
package plain

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// Append adds the text of a value that an object of type T has. False says that only the executor can tell what to answer, such as a null where the
// schema allows none.
type Append[T any] func(text []byte, object T) ([]byte, bool)

// Field says how a field is answered for objects of type T with what is selected below it; false where something there is not plain.
type Field[T any] func(at place, field graphql.CollectedField) (part[T], bool)

// Type is a type of the graph, whose objects are of type T.
type Type[T any] struct {
	Name       string
	Implements []string // its name and those of its interfaces
	// Field is nil for fields that are not plain.
	Field func(name string) Field[T]
}

// part is how a part of the answer is made for objects of type T.
type part[T any] struct {
	// load has all loaded that is needed below the objects of a level; nil where that is nothing. It returns when all of it is there.
	load func(a *answer, objects []T) bool
	// write adds the text for one object. It is called for the objects in the order in which they were given to load.
	write func(a *answer, object T) bool
}

// answer is a text in the making.
type answer struct {
	text   []byte // its end, which is what the last piece has
	pieces text   // all of it
	last   *piece
	loaded []any // for each field that was loaded, the values of the objects that it was loaded for: *values[V]
}

// next is called between the items of a list.
func (a *answer) next() {
	if len(a.text) >= pieceLength {
		a.more()
	}
}

// more begins another piece.
func (a *answer) more() {
	p := pieces.Get().(*piece)
	if a.last == nil {
		a.pieces.first = p
	} else {
		a.last.text, a.last.next = a.text, p
	}
	a.last, a.text = p, p.text[:0]
}

// end is the whole text.
func (a *answer) end() *text {
	a.last.text = a.text
	return &a.pieces
}

type values[V any] struct {
	of   []V
	next int
}

// place is where in an operation a plan is made.
type place struct {
	ctx      context.Context // of the field whose selections are meant, in any of its siblings
	together Together
	loads    *int // how many fields are loaded
}

// below is the place of what is selected of a field.
func (at place) below(typeName string, field graphql.CollectedField) place {
	at.ctx = graphql.WithFieldContext(at.ctx, &graphql.FieldContext{Object: typeName, Field: field})
	return at
}

// Leaf is a field without fields.
func Leaf[T any](write Append[T]) Field[T] {
	return func(place, graphql.CollectedField) (part[T], bool) {
		return part[T]{write: func(a *answer, object T) (ok bool) {
			a.text, ok = write(a.text, object)
			return ok
		}}, true
	}
}

// Object is a field that has an object, or null.
func Object[T any, V comparable](on string, of Type[V], nonNull bool, get func(T) V) Field[T] {
	return func(at place, field graphql.CollectedField) (part[T], bool) {
		below, ok := of.compile(at.below(on, field), field.Selections)
		if !ok {
			return part[T]{}, false
		}
		write := orNull(below.write, nonNull)
		whole := part[T]{write: func(a *answer, object T) bool { return write(a, get(object)) }}
		if below.load != nil {
			whole.load = func(a *answer, objects []T) bool {
				all := make([]V, len(objects))
				for i, object := range objects {
					all[i] = get(object)
				}
				return below.load(a, present(all))
			}
		}
		return whole, true
	}
}

// List is a field that has a list of objects. A list that is nil is null where the schema allows it.
func List[T any, V comparable](on string, of Type[V], nonNull, itemNonNull bool, get func(T) []V) Field[T] {
	return func(at place, field graphql.CollectedField) (part[T], bool) {
		below, ok := of.compile(at.below(on, field), field.Selections)
		if !ok {
			return part[T]{}, false
		}
		write := orNull(below.write, itemNonNull)
		whole := part[T]{write: func(a *answer, object T) bool {
			items := get(object)
			if items == nil && !nonNull {
				a.text = Null(a.text)
				return true
			}
			return writeList(a, items, write)
		}}
		if below.load != nil {
			whole.load = func(a *answer, objects []T) bool {
				if len(objects) == 1 {
					return below.load(a, present(get(objects[0])))
				}
				var all []V
				for _, object := range objects {
					all = append(all, get(object)...)
				}
				return below.load(a, present(all))
			}
		}
		return whole, true
	}
}

// Arguments reads a field's arguments, as gqlgen does; nil where it has none.
type Arguments func(ctx context.Context, raw map[string]any) (map[string]any, error)

// Resolve calls a field's resolver for one of the siblings.
type Resolve[T, V any] func(ctx context.Context, fc *graphql.FieldContext, object T) (V, error)

// Resolved is a field whose resolver gives an object, or null. It is called for all siblings before any of them has an answer.
func Resolved[T any, V comparable](on string, of Type[V], nonNull bool, arguments Arguments, resolve Resolve[T, V]) Field[T] {
	return func(at place, field graphql.CollectedField) (part[T], bool) {
		inside := at.below(on, field)
		if !inside.read(arguments) {
			return part[T]{}, false
		}
		below, ok := of.compile(inside, field.Selections)
		if !ok {
			return part[T]{}, false
		}
		load, next := loaded(inside, resolve)
		write := orNull(below.write, nonNull)
		return part[T]{
			load: func(a *answer, objects []T) bool {
				values, ok := load(a, objects)
				return ok && (below.load == nil || below.load(a, present(values)))
			},
			write: func(a *answer, _ T) bool { return write(a, next(a)) },
		}, true
	}
}

// ResolvedLeaf is a field without fields whose value a method gives that may have to load it.
func ResolvedLeaf[T, V any](on string, write func([]byte, V) []byte, resolve Resolve[T, V]) Field[T] {
	return func(at place, field graphql.CollectedField) (part[T], bool) {
		load, next := loaded(at.below(on, field), resolve)
		return part[T]{
			load: func(a *answer, objects []T) bool {
				_, ok := load(a, objects)
				return ok
			},
			write: func(a *answer, _ T) bool {
				a.text = write(a.text, next(a))
				return true
			},
		}, true
	}
}

// loaded is a field that has to be loaded: how that is done for objects, and how the value of the next of them is had.
func loaded[T, V any](at place, resolve Resolve[T, V]) (load func(*answer, []T) ([]V, bool), next func(*answer) V) {
	number, fc := *at.loads, graphql.GetFieldContext(at.ctx)
	*at.loads++
	load = func(a *answer, objects []T) ([]V, bool) {
		asking, add, load := at.together(at.ctx, len(objects))
		for _, object := range objects {
			value, err := resolve(asking, fc, object)
			add(value, err)
		}
		found, err := load()
		if err != nil {
			return nil, false
		}
		of := make([]V, len(found))
		for i, value := range found {
			var ok bool
			if of[i], ok = value.(V); !ok {
				return nil, false
			}
		}
		a.loaded[number] = &values[V]{of: of}
		return of, true
	}
	next = func(a *answer) V {
		values := a.loaded[number].(*values[V])
		values.next++
		return values.of[values.next-1]
	}
	return load, next
}

// read reads the arguments of the place's field. The executor tells what is wrong with them.
func (at place) read(arguments Arguments) bool {
	if arguments == nil {
		return true
	}
	fc := graphql.GetFieldContext(at.ctx)
	var err error
	fc.Args, err = arguments(at.ctx, fc.Field.ArgumentMap(graphql.GetOperationContext(at.ctx).Variables))
	return err == nil
}

// Null is the text of nothing.
func Null(text []byte) []byte { return append(text, "null"...) }

// Values adds a list of leaves.
func Values[V any](text []byte, values []V, write func([]byte, V) []byte) []byte {
	text = append(text, '[')
	for i, value := range values {
		if i > 0 {
			text = append(text, ',')
		}
		text = write(text, value)
	}
	return append(text, ']')
}

func writeList[V any](a *answer, items []V, write func(*answer, V) bool) bool {
	a.text = append(a.text, '[')
	for i, item := range items {
		if i > 0 {
			a.text = append(a.text, ',')
		}
		if !write(a, item) {
			return false
		}
		a.next()
	}
	a.text = append(a.text, ']')
	return true
}

func orNull[V comparable](write func(*answer, V) bool, nonNull bool) func(*answer, V) bool {
	var none V
	return func(a *answer, object V) bool {
		if object == none {
			a.text = Null(a.text)
			return !nonNull
		}
		return write(a, object)
	}
}

// present leaves out what is null.
func present[V comparable](objects []V) []V {
	var none V
	if !slices.Contains(objects, none) {
		return objects
	}
	return slices.DeleteFunc(slices.Clone(objects), func(object V) bool { return object == none })
}

// compile is how objects are written with what is selected of them; false unless every selected field is plain.
func (t Type[T]) compile(at place, selections ast.SelectionSet) (part[T], bool) {
	type step struct {
		key   []byte // with the comma before it
		write func(*answer, T) bool
	}
	var steps []step
	var loads []func(*answer, []T) bool
	seen := map[string]bool{}
	for _, field := range graphql.CollectFields(graphql.GetOperationContext(at.ctx), selections, t.Implements) {
		if field.IsDeferred() {
			return part[T]{}, false
		}
		if seen[field.Alias] {
			continue
		}
		seen[field.Alias] = true
		key := []byte(`,"` + field.Alias + `":`)
		if field.Name == "__typename" {
			key = append(key, `"`+t.Name+`"`...)
			steps = append(steps, step{key: key, write: func(*answer, T) bool { return true }})
			continue
		}
		known := t.Field(field.Name)
		if known == nil {
			return part[T]{}, false
		}
		of, ok := known(at, field)
		if !ok {
			return part[T]{}, false
		}
		steps = append(steps, step{key, of.write})
		if of.load != nil {
			loads = append(loads, of.load)
		}
	}
	if len(steps) > 0 {
		steps[0].key[0] = '{'
	}
	return part[T]{load: sideBySide(loads), write: func(a *answer, object T) bool {
		if len(steps) == 0 {
			a.text = append(a.text, '{')
		}
		for i := range steps {
			a.text = append(a.text, steps[i].key...)
			if !steps[i].write(a, object) {
				return false
			}
		}
		a.text = append(a.text, '}')
		return true
	}}, true
}

// sideBySide loads fields that do not depend on each other; nil where there are none.
func sideBySide[T any](loads []func(*answer, []T) bool) func(*answer, []T) bool {
	if len(loads) == 0 {
		return nil
	}
	return func(a *answer, objects []T) bool {
		if len(objects) == 0 {
			return true
		}
		var others sync.WaitGroup
		var failed atomic.Bool
		run := func(load func(*answer, []T) bool) {
			defer func() {
				if recover() != nil { // it will panic again under the executor, which reports it
					failed.Store(true)
				}
			}()
			if !load(a, objects) {
				failed.Store(true)
			}
		}
		for _, load := range loads[1:] {
			others.Go(func() { run(load) })
		}
		run(loads[0])
		others.Wait()
		return !failed.Load()
	}
}

// Together is how as many siblings are asked for a field: their resolvers are called with the context asking, add takes what each gave, and load waits for
// the values of all, in that order. It is package loaders'.
type Together func(ctx context.Context, siblings int) (asking context.Context, add func(value any, err error), load func() ([]any, error))

// Plan writes what a field resolved to.
type Plan interface {
	// write makes the text of an object or of a list of objects; nil where the executor has to.
	write(value any) *text
}

// Compile is the plan for what is selected of a field's objects; nil where something is not plain. The context is that of the field, in any of its siblings.
func Compile[T comparable](ctx context.Context, of Type[T], selections ast.SelectionSet, together Together) Plan {
	p := &plan[T]{}
	whole, ok := of.compile(place{ctx: ctx, together: together, loads: &p.loads}, selections)
	if !ok {
		return nil
	}
	p.load, p.one = whole.load, orNull(whole.write, true)
	return p
}

type plan[T comparable] struct {
	load  func(*answer, []T) bool // nil where all is in memory
	one   func(*answer, T) bool
	loads int
}

func (p *plan[T]) write(value any) *text {
	var objects []T
	one, isOne := value.(T)
	if isOne {
		objects = []T{one}
	} else if objects, _ = value.([]T); objects == nil {
		return nil
	}
	a := &answer{}
	if p.load != nil {
		a.loaded = make([]any, p.loads)
		if !p.load(a, present(objects)) {
			return nil
		}
	}
	a.more()
	if isOne && !p.one(a, one) || !isOne && !writeList(a, objects, p.one) {
		return nil
	}
	return a.end()
}

// Fields is an extension of the executor that answers plain fields. It gives the plan for the field of a context, whose objects are of the named type
// of the graph; nil where there is none.
type Fields func(ctx context.Context, typeName string, selections ast.SelectionSet) Plan

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

// InterceptRootField makes room in the buffer of the answer once, for what is known to be coming: doubling it takes three times the memory.
func (Fields) InterceptRootField(ctx context.Context, next graphql.RootResolver) graphql.Marshaler {
	answer := next(ctx)
	known, _ := ctx.Value(plansKey{}).(*plans)
	if known == nil || answer == graphql.Null || answer == graphql.RequiredNull {
		return answer
	}
	return graphql.WriterFunc(func(w io.Writer) {
		if buffer, ok := w.(*bytes.Buffer); ok {
			coming := int(known.coming.Swap(0))
			grow(buffer, coming+coming/8)
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
			known.coming.Add(int64(text.size()))
			return text, nil
		}
	}
	return value, nil
}

func (known *plans) plan(ctx context.Context, field graphql.CollectedField, compile Fields) Plan {
	at := selection{&field.Selections[0], len(field.Selections)}
	known.mu.Lock()
	defer known.mu.Unlock()
	plan, ok := known.of[at]
	if !ok {
		plan = compile(ctx, field.Definition.Type.Name(), field.Selections)
		if known.of == nil {
			known.of = map[selection]Plan{}
		}
		known.of[at] = plan
	}
	return plan
}

type plansKey struct{}

// plans are those of one response. A nil one says that there is none.
type plans struct {
	mu     sync.Mutex
	of     map[selection]Plan
	coming atomic.Int64 // bytes of text that are not in the buffer yet
}

// selection is a selection set of the operation: siblings have the same one.
type selection struct {
	first *ast.Selection
	count int
}
