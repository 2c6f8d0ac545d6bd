package server

import (
	"reflect"
	"strconv"

	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/models"
)

// unknownLength is how long a list is taken to be whose length no argument tells.
const unknownLength = 10

// costOf is how many values the answer to a validated operation can have: every field is one, and what is in a list counts for each of its
// items. A connection has as many as `first` or `last` says, a field with a list among its arguments as many as that list has.
// Alternatives under different type conditions are added up. Each fragment is walked once.
func costOf(operation *ast.OperationDefinition, fragments ast.FragmentDefinitionList, variables map[string]any) int {
	w := costs{fragments: fragments, variables: variables, known: map[string]cost{}}
	return w.of(operation.SelectionSet).in(unknownLength)
}

// cost is linear in the length of the connection around a selection set, which a fragment does not know.
type cost struct{ fixed, perItem int }

func (c cost) in(length int) int { return saturated(c.fixed + saturated(length*c.perItem)) }

func (c *cost) add(other cost) {
	c.fixed = saturated(c.fixed + other.fixed)
	c.perItem = saturated(c.perItem + other.perItem)
}

type costs struct {
	fragments ast.FragmentDefinitionList
	variables map[string]any
	known     map[string]cost
}

func (w *costs) of(selections ast.SelectionSet) cost {
	var sum cost
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			if included(selection.Directives, w.variables) {
				sum.add(w.field(selection))
			}
		case *ast.InlineFragment:
			if included(selection.Directives, w.variables) {
				sum.add(w.of(selection.SelectionSet))
			}
		case *ast.FragmentSpread:
			if included(selection.Directives, w.variables) {
				sum.add(w.fragment(selection.Name))
			}
		}
	}
	return sum
}

func (w *costs) fragment(name string) cost {
	if c, ok := w.known[name]; ok {
		return c
	}
	var c cost
	if definition := w.fragments.ForName(name); definition != nil {
		c = w.of(definition.SelectionSet)
	}
	w.known[name] = c
	return c
}

func (w *costs) field(field *ast.Field) cost {
	children := w.of(field.SelectionSet)
	if length, ok := pageLength(field, w.variables); ok {
		return cost{fixed: 1 + children.in(length)}
	}
	one := saturated(1 + children.in(unknownLength))
	if field.Definition.Type.Elem == nil {
		return cost{fixed: one}
	}
	if length, ok := itemsAsked(field, w.variables); ok {
		return cost{fixed: saturated(1 + saturated(length)*one)}
	}
	if length, ok := argumentLength(field, w.variables); ok {
		return cost{fixed: saturated(1 + saturated(length)*one)}
	}
	return cost{fixed: 1, perItem: one}
}

// included evaluates @skip and @include.
func included(directives ast.DirectiveList, variables map[string]any) bool {
	return !condition(directives, "skip", variables, false) && condition(directives, "include", variables, true)
}

func condition(directives ast.DirectiveList, name string, variables map[string]any, otherwise bool) bool {
	directive := directives.ForName(name)
	if directive == nil {
		return otherwise
	}
	argument := directive.Arguments.ForName("if")
	if argument == nil {
		return otherwise
	}
	if argument.Value.Kind == ast.Variable {
		value, ok := variables[argument.Value.Raw].(bool)
		if !ok {
			return otherwise
		}
		return value
	}
	return argument.Value.Raw == "true"
}

// pageLength is how many items a connection has at most; false for fields that are none. What is out of bounds will be refused by the
// field itself, in better words.
func pageLength(field *ast.Field, variables map[string]any) (int, bool) {
	length, asked := 0, false
	for _, name := range [...]string{"first", "last"} {
		if field.Definition.Arguments.ForName(name) == nil {
			return 0, false
		}
		argument := field.Arguments.ForName(name)
		if argument == nil {
			continue
		}
		if n, ok := number(argument.Value, variables); ok {
			length, asked = max(length, n), true
		}
	}
	if !asked {
		return models.DefaultPageSize, true
	}
	return min(max(length, 1), models.MaxPageSize), true
}

// itemsAsked is the argument first of a list that is no connection.
func itemsAsked(field *ast.Field, variables map[string]any) (int, bool) {
	argument := field.Arguments.ForName("first")
	if argument == nil {
		return 0, false
	}
	n, ok := number(argument.Value, variables)
	return min(max(n, 1), models.MaxPageSize), ok
}

func number(value *ast.Value, variables map[string]any) (int, bool) {
	text := value.Raw
	switch value.Kind {
	case ast.IntValue:
	case ast.Variable:
		given := reflect.ValueOf(variables[value.Raw])
		switch {
		case given.CanInt():
			return int(given.Int()), true
		case given.Kind() == reflect.String: // json.Number
			text = given.String()
		default:
			return 0, false
		}
	default:
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 32)
	return int(n), err == nil
}

// argumentLength is the length of the longest list among a field's arguments.
func argumentLength(field *ast.Field, variables map[string]any) (int, bool) {
	longest, found := 0, false
	for _, argument := range field.Arguments {
		definition := field.Definition.Arguments.ForName(argument.Name)
		if definition == nil || definition.Type.Elem == nil {
			continue
		}
		length := 1 // a single value stands for a list of one
		switch argument.Value.Kind {
		case ast.ListValue:
			length = len(argument.Value.Children)
		case ast.NullValue:
			continue
		case ast.Variable:
			given := reflect.ValueOf(variables[argument.Value.Raw])
			if !given.IsValid() {
				continue
			}
			if given.Kind() == reflect.Slice {
				length = given.Len()
			}
		}
		longest, found = max(longest, length), true
	}
	return longest, found
}
