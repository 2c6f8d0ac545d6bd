package server

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

const deferName = "defer"

// mentionsDefer tells most documents from those with @defer without reading them.
func mentionsDefer(query string) bool { return strings.Contains(query, deferName) }

// stage is one execution of a part of an operation: all but what is deferred, or one deferred fragment with the fields that lead to it. The
// executor never sees the directive.
type stage struct {
	document  *ast.QueryDocument
	operation *ast.OperationDefinition
	label     string
	marker    string              // stands as a field in every object that the deferred fragment applies to
	bridges   map[*ast.Field]bool // fields that only lead to the fragment: what went wrong with them has been told before
	next      []*stage            // fragments deferred within this one
}

// count is how many stages there are, this one included.
func (s *stage) count() int {
	n := 1
	for _, next := range s.next {
		n += next.count()
	}
	return n
}

// cost is that of this stage and all after it.
func (s *stage) cost(variables map[string]any) int {
	n := costOf(s.operation, s.document.Fragments, variables)
	for _, next := range s.next {
		n = saturated(n + next.cost(variables))
	}
	return n
}

// planner takes a validated document apart.
type planner struct {
	document  *ast.QueryDocument
	operation *ast.OperationDefinition
	variables map[string]any
	limit     int // of deferred fragments, counted once for each chain of deferred fragments around them
	stages    int
}

// whole is the operation as if it had no @defer.
func (p *planner) whole() *stage {
	return p.rewrite(&rewriter{undefer: true})
}

// staged is the operation without what is deferred, followed by that. It fails for too many deferred fragments.
func (p *planner) staged() (*stage, *gqlerror.Error) {
	first := p.rewrite(&rewriter{})
	var failure *gqlerror.Error
	first.next, failure = p.after(nil, p.operation.SelectionSet)
	return first, failure
}

// after makes the stages of the fragments deferred within a selection set, which stands within the chain's last fragment.
func (p *planner) after(chain []ast.Selection, within ast.SelectionSet) ([]*stage, *gqlerror.Error) {
	deferred := p.deferredIn(within, map[string]bool{}, nil)
	var stages []*stage
	for _, fragment := range deferred {
		if p.stages++; p.stages > p.limit {
			return nil, tooComplex("the operation defers more than %d fragments, nested ones counted wherever they stand", p.limit)
		}
		longer := append(chain[:len(chain):len(chain)], fragment)
		s := p.rewrite(&rewriter{chain: longer})
		directives, content := p.contentOf(fragment)
		if label := directives.ForName(deferName).Arguments.ForName("label"); label != nil && label.Value.Kind != ast.NullValue {
			s.label = label.Value.Raw
		}
		var failure *gqlerror.Error
		if s.next, failure = p.after(longer, content); failure != nil {
			return nil, failure
		}
		stages = append(stages, s)
	}
	return stages, nil
}

func (p *planner) contentOf(fragment ast.Selection) (ast.DirectiveList, ast.SelectionSet) {
	switch fragment := fragment.(type) {
	case *ast.InlineFragment:
		return fragment.Directives, fragment.SelectionSet
	case *ast.FragmentSpread:
		return fragment.Directives, p.document.Fragments.ForName(fragment.Name).SelectionSet
	default:
		panic(fmt.Sprintf("a %T cannot be deferred", fragment))
	}
}

// deferredIn finds the deferred fragments that are reached without entering another.
func (p *planner) deferredIn(selections ast.SelectionSet, seen map[string]bool, found []ast.Selection) []ast.Selection {
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			if included(selection.Directives, p.variables) {
				found = p.deferredIn(selection.SelectionSet, seen, found)
			}
		case *ast.InlineFragment:
			switch {
			case !included(selection.Directives, p.variables):
			case p.defers(selection.Directives):
				found = append(found, selection)
			default:
				found = p.deferredIn(selection.SelectionSet, seen, found)
			}
		case *ast.FragmentSpread:
			switch {
			case !included(selection.Directives, p.variables):
			case p.defers(selection.Directives):
				found = append(found, selection)
			case !seen[selection.Name]:
				seen[selection.Name] = true
				found = p.deferredIn(p.document.Fragments.ForName(selection.Name).SelectionSet, seen, found)
			}
		}
	}
	return found
}

