package server

import (
	"cmp"
	"strings"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/netra-ai/netra/models"
)

// Limits bound what one request may ask for. A field that is zero takes its default.
//
// Definitions, Selections, Aliases, Directives and Defers are counted over the whole document, before it is validated: validation compares the fields
// of a document with each other, which takes a second from about 4,000 selections on, and everybody may send documents. Repeats are what it
// compares most. Depth, RootFields and Objects are those of the largest operation with its fragments written out; introspection does
// not count there.
type Limits struct {
	Body        int64         // bytes of a request's body; 1 MiB
	Tokens      int           // lexical tokens of the document; 10,000
	Definitions int           // operations and fragments of the document; 100
	Selections  int           // fields, fragment spreads and inline fragments of the document; 1,000
	Repeats     int           // fields that become one field of the answer; 100
	Aliases     int           // renamed fields of the document; 100
	Directives  int           // uses of directives in the document; 100
	Defers      int           // uses of @defer in the document, and parts that a client can be sent after the first; 20
	Depth       int           // levels of fields; 20
	RootFields  int           // fields at the root; 20
	Objects     int           // fields that have fields, whatever the length of lists: a bound on statements; 300
	Cost        int           // values that the answer can have, lists counted by first, last or ids; 500,000
	Errors      int           // errors in one answer; 20
	Events      int64         // bytes of a request's workload events, decompressed; 256 MiB
	Timeout     time.Duration // for a query over HTTP; 30 s

	Uploads   int           // requests that bring files, at a time; 32
	Downloads int           // files that are given, at a time; 128. Of both a user alone may have two thirds, and fewer beside others
	Stall     time.Duration // without a byte of a file, until its connection is cut; 30 s
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Body:        cmp.Or(l.Body, 1<<20),
		Tokens:      cmp.Or(l.Tokens, 10_000),
		Definitions: cmp.Or(l.Definitions, 100),
		Selections:  cmp.Or(l.Selections, 1_000),
		Repeats:     cmp.Or(l.Repeats, 100),
		Aliases:     cmp.Or(l.Aliases, 100),
		Directives:  cmp.Or(l.Directives, 100),
		Defers:      cmp.Or(l.Defers, 20),
		Depth:       cmp.Or(l.Depth, 20),
		RootFields:  cmp.Or(l.RootFields, 20),
		Objects:     cmp.Or(l.Objects, 300),
		Cost:        cmp.Or(l.Cost, 500_000),
		Errors:      cmp.Or(l.Errors, 20),
		Events:      cmp.Or(l.Events, 256<<20),
		Timeout:     cmp.Or(l.Timeout, 30*time.Second),
		Uploads:     cmp.Or(l.Uploads, 32),
		Downloads:   cmp.Or(l.Downloads, 128),
		Stall:       cmp.Or(l.Stall, 30*time.Second),
	}
}

// parse reads a document and holds it against the limits that need no schema. What it returns has not been validated.
func (l Limits) parse(query string) (*ast.QueryDocument, *gqlerror.Error) {
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: query}, l.Tokens)
	if err != nil {
		failure := gqlerror.WrapIfUnwrapped(err)
		switch { // the parser has no other way to tell
		case strings.HasPrefix(failure.Message, "exceeded token limit"):
			return nil, tooComplex("the document has more than %d tokens", l.Tokens)
		case strings.HasPrefix(failure.Message, "exceeded maximum nesting depth"):
			return nil, tooComplex("the document is nested more than %d levels deep", parser.MaxNestingDepth)
		}
		failure.Extensions = map[string]any{"code": parseFailed}
		return nil, failure
	}
	if len(doc.Operations) == 0 {
		failure := gqlerror.Errorf("the document has no operation")
		failure.Extensions = map[string]any{"code": validationFailed}
		return nil, failure
	}
	if hasLongName(query) {
		return nil, tooComplex("a name in the document has more than %d characters", maxName)
	}
	return doc, l.checkStructure(doc)
}

// maxName bounds the names in a document: validation measures how far each unknown one is from all that are known.
const maxName = 128

func hasLongName(query string) bool {
	words := lexer.New(&ast.Source{Input: query})
	for {
		token, err := words.ReadToken()
		if err != nil || token.Kind == lexer.EOF {
			return false
		}
		if token.Kind == lexer.Name && len(token.Value) > maxName {
			return true
		}
	}
}

func tooComplex(format string, args ...any) *gqlerror.Error {
	return gqlerror.Wrap(models.Errorf(models.TooComplex, format, args...))
}

