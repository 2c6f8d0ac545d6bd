package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/graph/plain"
)

// parts is left in the context by a transport whose client takes an answer in parts. The gate says what comes first where an operation
// really defers something.
type parts struct{ first *stage }

type partsKey struct{}

// delivery executes the stages of one operation. A field that two stages have is resolved once: what its resolver gave the first time is what
// later stages go on from. So deferring neither repeats a statement nor splits a batch.
type delivery struct {
	server *Server
	whole  *graphql.OperationContext // with everything that is selected, which resolvers read to know the columns they need

	mu     sync.Mutex
	fields map[string]*resolved // by path
}

type deliveryKey struct{}

// resolved is what a resolver gave, once done is closed.
type resolved struct {
	done  chan struct{}
	value any
	err   error
}

var (
	errTold     = errors.New("told in an earlier part")
	errPanicked = errors.New("a resolver panicked, as another part tells")
)

// deliver executes an operation and writes its parts as they are ready, within the operation's deadline. Stages that are running when the
// client leaves are cancelled, and have ended when it returns.
func (s *Server) deliver(ctx context.Context, w http.ResponseWriter, operation *graphql.OperationContext, first *stage, mediaType string) (outcome string) {
	about := requestFrom(ctx)
	d := &delivery{server: s, whole: operation, fields: map[string]*resolved{}}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, deliveryKey{}, d), s.limits.Timeout)
	defer cancel()

	begun := &piece{stage: first, response: d.run(ctx, s.exec, first)}
	if begun.response.Data == nil {
		about.addErrors(begun.response.Errors)
		respond(w, mediaType, begun.response)
		return outcomeOf(begun.response)
	}
	ready := make(chan *piece, first.count()) // so that no stage waits for a client who does not read
	pending := 0
	begin := func(after *piece) {
		for _, next := range after.stage.next {
			pending++
			running.Go(func() { ready <- &piece{stage: next, after: after, response: d.run(ctx, s.later, next)} })
		}
	}
	begin(begun)
	outcome = outcomeOf(begun.response)
	about.addErrors(begun.response.Errors)
	out := newPartWriter(w)
	if !out.write(begun.first(), true) {
		return outcome
	}
	for pending > 0 {
		var together []*increment
		for _, p := range readyNow(ready) {
			pending--
			found := p.increments()
			if len(found) > 0 {
				begin(p)
			}
			together = append(together, found...)
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return outcome // nobody is there to read
		}
		for _, i := range together {
			if len(i.errors) > 0 {
				outcome = outcomeErrors
				about.addErrors(i.errors)
			}
		}
		if (len(together) > 0 || pending == 0) && !out.write(encodeIncrements(together, pending > 0), pending > 0) {
			return outcome
		}
	}
	return outcome
}

// readyNow waits for a piece and takes those with it that need no waiting.
func readyNow(ready <-chan *piece) []*piece {
	pieces := []*piece{<-ready}
	for {
		select {
		case p := <-ready:
			pieces = append(pieces, p)
		default:
			return pieces
		}
	}
}

func (d *delivery) run(ctx context.Context, exec *executor.Executor, s *stage) (response *graphql.Response) {
	operation := &graphql.OperationContext{
		RawQuery: d.whole.RawQuery, OperationName: d.whole.OperationName, Variables: d.whole.Variables,
		Extensions: d.whole.Extensions, Headers: d.whole.Headers, Stats: graphql.Stats{OperationStart: d.whole.Stats.OperationStart},
		DisableIntrospection: d.whole.DisableIntrospection, RecoverFunc: d.whole.RecoverFunc,
		RootResolverMiddleware: d.whole.RootResolverMiddleware,
		ResolverMiddleware: func(ctx context.Context, next graphql.Resolver) (any, error) {
			return d.resolve(ctx, s, func(ctx context.Context) (any, error) { return d.whole.ResolverMiddleware(ctx, next) })
		},
		Doc: s.document, Operation: s.operation,
	}
	defer func() { // resolvers' panics are gqlgen's affair; this is for what runs around them, on a goroutine that nobody else guards
		if value := recover(); value != nil {
			response = &graphql.Response{Errors: gqlerror.List{d.server.present(ctx, gqlerror.Wrap(&panicked{value, debug.Stack()}))}}
		}
	}()
	next, ctx := exec.DispatchOperation(plain.Without(ctx), operation) // stages share what fields resolved to
	if response = next(ctx); response == nil {
		response = d.server.unanswered(ctx)
	}
	return response
}