func (p *planner) defers(directives ast.DirectiveList) bool {
	return directives.ForName(deferName) != nil && condition(directives, deferName, p.variables, true)
}

func (p *planner) rewrite(w *rewriter) *stage {
	w.planner = p
	w.stage = &stage{document: &ast.QueryDocument{}, bridges: map[*ast.Field]bool{}}
	w.fragments = map[fragmentAt]*ast.FragmentDefinition{}
	if len(w.chain) > 0 {
		w.stage.marker = "@" + rand.Text() // no client can write such a name, nor guess it for a key within a JSON value
	}
	operation := *p.operation
	operation.SelectionSet = w.set(p.operation.SelectionSet, 0)
	w.stage.operation = &operation
	w.stage.document.Operations = ast.OperationList{&operation}
	return w.stage
}

// rewriter copies an operation for one stage. The document it copies from is shared with other requests and stays as it is.
type rewriter struct {
	*planner
	undefer   bool            // @defer is left out, and its fragment stays
	chain     []ast.Selection // the deferred fragments to enter, from the outermost; others are left out
	stage     *stage
	fragments map[fragmentAt]*ast.FragmentDefinition
}

// fragmentAt is a fragment as it is copied when so many of the chain's fragments have been entered.
type fragmentAt struct {
	name    string
	entered int
}

// set copies a selection set. Before all of the chain has been entered, only what leads there is copied.
func (w *rewriter) set(selections ast.SelectionSet, entered int) ast.SelectionSet {
	inside := entered == len(w.chain)
	copied := ast.SelectionSet{}
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			field := *selection
			field.SelectionSet = w.set(selection.SelectionSet, entered)
			if inside || len(field.SelectionSet) > 0 {
				copied = append(copied, &field)
			}
			if !inside {
				w.stage.bridges[&field] = true
			}
		case *ast.InlineFragment:
			fragment := *selection
			if w.wrap(&fragment, selection, entered, func(entered int) ast.SelectionSet { return w.set(selection.SelectionSet, entered) }) {
				copied = append(copied, &fragment)
			}
		case *ast.FragmentSpread:
			definition := w.document.Fragments.ForName(selection.Name)
			fragment := ast.InlineFragment{TypeCondition: definition.TypeCondition, Directives: selection.Directives,
				ObjectDefinition: selection.ObjectDefinition, Position: selection.Position}
			if w.wrap(&fragment, selection, entered, func(entered int) ast.SelectionSet { return w.spread(definition, selection, entered) }) {
				copied = append(copied, &fragment)
			}
		}
	}
	return copied
}

// wrap completes the copy of a fragment; false where it has no part in the stage.
func (w *rewriter) wrap(fragment *ast.InlineFragment, original ast.Selection, entered int, content func(entered int) ast.SelectionSet) bool {
	now := entered
	if !w.undefer && w.defers(fragment.Directives) && included(fragment.Directives, w.variables) {
		if entered == len(w.chain) || w.chain[entered] != original {
			return false
		}
		now++
	}
	fragment.Directives = withoutDefer(fragment.Directives)
	fragment.SelectionSet = content(now)
	if now > entered && now == len(w.chain) {
		marker := &ast.Field{Alias: w.stage.marker, Name: "__typename", Position: fragment.Position, Definition: &ast.FieldDefinition{
			Name: "__typename", Type: ast.NonNullNamedType("String", nil)}}
		fragment.SelectionSet = append(ast.SelectionSet{marker}, fragment.SelectionSet...)
	}
	return now == len(w.chain) || len(fragment.SelectionSet) > 0
}

// spread copies a named fragment, once for each entered, and spreads the copy. It stays a spread so that execution writes it out only once in
// each place, however often it stands there.
func (w *rewriter) spread(definition *ast.FragmentDefinition, original *ast.FragmentSpread, entered int) ast.SelectionSet {
	key := fragmentAt{definition.Name, entered}
	fragment, known := w.fragments[key]
	if !known {
		fragment = &ast.FragmentDefinition{Name: fmt.Sprintf("%s@%d", definition.Name, entered), TypeCondition: definition.TypeCondition,
			Definition: definition.Definition, Position: definition.Position, SelectionSet: w.set(definition.SelectionSet, entered)}
		w.fragments[key] = fragment
		w.stage.document.Fragments = append(w.stage.document.Fragments, fragment)
	}
	if len(fragment.SelectionSet) == 0 {
		return nil
	}
	return ast.SelectionSet{&ast.FragmentSpread{Name: fragment.Name, ObjectDefinition: original.ObjectDefinition, Definition: fragment, Position: original.Position}}
}

