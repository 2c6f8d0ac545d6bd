package server

import (
	"context"
	"slices"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/models"
)

// gate stands before execution, for every transport: limits, and what nobody may have without a viewer.
type gate struct {
	limits    Limits
	documents *documents
}

var _ interface {
	graphql.OperationParameterMutator
	graphql.OperationContextMutator
	graphql.OperationInterceptor
	graphql.RootFieldInterceptor
	graphql.ResponseInterceptor
} = (*gate)(nil)

func (*gate) ExtensionName() string                   { return "Gate" }
func (*gate) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationParameters checks a document before it is validated, unless it has been seen already. The executor parses it again, which is
// little beside validation and only happens once for a document.
func (g *gate) MutateOperationParameters(ctx context.Context, params *graphql.RawParams) *gqlerror.Error {
	doc, known := g.documents.Get(ctx, params.Query)
	if !known {
		var failure *gqlerror.Error
		if doc, failure = g.limits.parse(params.Query); failure != nil {
			return failure
		}
	}
	operation := doc.Operations.ForName(params.OperationName)
	switch {
	case operation != nil:
		requestFrom(ctx).setOperation(operation)
		return nil
	case params.OperationName == "":
		return gqlerror.Wrap(models.Errorf(models.BadUserInput, "operationName must say which of the document's operations to run"))
	default:
		return gqlerror.Wrap(models.Errorf(models.BadUserInput, "the document has no operation %.60q", params.OperationName))
	}
}

// MutateOperationContext weighs a validated operation with its variables.
func (g *gate) MutateOperationContext(ctx context.Context, operation *graphql.OperationContext) *gqlerror.Error {
	operation.DisableIntrospection = false
	for _, variable := range operation.Operation.VariableDefinitions {
		// One with a default may be null where null is not allowed, at which gqlgen panics.
		if variable.DefaultValue != nil && !variable.Type.NonNull && operation.Variables[variable.Variable] == nil &&
			plain.HasDirective(operation.Operation.SelectionSet, operation.Doc.Fragments, dependsOn(variable.Variable)) {
			return gqlerror.Wrap(models.Errorf(models.BadUserInput, "the variable $%.60s is null: what it decides needs true or false", variable.Variable))
		}
	}
	if n := costOf(operation.Operation, operation.Doc.Fragments, operation.Variables); n > g.limits.Cost {
		return tooComplex("the operation asks for up to %d values; at most %d are allowed: ask for smaller pages", n, g.limits.Cost)
	}
	if mentionsDefer(operation.RawQuery) {
		return g.planDefers(ctx, operation)
	}
	return nil
}

// dependsOn is for directives that a variable decides.
func dependsOn(variable string) func(*ast.Directive) bool {
	return func(d *ast.Directive) bool {
		return slices.ContainsFunc(d.Arguments, func(a *ast.Argument) bool { return a.Value.Kind == ast.Variable && a.Value.Raw == variable })
	}
}

// planDefers takes @defer out of an operation, which then is answered at once, and plans the parts for a client who takes them.
func (g *gate) planDefers(ctx context.Context, operation *graphql.OperationContext) *gqlerror.Error {
	if failure := checkDefers(operation.Doc); failure != nil {
		return failure
	}
	p := &planner{document: operation.Doc, operation: operation.Operation, variables: operation.Variables, limit: g.limits.Defers}
	whole := p.whole()
	if taken, ok := ctx.Value(partsKey{}).(*parts); ok && operation.Operation.Operation == ast.Query {
		first, failure := p.staged()
		if failure != nil {
			return failure
		}
		// The fields that lead to what is deferred are walked again for each part. Where that is too much, everything comes at once.
		if len(first.next) > 0 && first.cost(operation.Variables) <= g.limits.Cost {
			taken.first = first
		}
	}
	operation.Doc, operation.Operation = whole.document, whole.operation
	return nil
}

// InterceptOperation has plans kept with documents that are kept, and refuses subscriptions without a viewer who may read; of other operations only the single field is refused.
func (g *gate) InterceptOperation(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
	operation := graphql.GetOperationContext(ctx)
	if operation.Operation.Operation == ast.Subscription {
		if err := mayRead(ctx); err != nil {
			return graphql.OneShot(&graphql.Response{Errors: gqlerror.List{coded(err.Error(), models.CodeOf(err))}})
		}
	}
	return next(plain.Keep(ctx, g.documents.plans(operation.RawQuery, operation.Doc)))
}

// InterceptRootField keeps strangers from data, as mayRead does where package plain resolves a root field itself: no resolver runs without a viewer.
func (g *gate) InterceptRootField(ctx context.Context, next graphql.RootResolver) graphql.Marshaler {
	root := graphql.GetRootFieldContext(ctx)
	may := mayRead
	if graphql.GetOperationContext(ctx).Operation.Operation == ast.Mutation { // root.Object is the field's name
		may = signedIn
	}
	if err := may(ctx); err != nil && !isIntrospection(root.Field.Name) {
		failure := gqlerror.Wrap(err)
		failure.Path = ast.Path{ast.PathName(root.Field.Alias)}
		if at := root.Field.Position; at != nil {
			failure.Locations = []gqlerror.Location{{Line: at.Line, Column: at.Column}}
		}
		graphql.AddError(ctx, failure)
		return graphql.Null
	}
	return next(ctx)
}

// InterceptResponse gives each response its own account of faults, bounds the number of its errors, and ends queries that take too long.
func (g *gate) InterceptResponse(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	ctx = context.WithValue(ctx, faultsKey{}, &faults{})
	operation := graphql.GetOperationContext(ctx).Operation
	if _, staged := ctx.Value(deliveryKey{}).(*delivery); !staged && (operation == nil || operation.Operation != ast.Subscription) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, g.limits.Timeout)
		defer cancel()
	}
	response := next(ctx)
	if response == nil || len(response.Errors) <= g.limits.Errors {
		return response
	}
	kept := g.limits.Errors - 1
	code, _ := response.Errors[kept].Extensions["code"].(string)
	last := coded("", models.Code(code))
	last.Message = plural(len(response.Errors)-kept, "more error was", "more errors were") + " left out"
	response.Errors = append(response.Errors[:kept:kept], last)
	return response
}