// resolve runs a field's resolver, or gives what it gave to another stage.
func (d *delivery) resolve(ctx context.Context, s *stage, next graphql.Resolver) (any, error) {
	field := graphql.GetFieldContext(ctx)
	if !field.IsResolver && !field.IsMethod {
		return next(ctx) // reads a struct
	}
	path := pathOf(field)
	d.mu.Lock()
	known, ok := d.fields[path]
	if !ok {
		known = &resolved{done: make(chan struct{}), err: errPanicked}
		d.fields[path] = known
	}
	d.mu.Unlock()
	if !ok {
		defer close(known.done)
		// The executor goes on with the selections that it has read already.
		field.Field.Selections = d.selected(field)
		known.value, known.err = next(graphql.WithOperationContext(ctx, d.whole))
		return known.value, known.err
	}
	select {
	case <-known.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if known.err != nil && s.bridges[field.Field.Field] {
		return nil, errTold
	}
	return known.value, known.err
}

// selected is everything that the operation selects of a field, in whatever stage.
func (d *delivery) selected(field *graphql.FieldContext) ast.SelectionSet {
	around := d.whole.Operation.SelectionSet
	for parent := field.Parent; parent != nil; parent = parent.Parent {
		if parent.Field.Field != nil {
			around = d.selected(parent)
			break
		}
	}
	satisfied := []string{field.Object}
	for _, abstract := range d.server.schema.Implements[field.Object] {
		satisfied = append(satisfied, abstract.Name)
	}
	for _, collected := range graphql.CollectFields(d.whole, around, satisfied) {
		if collected.Alias == field.Field.Alias && collected.Name == field.Field.Name {
			return collected.Selections
		}
	}
	return field.Field.Selections
}

func pathOf(field *graphql.FieldContext) string {
	var b strings.Builder
	for ; field != nil; field = field.Parent {
		switch {
		case field.Index != nil:
			b.WriteString(strconv.Itoa(*field.Index))
			b.WriteByte('.')
		case field.Field.Field != nil:
			b.WriteString(field.Field.Alias)
			b.WriteByte('.')
		}
	}
	return b.String()
}

// piece is what a stage gave.
type piece struct {
	stage    *stage
	after    *piece // the stage that had to come first; nil for the first of all
	response *graphql.Response
	read     bool
	data     any // the response's, once read
}

// first is the part that goes first.
func (p *piece) first() []byte {
	var b bytes.Buffer
	b.WriteString(`{"data":`)
	b.Write(p.response.Data)
	if len(p.response.Errors) > 0 {
		b.WriteString(`,"errors":`)
		b.Write(encode(p.response.Errors))
	}
	if len(p.response.Extensions) > 0 {
		b.WriteString(`,"extensions":`)
		b.Write(encode(p.response.Extensions))
	}
	b.WriteString(`,"hasNext":true}`)
	return b.Bytes()
}

// increment is a deferred fragment's data for one object.
type increment struct {
	path   ast.Path
	label  string
	data   []byte // nil when a null has taken the object with it
	errors gqlerror.List
}

// increments are the objects that the deferred fragment applied to. Those are left out whose place in an earlier part is null, because of
// something that was told there.
func (p *piece) increments() []*increment {
	var found []*increment
	for _, object := range markedObjects(p.response.Data, p.stage.marker) {
		object.label = p.stage.label
		found = append(found, object)
	}
	for _, failure := range p.response.Errors {
		var to *increment
		for _, object := range found {
			if isPrefix(object.path, failure.Path) && (to == nil || len(object.path) > len(to.path)) {
				to = object
			}
		}
		if to == nil && p.after.lacks(failure.Path) {
			continue // of the way there, and told before
		}
		if to == nil { // a null has taken the object with it
			to = &increment{path: p.after.existing(failure.Path), label: p.stage.label}
			found = append(found, to)
		}
		to.errors = append(to.errors, failure)
	}
	kept := found[:0]
	for _, object := range found {
		if !p.after.lacks(object.path) {
			kept = append(kept, object)
		}
	}
	return kept
}

// existing is how much of a path leads to something in the response.
func (p *piece) existing(path ast.Path) ast.Path {
	at := p.value()
	for i, element := range path {
		if at = child(at, element); at == nil {
			return path[:i:i]
		}
	}
	return path
}

// lacks says whether a null in this part or an earlier one stands where a path leads. Only an error makes such a null, but for one that is meant.
func (p *piece) lacks(path ast.Path) bool {
	if p == nil {
		return false
	}
	if len(p.response.Errors) > 0 && endsInNull(p.value(), path) {
		return true
	}
	return p.after.lacks(path)
}

func (p *piece) value() any {
	if !p.read {
		p.read = true
		if err := json.Unmarshal(p.response.Data, &p.data); err != nil {
			p.data = nil
		}
	}
	return p.data
}

func endsInNull(at any, path ast.Path) bool {
	for _, element := range path {
		if at == nil {
			return true
		}
		object, ok := at.(map[string]any)
		if name, named := element.(ast.PathName); ok && named {
			if _, there := object[string(name)]; !there {
				return false // a later part has it
			}
		}
		at = child(at, element)
	}
	return at == nil
}

func child(at any, element ast.PathElement) any {
	switch element := element.(type) {
	case ast.PathName:
		object, _ := at.(map[string]any)
		return object[string(element)]
	case ast.PathIndex:
		if list, _ := at.([]any); int(element) < len(list) {
			return list[element]
		}
	}
	return nil
}

func isPrefix(prefix, path ast.Path) bool {
	if len(prefix) > len(path) {
		return false
	}
	for i := range prefix {
		if prefix[i] != path[i] {
			return false
		}
	}
	return true
}

// span is a stretch of bytes.
type span struct{ from, to int64 }

// markedObjects finds the objects in data that have the marker, outer ones first, and gives them without it.
func markedObjects(data []byte, marker string) []*increment {
	f := &finder{decoder: json.NewDecoder(bytes.NewReader(data)), marker: marker}
	f.decoder.UseNumber()
	if err := f.value(nil); err != nil {
		return nil // there is no data
	}
	objects := make([]*increment, len(f.objects))
	for i, at := range f.objects {
		object := &increment{path: f.paths[i], data: make([]byte, 0, at.to-at.from)}
		from := at.from
		for _, cut := range f.markers {
			if cut.from < at.from || cut.to > at.to {
				continue
			}
			object.data = append(object.data, data[from:cut.from]...)
			if from = cut.to; data[cut.from] != ',' && data[from] == ',' {
				from++ // the marker was the first of several keys
			}
		}
		object.data = append(object.data, data[from:at.to]...)
		objects[i] = object
	}
	return objects
}

// finder reads data once.
type finder struct {
	decoder *json.Decoder
	marker  string
	objects []span
	paths   []ast.Path
	markers []span
}

func (f *finder) value(path ast.Path) error {
	token, err := f.decoder.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return f.object(path)
	case json.Delim('['):
		for i := 0; f.decoder.More(); i++ {
			if err := f.value(append(path, ast.PathIndex(i))); err != nil {
				return err
			}
		}
		_, err = f.decoder.Token()
	}
	return err
}

