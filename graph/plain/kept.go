package plain

import (
	"context"
	"slices"
	"sync"

	"github.com/vektah/gqlparser/v2/ast"
)

// Kept are the plans of one document, for all operations on it: a client asks the same again and again. The zero value has none.
type Kept struct {
	mu    sync.RWMutex
	of    map[ast.Selection][]kept // by the first of the selections
	count int
}

// mostKept is how many plans a document keeps. Directives around a repeated field make other selections of it, and so another plan, for each combination of
// the variables that they name.
const mostKept = 100

// kept is the plan for selections of objects of a type, nil where there is none.
type kept struct {
	typeName   string
	selections ast.SelectionSet
	plan       Plan
}

type operationKey struct{}

// operation is what is known of one for all its responses.
type operation struct {
	kept     *Kept
	answered bool // without the executor, which knows of no response then
}

// Keep is for an operation that is dispatched once. It has plans for its document kept there, or only for a response where that is nil, and lets the operation be
// answered without the executor.
func Keep(ctx context.Context, there *Kept) context.Context {
	return context.WithValue(ctx, operationKey{}, &operation{kept: there})
}

func (k *Kept) get(typeName string, selections ast.SelectionSet) (Plan, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.find(typeName, selections)
}

func (k *Kept) find(typeName string, selections ast.SelectionSet) (Plan, bool) {
	for _, known := range k.of[selections[0]] {
		if known.typeName == typeName && slices.Equal(known.selections, selections) {
			return known.plan, true
		}
	}
	return nil, false
}

func (k *Kept) isFull() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.count >= mostKept
}

func (k *Kept) add(typeName string, selections ast.SelectionSet, plan Plan) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.find(typeName, selections); ok {
		return // another has been as quick
	}
	if k.of == nil {
		k.of = map[ast.Selection][]kept{}
	}
	k.of[selections[0]] = append(k.of[selections[0]], kept{typeName, selections, plan})
	k.count++
}

// HasDirective is whether a directive that is such stands somewhere in the selections, fragments that they spread among them.
func HasDirective(selections ast.SelectionSet, fragments ast.FragmentDefinitionList, such func(*ast.Directive) bool) bool {
	seen := map[string]bool{} // fragments
	var within func(ast.SelectionSet) bool
	within = func(selections ast.SelectionSet) bool {
		return slices.ContainsFunc(selections, func(selection ast.Selection) bool {
			switch selection := selection.(type) {
			case *ast.Field:
				return slices.ContainsFunc(selection.Directives, such) || within(selection.SelectionSet)
			case *ast.InlineFragment:
				return slices.ContainsFunc(selection.Directives, such) || within(selection.SelectionSet)
			case *ast.FragmentSpread:
				if slices.ContainsFunc(selection.Directives, such) || seen[selection.Name] {
					return slices.ContainsFunc(selection.Directives, such)
				}
				seen[selection.Name] = true
				return within(fragments.ForName(selection.Name).SelectionSet)
			default:
				return true
			}
		})
	}
	return within(selections)
}

// anyDirective can depend on variables.
func anyDirective(*ast.Directive) bool { return true }
