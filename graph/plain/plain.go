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
	"strings"
	"sync"
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// Append adds the text of a value that an object of type T has. False says that only the executor can tell what to answer, such as a null where the
// schema allows none.
type Append[T any] func(text []byte, object T) ([]byte, bool)

// Field says how a field is answered for objects of type T with what is selected below it; false where something there is not plain.
type Field[T any] func(at *place, field graphql.CollectedField) (part[T], bool)

// Type is a type of the graph, whose objects are of type T.
type Type[T any] struct {
	Name       string
	Implements []string // its name and those of its interfaces
	// Field is nil for fields that are not plain.
	Field func(name string) Field[T]
}

// part is how a part of the answer is made for objects of type T.
type part[T any] struct {
	// load has all loaded that is needed below the objects of a level; nil where that is nothing. It returns when all of it is there. The context is of the
	// field that has the objects.
	load func(ctx context.Context, a *answer, objects []T) bool
	// byKey says that load looks at nothing of an object but its key.
	byKey bool
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
	p := pool.Get().(*piece)
	if a.last == nil {
		a.pieces.first = p
	} else {
		a.last.text, a.last.next = a.text, p
	}
	a.last, a.text = p, p.text[:0]
}

// end is the whole text. A short one is cut to its length: an answer can have many, and each waits for the last of them.
func (a *answer) end() *text {
	a.last.text = a.text
	if a.last == a.pieces.first && len(a.text) <= shortText {
		a.pieces.first = &piece{text: bytes.Clone(a.text)}
		a.last.release()
	}
	return &text{a.pieces.first} // which does not hold the answer
}

type values[V any] struct {
	of   []V
	next int
}

// place is where a plan is made.
type place struct {
	operation *graphql.OperationContext
	loading   Loading
	loads     int // how many fields are loaded
}

// below is the context of a field of the objects that ctx's field has.
func below(ctx context.Context, typeName string, field graphql.CollectedField) (context.Context, *graphql.FieldContext) {
	fc := &graphql.FieldContext{Object: typeName, Field: field}
	return graphql.WithFieldContext(ctx, fc), fc
}

// Leaf is a field without fields.
func Leaf[T any](write Append[T]) Field[T] {
	return func(*place, graphql.CollectedField) (part[T], bool) {
		return part[T]{write: func(a *answer, object T) (ok bool) {
			a.text, ok = write(a.text, object)
			return ok
		}}, true
	}
}

// Object is a field that has an object, or null.
func Object[T any, V comparable](on string, of Type[V], nonNull bool, get func(T) V) Field[T] {
	return func(at *place, field graphql.CollectedField) (part[T], bool) {
		inner, ok := of.compile(at, field.Selections)
		if !ok {
			return part[T]{}, false
		}
		write := orNull(inner.write, nonNull)
		whole := part[T]{write: func(a *answer, object T) bool { return write(a, get(object)) }}
		if inner.load != nil {
			whole.load = func(ctx context.Context, a *answer, objects []T) bool {
				all := make([]V, len(objects))
				for i, object := range objects {
					all[i] = get(object)
				}
				ctx, _ = below(ctx, on, field)
				return inner.load(ctx, a, present(all))
			}
		}
		return whole, true
	}
}

// List is a field that has a list of objects. A list that is nil is null where the schema allows it.
func List[T any, V comparable](on string, of Type[V], nonNull, itemNonNull bool, get func(T) []V) Field[T] {
	return func(at *place, field graphql.CollectedField) (part[T], bool) {
		inner, ok := of.compile(at, field.Selections)
		if !ok {
			return part[T]{}, false
		}
		write := orNull(inner.write, itemNonNull)
		whole := part[T]{write: func(a *answer, object T) bool {
			items := get(object)
			if items == nil && !nonNull {
				a.text = Null(a.text)
				return true
			}
			return writeList(a, items, write)
		}}
		if inner.load != nil {
			whole.load = func(ctx context.Context, a *answer, objects []T) bool {
				ctx, _ = below(ctx, on, field)
				if len(objects) == 1 {
					return inner.load(ctx, a, present(get(objects[0])))
				}
				var all []V
				for _, object := range objects {
					all = append(all, get(object)...)
				}
				return inner.load(ctx, a, present(all))
			}
		}
		return whole, true
	}
}

// Arguments reads a field's arguments, as gqlgen does; nil where it has none.
type Arguments func(ctx context.Context, raw map[string]any) (map[string]any, error)