func withoutDefer(directives ast.DirectiveList) ast.DirectiveList {
	var others ast.DirectiveList
	for _, directive := range directives {
		if directive.Name != deferName {
			others = append(others, directive)
		}
	}
	return others
}

// checkDefers holds a document against the rules of the specification's draft that the library's validation does not have.
func checkDefers(document *ast.QueryDocument) *gqlerror.Error {
	labels := map[string]bool{}
	var failure *gqlerror.Error
	check := func(directives ast.DirectiveList) {
		directive := directives.ForName(deferName)
		if directive == nil || failure != nil {
			return
		}
		label := directive.Arguments.ForName("label")
		switch {
		case label == nil || label.Value.Kind == ast.NullValue:
		case label.Value.Kind == ast.Variable:
			failure = invalid(directive.Position, "a label of @defer must be written in the document: it cannot be a variable")
		case labels[label.Value.Raw]:
			failure = invalid(directive.Position, "the label %.60q stands on more than one @defer: labels must be unique", label.Value.Raw)
		default:
			labels[label.Value.Raw] = true
		}
	}
	for _, operation := range document.Operations {
		eachFragment(operation.SelectionSet, check)
	}
	for _, fragment := range document.Fragments {
		eachFragment(fragment.SelectionSet, check)
	}
	for _, operation := range document.Operations {
		if operation.Operation == ast.Query || failure != nil {
			continue
		}
		seen := map[string]bool{}
		failure = checkEffects(document, operation, operation.SelectionSet, true, seen)
	}
	return failure
}

func eachFragment(selections ast.SelectionSet, visit func(ast.DirectiveList)) {
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			eachFragment(selection.SelectionSet, visit)
		case *ast.InlineFragment:
			visit(selection.Directives)
			eachFragment(selection.SelectionSet, visit)
		case *ast.FragmentSpread:
			visit(selection.Directives)
		}
	}
}

// checkEffects refuses @defer at the root of mutations, and in subscriptions, where it can only be switched off.
func checkEffects(document *ast.QueryDocument, operation *ast.OperationDefinition, selections ast.SelectionSet, root bool, seen map[string]bool) *gqlerror.Error {
	for _, selection := range selections {
		var directives ast.DirectiveList
		var below ast.SelectionSet
		belowIsRoot := root
		switch selection := selection.(type) {
		case *ast.Field:
			below, belowIsRoot = selection.SelectionSet, false
		case *ast.InlineFragment:
			directives, below = selection.Directives, selection.SelectionSet
		case *ast.FragmentSpread:
			directives = selection.Directives
			// What a fragment has at the root is of the root's type, which no field has.
			if !seen[selection.Name] {
				seen[selection.Name] = true
				below = document.Fragments.ForName(selection.Name).SelectionSet
			}
		}
		if directive := directives.ForName(deferName); directive != nil {
			switch {
			case root:
				return invalid(directive.Position, "@defer cannot stand at the root of a %s", operation.Operation)
			case operation.Operation == ast.Subscription && !canBeOff(directive):
				return invalid(directive.Position, "@defer is not supported in subscriptions: leave it out, or switch it off with if")
			}
		}
		if failure := checkEffects(document, operation, below, belowIsRoot, seen); failure != nil {
			return failure
		}
	}
	return nil
}

func canBeOff(directive *ast.Directive) bool {
	argument := directive.Arguments.ForName("if")
	return argument != nil && (argument.Value.Kind == ast.Variable || argument.Value.Raw == "false")
}

func invalid(at *ast.Position, format string, args ...any) *gqlerror.Error {
	failure := gqlerror.ErrorPosf(at, format, args...)
	failure.Extensions = code(validationFailed)
	return failure
}
