package plain

import (
	"context"
	"slices"
	"sync"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// Kept is what follows from one document alone, such as plans, for all operations on it: a client asks the same again and again. The zero value has nothing.
type Kept struct {
	mu    sync.RWMutex
	of    map[ast.Selection][]kept // by the first of the selections
	count int
}

// mostKept is how much a document keeps. Directives around a repeated field make other selections of it, and so another plan, for each combination of
// the variables that they name.
const mostKept = 100

// kept is something that follows from selections of objects of a type.
type kept struct {
	typeName   string
	selections ast.SelectionSet
	value      any
}

type operationKey struct{}

// operation is what is known of one for all its responses.
type operation struct {
	kept     *Kept
	answered bool // without the executor, which knows of no response then
}

// Keep is for an operation that is dispatched once. It has what follows from its document kept there, or only for a response where that is nil, and lets the
// operation be answered without the executor.
func Keep(ctx context.Context, there *Kept) context.Context {
	return context.WithValue(ctx, operationKey{}, &operation{kept: there})
}

// Once is what find gives for selections of objects of a type. Find is not called where that is known from before, so it must give the same, which nobody changes,
// for every operation on one document, as far as no directive in the selections has a say. What is found for different purposes has different types.
func Once[V any](ctx context.Context, typeName string, selections ast.SelectionSet, find func() V) V {
	known, _ := ctx.Value(responseKey{}).(*response)
	if known == nil || len(selections) == 0 {
		return find()
	}
	return once(known, graphql.GetOperationContext(ctx), typeName, selections, find)
}

func once[V any](r *response, operation *graphql.OperationContext, typeName string, selections ast.SelectionSet, find func() V) V {
	if r.kept != nil {
		if value, ok := get[V](r.kept, typeName, selections); ok {
			return value
		}
	}
	if value, ok := get[V](&r.own, typeName, selections); ok {
		return value
	}
	value, keep := find(), &r.own
	if r.kept != nil && !r.kept.isFull() && !HasDirective(selections, operation.Doc.Fragments, anyDirective) {
		keep = r.kept
	}
	add(keep, typeName, selections, value)
	return value
}

func get[V any](k *Kept, typeName string, selections ast.SelectionSet) (value V, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return look[V](k, typeName, selections)
}

func look[V any](k *Kept, typeName string, selections ast.SelectionSet) (value V, ok bool) {
	for _, known := range k.of[selections[0]] {
		if value, ok = known.value.(V); ok && known.typeName == typeName && slices.Equal(known.selections, selections) {
			return value, true
		}
	}
	return value, false
}

func (k *Kept) isFull() bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.count >= mostKept
}

func add[V any](k *Kept, typeName string, selections ast.SelectionSet, value V) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := look[V](k, typeName, selections); ok {
		return // another has been as quick
	}
	if k.of == nil {
		k.of = map[ast.Selection][]kept{}
	}
	k.of[selections[0]] = append(k.of[selections[0]], kept{typeName, selections, value})
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