func (f *finder) object(path ast.Path) error {
	begin, place := f.decoder.InputOffset()-1, -1
	for f.decoder.More() {
		from := f.decoder.InputOffset() // with the comma, if there is one
		key, err := f.decoder.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		if name != f.marker {
			if err := f.value(append(path, ast.PathName(name))); err != nil {
				return err
			}
			continue
		}
		if _, err := f.decoder.Token(); err != nil {
			return err
		}
		f.markers = append(f.markers, span{from, f.decoder.InputOffset()})
		place = len(f.objects)
		f.objects = append(f.objects, span{from: begin})
		f.paths = append(f.paths, append(ast.Path{}, path...))
	}
	_, err := f.decoder.Token()
	if place >= 0 {
		f.objects[place].to = f.decoder.InputOffset()
	}
	return err
}

// encodeIncrements makes a part of what is ready.
func encodeIncrements(increments []*increment, more bool) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for n, i := range increments {
		if n == 0 {
			b.WriteString(`"incremental":[`)
		} else {
			b.WriteByte(',')
		}
		b.WriteString(`{"data":`)
		if i.data == nil {
			b.WriteString("null")
		}
		b.Write(i.data)
		b.WriteString(`,"path":`)
		b.Write(encode(append(ast.Path{}, i.path...)))
		if i.label != "" {
			b.WriteString(`,"label":`)
			b.Write(encode(i.label))
		}
		if len(i.errors) > 0 {
			b.WriteString(`,"errors":`)
			b.Write(encode(i.errors))
		}
		b.WriteByte('}')
	}
	if len(increments) > 0 {
		b.WriteString(`],`)
	}
	b.WriteString(`"hasNext":`)
	b.WriteString(strconv.FormatBool(more))
	b.WriteByte('}')
	return b.Bytes()
}

// partWriter writes the parts of one answer.
type partWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func newPartWriter(w http.ResponseWriter) *partWriter {
	h := w.Header()
	h.Set("Content-Type", mixed+`; boundary="`+boundary+`"; deferSpec=`+mixedOf)
	h.Set("X-Accel-Buffering", "no") // asks proxies to pass parts on as they come
	return &partWriter{w: w, control: http.NewResponseController(w)}
}

// write sends a part, and the delimiter after it, without which clients would not know that the part is complete. It says whether the
// connection took them.
func (p *partWriter) write(part []byte, more bool) bool {
	_ = p.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every ResponseWriter has one
	var b bytes.Buffer
	if !p.begun {
		p.begun = true
		b.WriteString("--" + boundary)
	}
	b.WriteString("\r\nContent-Type: " + plainJSON + "; charset=utf-8\r\n\r\n")
	b.Write(part)
	b.WriteString("\r\n--" + boundary)
	if !more {
		b.WriteString("--\r\n")
	}
	if _, err := p.w.Write(b.Bytes()); err != nil {
		return false
	}
	return p.control.Flush() == nil
}