func (l Limits) checkStructure(doc *ast.QueryDocument) *gqlerror.Error {
	if n := len(doc.Operations) + len(doc.Fragments); n > l.Definitions {
		return tooComplex("the document has %d operations and fragments; at most %d are allowed", n, l.Definitions)
	}
	var total tally
	for _, operation := range doc.Operations {
		total.directives += len(operation.Directives)
		total.add(operation.SelectionSet)
	}
	for _, fragment := range doc.Fragments {
		total.directives += len(fragment.Directives)
		total.add(fragment.SelectionSet)
	}
	switch {
	case total.selections > l.Selections:
		return tooComplex("the document has %d fields and fragment spreads; at most %d are allowed", total.selections, l.Selections)
	case total.aliases > l.Aliases:
		return tooComplex("the document has %d aliases; at most %d are allowed", total.aliases, l.Aliases)
	case total.directives > l.Directives:
		return tooComplex("the document has %d directives; at most %d are allowed", total.directives, l.Directives)
	case total.defers > l.Defers:
		return tooComplex("the document defers %d fragments; at most %d are allowed", total.defers, l.Defers)
	}
	walk := shapes{fragments: doc.Fragments, known: map[string]shape{}}
	for _, operation := range doc.Operations {
		switch s := walk.of(operation.SelectionSet); {
		case s.depth > l.Depth:
			return tooComplex("the operation is %d levels deep; at most %d are allowed", s.depth, l.Depth)
		case s.top > l.RootFields:
			return tooComplex("the operation has %d fields at the root; at most %d are allowed", s.top, l.RootFields)
		case s.objects > l.Objects:
			return tooComplex("the operation has %d fields that have fields, with fragments written out; at most %d are allowed",
				s.objects, l.Objects)
		}
		merged := merging{fragments: doc.Fragments, budget: 20 * l.Selections, open: map[string]bool{}}
		merged.add(&level{}, operation.SelectionSet)
		switch {
		case merged.most > l.Repeats:
			return tooComplex("the operation has the same field %d times in one place; at most %d are allowed", merged.most, l.Repeats)
		case merged.budget < 0:
			return tooComplex("the operation has more than %d fields with fragments written out", 20*l.Selections)
		}
	}
	return nil
}

// tally counts what stands in a document, fragments once.
type tally struct{ selections, aliases, directives, defers int }

func (t *tally) add(selections ast.SelectionSet) {
	t.selections += len(selections)
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			if selection.Alias != selection.Name {
				t.aliases++
			}
			t.directives += len(selection.Directives)
			t.add(selection.SelectionSet)
		case *ast.InlineFragment:
			t.addFragment(selection.Directives)
			t.add(selection.SelectionSet)
		case *ast.FragmentSpread:
			t.addFragment(selection.Directives)
		}
	}
}

func (t *tally) addFragment(directives ast.DirectiveList) {
	t.directives += len(directives)
	if directives.ForName(deferName) != nil {
		t.defers++
	}
}

// shape is what a selection set is with its fragments written out.
type shape struct{ depth, top, objects int }

// maxCount is where counts stop growing: nested fragments double them with each level.
const maxCount = 1 << 40

func saturated(n int) int { return min(n, maxCount) }

// shapes walks each fragment once, whatever the number of its spreads.
type shapes struct {
	fragments ast.FragmentDefinitionList
	known     map[string]shape
}

func (w *shapes) of(selections ast.SelectionSet) shape {
	var sum shape
	join := func(s shape) {
		sum.depth = max(sum.depth, s.depth)
		sum.top = saturated(sum.top + s.top)
		sum.objects = saturated(sum.objects + s.objects)
	}
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			s := shape{depth: 1, top: 1}
			if len(selection.SelectionSet) > 0 && !isIntrospection(selection.Name) {
				inner := w.of(selection.SelectionSet)
				s.depth += inner.depth
				s.objects = saturated(1 + inner.objects)
			}
			join(s)
		case *ast.InlineFragment:
			join(w.of(selection.SelectionSet))
		case *ast.FragmentSpread:
			join(w.fragment(selection.Name))
		}
	}
	return sum
}

func (w *shapes) fragment(name string) shape {
	if s, ok := w.known[name]; ok {
		return s
	}
	w.known[name] = shape{} // a cycle ends here; validation will say what is wrong with it
	definition := w.fragments.ForName(name)
	if definition == nil {
		return shape{}
	}
	s := w.of(definition.SelectionSet)
	w.known[name] = s
	return s
}

// level is one place of the answer: the fields there by their names in the answer, and which fragments have been written out.
type level struct {
	fields    map[string]*mergedField
	fragments map[string]bool
}

type mergedField struct {
	repeats int
	below   level
}

// merging writes fragments out, each once in each place, as execution does.
type merging struct {
	fragments ast.FragmentDefinitionList
	budget    int             // selections that may still be looked at
	most      int             // repeats of one field
	open      map[string]bool // fragments being written out: one within itself has no end, as validation will say
}

func (m *merging) add(at *level, selections ast.SelectionSet) {
	for _, selection := range selections {
		if m.budget--; m.budget < 0 {
			return
		}
		switch selection := selection.(type) {
		case *ast.Field:
			field := at.fields[selection.Alias]
			if field == nil {
				field = &mergedField{}
				if at.fields == nil {
					at.fields = map[string]*mergedField{}
				}
				at.fields[selection.Alias] = field
			}
			field.repeats++
			m.most = max(m.most, field.repeats)
			m.add(&field.below, selection.SelectionSet)
		case *ast.InlineFragment:
			m.add(at, selection.SelectionSet)
		case *ast.FragmentSpread:
			if at.fragments[selection.Name] || m.open[selection.Name] {
				continue
			}
			if at.fragments == nil {
				at.fragments = map[string]bool{}
			}
			at.fragments[selection.Name] = true
			if definition := m.fragments.ForName(selection.Name); definition != nil {
				m.open[selection.Name] = true
				m.add(at, definition.SelectionSet)
				delete(m.open, selection.Name)
			}
		}
	}
}

func isIntrospection(field string) bool { return field == "__schema" || field == "__type" }
