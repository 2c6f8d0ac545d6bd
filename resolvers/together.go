package resolvers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/99designs/gqlgen/graphql"

	"github.com/netra-ai/netra/models"
)

// mostTogether bounds how many questions are put to ClickHouse as one, which share the limits of one.
const mostTogether = 25

// beside is a field that the operation selects of the same object.
type beside struct {
	field graphql.CollectedField
	with  arguments
}

// arguments are those that fields of Measured have.
type arguments struct {
	Range               models.TimeRange
	Names               []string
	Name, Metric, By    string
	Step                models.TimeStep
	TimeZone, Unit      *string
	Top, First, Buckets *int
}

// fieldsBeside are those that the object of ctx's field is asked for at the same time, that field among them. They follow from the operation
// alone, so each of them finds the same.
func fieldsBeside(ctx context.Context) []beside {
	field, operation := graphql.GetFieldContext(ctx), graphql.GetOperationContext(ctx)
	collected := selectedOfParent(operation, field)
	deferred := slices.ContainsFunc(collected, func(f graphql.CollectedField) bool { return f.Alias == field.Field.Alias && !f.IsNonDeferrable })
	var fields []beside
	for _, f := range collected {
		if f.IsNonDeferrable == deferred || strings.HasPrefix(f.Name, "__") {
			continue // what is deferred does not hold up the rest
		}
		raw, err := json.Marshal(f.ArgumentMap(operation.Variables))
		if err != nil {
			continue
		}
		known := beside{field: f}
		if err := json.Unmarshal(raw, &known.with); err == nil { // whoever gives arguments in unusual shapes asks alone
			fields = append(fields, known)
		}
	}
	return fields
}

// selectedOfParent is what the whole operation selects of the object that a field belongs to. What the contexts of fields say is, where parts are
// deferred, sometimes of a part.
func selectedOfParent(operation *graphql.OperationContext, field *graphql.FieldContext) []graphql.CollectedField {
	of := field.Parent
	for of != nil && of.Field.Field == nil { // a place in a list
		of = of.Parent
	}
	selections := operation.Operation.SelectionSet
	if of != nil {
		selections = nil
		for _, f := range selectedOfParent(operation, of) {
			if f.Alias == of.Field.Alias {
				selections = f.Selections
			}
		}
	}
	return graphql.CollectFields(operation, selections, []string{field.Object, "Node", "Measured"})
}

// selected are the fields that the operation selects of it.
func (b beside) selected(ctx context.Context) []string {
	return selectedOf(ctx, b.field.Selections, b.field.Definition.Type.Name())
}

// together are the questions that one query answers together with a question: those of its group among all, in one order, and where it stands.
func together[Q interface{ Group() string }](question Q, all []Q) (questions []Q, place int) {
	byName := map[string]Q{}
	for _, other := range all {
		if other.Group() == question.Group() {
			byName[nameOf(other)] = other
		}
	}
	own := nameOf(question)
	if _, found := byName[own]; !found {
		return []Q{question}, 0
	}
	names := make([]string, 0, len(byName))
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	place, _ = slices.BinarySearch(names, own)
	from := place - place%mostTogether
	for _, name := range names[from:min(from+mostTogether, len(names))] {
		questions = append(questions, byName[name])
	}
	return questions, place - from
}

func nameOf(question any) string { return fmt.Sprintf("%T %+v", question, question) }
