package server

import (
	"context"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/models"
)

// Activity hears what users do: the name of an operation, or of its first root field where it has none, and how long it took. It is called in the
// way of answers, so it must be quick. A subscription counts when it ends.
type Activity func(userID int, action string, took time.Duration)

var _ interface {
	graphql.HandlerExtension
	graphql.OperationInterceptor
} = Activity(nil)

func (Activity) ExtensionName() string                   { return "Activity" }
func (Activity) Validate(graphql.ExecutableSchema) error { return nil }

func (a Activity) InterceptOperation(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return next(ctx)
	}
	operation := graphql.GetOperationContext(ctx).Operation
	began, over := time.Now(), false
	answer := next(ctx)
	return func(ctx context.Context) *graphql.Response {
		response := answer(ctx)
		more := response != nil && (operation.Operation == ast.Subscription || response.HasNext != nil && *response.HasNext)
		if !more && !over {
			over = true
			a(viewer.UserID, actionOf(operation), time.Since(began))
		}
		return response
	}
}

func actionOf(operation *ast.OperationDefinition) string {
	if operation.Name != "" {
		return operation.Name
	}
	return firstField(operation.SelectionSet)
}

func firstField(selections ast.SelectionSet) string {
	for _, selection := range selections {
		switch selection := selection.(type) {
		case *ast.Field:
			return selection.Name
		case *ast.InlineFragment:
			if name := firstField(selection.SelectionSet); name != "" {
				return name
			}
		case *ast.FragmentSpread:
			if name := firstField(selection.Definition.SelectionSet); name != "" {
				return name
			}
		}
	}
	return ""
}