// Resolve calls a field's resolver for one of the siblings.
type Resolve[T, V any] func(ctx context.Context, fc *graphql.FieldContext, object T) (V, error)

// Resolved is a field whose resolver gives an object, or null. It is called for all siblings before any of them has an answer. A connection's looks at nothing of an
// object but its key.
func Resolved[T any, V comparable](on string, of Type[V], nonNull bool, arguments Arguments, resolve Resolve[T, V]) Field[T] {
	return func(at *place, field graphql.CollectedField) (part[T], bool) {
		inner, ok := of.compile(at, field.Selections)
		if !ok {
			return part[T]{}, false
		}
		load, next := loaded(at, resolve)
		write := orNull(inner.write, nonNull)
		return part[T]{
			load: func(ctx context.Context, a *answer, objects []T) bool {
				ctx, fc := below(ctx, on, field)
				if !read(ctx, fc, arguments) {
					return false
				}
				values, ok := load(ctx, fc, a, objects)
				return ok && (inner.load == nil || inner.load(ctx, a, present(values)))
			},
			byKey: strings.HasSuffix(of.Name, "Connection"),
			write: func(a *answer, _ T) bool { return write(a, next(a)) },
		}, true
	}
}

// ResolvedLeaf is a field without fields whose value a method gives that may have to load it.
func ResolvedLeaf[T, V any](on string, write func([]byte, V) []byte, resolve Resolve[T, V]) Field[T] {
	return func(at *place, field graphql.CollectedField) (part[T], bool) {
		load, next := loaded(at, resolve)
		return part[T]{
			load: func(ctx context.Context, a *answer, objects []T) bool {
				ctx, fc := below(ctx, on, field)
				_, ok := load(ctx, fc, a, objects)
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
func loaded[T, V any](at *place, resolve Resolve[T, V]) (load func(context.Context, *graphql.FieldContext, *answer, []T) ([]V, bool), next func(*answer) V) {
	number, together := at.loads, at.loading.Together
	at.loads++
	load = func(ctx context.Context, fc *graphql.FieldContext, a *answer, objects []T) ([]V, bool) {
		asking, add, load := together(ctx, len(objects))
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

// read reads a field's arguments. The executor tells what is wrong with them.
func read(ctx context.Context, fc *graphql.FieldContext, arguments Arguments) bool {
	if arguments == nil {
		return true
	}
	var err error
	fc.Args, err = arguments(ctx, fc.Field.ArgumentMap(graphql.GetOperationContext(ctx).Variables))
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
func (t Type[T]) compile(at *place, selections ast.SelectionSet) (part[T], bool) {
	type step struct {
		key   []byte // with the comma before it
		write func(*answer, T) bool
	}
	var steps []step
	var loads []part[T]
	seen := map[string]bool{}
	for _, field := range graphql.CollectFields(at.operation, selections, t.Implements) {
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
			loads = append(loads, of)
		}
	}
	if len(steps) > 0 {
		steps[0].key[0] = '{'
	}
	load, byKey := sideBySide(at.loading.Beside, loads)
	return part[T]{load: load, byKey: byKey, write: func(a *answer, object T) bool {
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
func sideBySide[T any](beside Beside, loads []part[T]) (load func(context.Context, *answer, []T) bool, byKey bool) {
	if len(loads) == 0 {
		return nil, true
	}
	byKey = !slices.ContainsFunc(loads, func(p part[T]) bool { return !p.byKey })
	return func(ctx context.Context, a *answer, objects []T) bool {
		if len(objects) == 0 {
			return true
		}
		var failed atomic.Bool
		inParallel(ctx, beside, len(loads), func(ctx context.Context, i int) {
			defer func() {
				if recover() != nil { // it will panic again under the executor, which reports it
					failed.Store(true)
				}
			}()
			if !loads[i].load(ctx, a, objects) {
				failed.Store(true)
			}
		})
		return !failed.Load()
	}, byKey
}

// inParallel does n things, one of them here.
func inParallel(ctx context.Context, beside Beside, n int, do func(ctx context.Context, i int)) {
	if n == 1 {
		do(ctx, 0)
		return
	}
	parts, over := beside(ctx, n)
	var others sync.WaitGroup
	for i := 1; i < n; i++ {
		others.Go(func() {
			defer over(i)
			do(parts[i], i)
		})
	}
	do(parts[0], 0)
	over(0)
	others.Wait()
}

// Loading is how the rooms below load.
type Loading struct {
	Together Together
	Beside   Beside
}

// Together is how as many siblings are asked for a field: their resolvers are called with the context asking, add takes what each gave, and load waits for
// the values of all, in that order. It is package loaders'.
type Together func(ctx context.Context, siblings int) (asking context.Context, add func(value any, err error), load func() ([]any, error))

// Beside is how things that begin at the same time know of each other: each of n parts has its context, and whoever began a part says when it is
// over. It is package store's.
type Beside func(ctx context.Context, n int) (parts []context.Context, over func(part int))

// Plan writes what a field resolved to.
type Plan interface {
	// write makes the text of an object or of a list of objects; nil where the executor has to. The read of an object that the resolver left to be done, if there
	// is one, has been done afterwards; err is what it failed with.
	write(ctx context.Context, value any, left *left) (*text, error)
}

// Compile is the plan for what is selected of a field's objects; nil where something is not plain. It is the same for every operation of one document, as far as no
// directive in the selections has a say.
func Compile[T comparable](operation *graphql.OperationContext, of Type[T], selections ast.SelectionSet, loading Loading) Plan {
	at := &place{operation: operation, loading: loading}
	whole, ok := of.compile(at, selections)
	if !ok {
		return nil
	}
	return &plan[T]{part: whole, one: orNull(whole.write, true), beside: loading.Beside, loads: at.loads}
}

type plan[T comparable] struct {
	part[T]
	one    func(*answer, T) bool
	beside Beside
	loads  int
}

func (p *plan[T]) write(ctx context.Context, value any, left *left) (*text, error) {
	var objects []T
	one, isOne := value.(T)
	if isOne {
		objects = []T{one}
	} else if objects, _ = value.([]T); objects == nil {
		return nil, left.finish(ctx)
	}
	a := &answer{loaded: make([]any, p.loads)}
	isLoaded, asked := p.load == nil, present(objects)
	if !isLoaded && p.byKey && left.isWaiting() {
		inParallel(ctx, p.beside, 2, func(ctx context.Context, i int) {
			if i == 0 {
				left.begin(ctx)
			} else {
				isLoaded = p.load(ctx, a, asked)
			}
		})
		if err := left.finish(ctx); err != nil {
			return nil, err
		}
	} else {
		if err := left.finish(ctx); err != nil {
			return nil, err
		}
		isLoaded = isLoaded || p.load(ctx, a, asked)
	}
	if !isLoaded {
		return nil, nil
	}
	a.more()
	if isOne && !p.one(a, one) || !isOne && !writeList(a, objects, p.one) {
		return nil, nil
	}
	return a.end(), nil
}

// Fields is an extension of the executor that answers plain fields.
type Fields struct {
	// Compile gives the plan for an operation's field, whose objects are of the named type of the graph; nil where there is none.
	Compile func(operation *graphql.OperationContext, typeName string, selections ast.SelectionSet) Plan
	// Roots are the fields of the query's root, by their names, that have objects.
	Roots map[string]Root
	// May is whether the viewer may use fields of the root. Who may not is left to the executor, and so is everybody where it is nil.
	May func(ctx context.Context) error
}

// Root is how a field of the query's root is resolved.
type Root struct {
	Arguments Arguments
	Resolve   func(ctx context.Context, fc *graphql.FieldContext) (any, error)
}

var _ interface {
	graphql.HandlerExtension
	graphql.ResponseInterceptor
	graphql.RootFieldInterceptor
	graphql.FieldInterceptor
} = Fields{}

func (Fields) ExtensionName() string                   { return "Plain" }
func (Fields) Validate(graphql.ExecutableSchema) error { return nil }

// Without leaves all fields of a response to the executor: where several responses share what a field resolved to, it has to stay an object.
func Without(ctx context.Context) context.Context {
	return context.WithValue(ctx, responseKey{}, (*response)(nil))
}

// InterceptResponse keeps plans at least for as long as the response is made: siblings share them. A query with one field at its root, as most have, is answered here
// when that is plain.
func (f Fields) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	if _, without := ctx.Value(responseKey{}).(*response); without {
		return next(ctx)
	}
	known := &response{}
	o, _ := ctx.Value(operationKey{}).(*operation)
	fails := graphql.GetErrors(ctx) != nil // this is what is left to tell, and no answer
	if o != nil {
		known.kept = o.kept
		if o.answered && !fails {
			return nil
		}
	}
	ctx = context.WithValue(ctx, responseKey{}, known)
	if o != nil && f.May != nil && !fails {
		if data := f.answer(ctx, known); data != nil {
			o.answered = true
			return &graphql.Response{Data: data, Errors: graphql.GetErrors(ctx), Extensions: graphql.GetExtensions(ctx)}
		}
	}
	return next(ctx)
}

// answer is the data of a query; nil where the executor has to make it, of what has been resolved.
func (f Fields) answer(ctx context.Context, known *response) []byte {
	defer func() { _ = recover() }() // it will panic again under the executor, which reports it
	operation := graphql.GetOperationContext(ctx)
	if operation.Operation.Operation != ast.Query || f.May(ctx) != nil {
		return nil
	}
	only := once(known, operation, queryRoot, operation.Operation.SelectionSet, func() *lone { return f.lone(known, operation) })
	if only == nil {
		return nil
	}
	field, root := only.field, only.root
	ctx, fc := below(ctx, queryRoot, field)
	if !read(ctx, fc, root.Arguments) {
		return nil
	}
	value, err := known.resolve(ctx, only.plan, queryRoot, func(ctx context.Context) (any, error) { return root.Resolve(ctx, fc) })
	written, ok := value.(*text)
	if !ok {
		known.root = &resolved{value, err}
		return nil
	}
	var data bytes.Buffer
	grow(&data, written.size()+len(field.Alias)+rootRoom)
	data.WriteString(`{"`)
	data.WriteString(field.Alias)
	data.WriteString(`":`)
	written.MarshalGQL(&data)
	data.WriteByte('}')
	return data.Bytes()
}

// lone is the one field that a query has at its root, which is plain.
type lone struct {
	field graphql.CollectedField
	root  Root
	plan  Plan
}

func (f Fields) lone(known *response, operation *graphql.OperationContext) *lone {
	fields := graphql.CollectFields(operation, operation.Operation.SelectionSet, []string{queryRoot})
	if len(fields) != 1 || fields[0].IsDeferred() {
		return nil
	}
	root, ok := f.Roots[fields[0].Name]
	if !ok {
		return nil
	}
	plan := known.plan(operation, fields[0], f.Compile)
	if plan == nil {
		return nil
	}
	return &lone{fields[0], root, plan}
}

// rootRoom is what stands around the text of a root's field, here and in the whole answer.
const rootRoom = 16

// InterceptRootField makes room in the buffer of the answer once, for what is known to be coming: doubling it takes three times the memory.
func (Fields) InterceptRootField(ctx context.Context, next graphql.RootResolver) graphql.Marshaler {
	answer := next(ctx)
	known, _ := ctx.Value(responseKey{}).(*response)
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
func (f Fields) InterceptField(ctx context.Context, next graphql.Resolver) (any, error) {
	known, _ := ctx.Value(responseKey{}).(*response)
	fc := graphql.GetFieldContext(ctx)
	if known == nil || len(fc.Field.Selections) == 0 {
		return next(ctx)
	}
	if known.root != nil && fc.Object == queryRoot {
		return known.root.value, known.root.err
	}
	plan := known.plan(graphql.GetOperationContext(ctx), fc.Field, f.Compile)
	if plan == nil {
		return next(ctx)
	}
	return known.resolve(ctx, plan, fc.Object, next)
}

// queryRoot is the type of the graph whose fields look objects up.
const queryRoot = "Query"

type responseKey struct{}

// response is what is known of one. A nil one has no plans.
type response struct {
	kept   *Kept        // what its document keeps, nil where that is not kept
	own    Kept         // what follows from the document where that keeps nothing
	coming atomic.Int64 // bytes of text that are not in the buffer yet
	root   *resolved    // what the only field of the query's root gave, if it has been resolved
}

type resolved struct {
	value any
	err   error
}

// resolve is what a field gives: text in the place of objects where the plan can write them.
func (r *response) resolve(ctx context.Context, plan Plan, object string, next graphql.Resolver) (any, error) {
	left := &left{}
	if object == queryRoot {
		ctx = left.offer(ctx)
	}
	value, err := next(ctx)
	left.close()
	if value == nil || err != nil {
		return value, err
	}
	text, err := plan.write(ctx, value, left)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return value, nil
	}
	r.coming.Add(int64(text.size()))
	return text, nil
}

func (r *response) plan(operation *graphql.OperationContext, field graphql.CollectedField, compile func(*graphql.OperationContext, string, ast.SelectionSet) Plan) Plan {
	type planned struct{ Plan } // nil where there is none
	typeName := field.Definition.Type.Name()
	return once(r, operation, typeName, field.Selections, func() planned { return planned{compile(operation, typeName, field.Selections)} }).Plan
}
