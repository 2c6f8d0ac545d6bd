package resolvers

import (
	"cmp"
	"context"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/graph/plain"
	"github.com/netra-ai/netra/store"
)

// selected are the fields that the operation selects of the objects under the field of ctx: of the object itself, or of a connection's
// nodes. The store reads wide columns only for these.
func selected(ctx context.Context) store.Fields {
	field := graphql.GetFieldContext(ctx).Field
	return selectedOf(ctx, field.Selections, field.Definition.Type.Name())
}

// nodeTypes are the connections whose nodes are named otherwise.
var nodeTypes = map[string]string{"SearchConnection": "SearchHit"}

// selectedOf is the same for an object of a type that the field's own type does not tell.
func selectedOf(ctx context.Context, selections ast.SelectionSet, typeName string) store.Fields {
	return plain.Once(ctx, typeName, selections, func() store.Fields {
		return collect(graphql.GetOperationContext(ctx), selections, typeName)
	})
}

func collect(operation *graphql.OperationContext, selections ast.SelectionSet, typeName string) store.Fields {
	node, isConnection := strings.CutSuffix(typeName, "Connection")
	var fields store.Fields
	if !isConnection {
		for _, field := range graphql.CollectFields(operation, selections, []string{typeName, "Node"}) {
			fields = append(fields, field.Name)
		}
		return fields
	}
	of := cmp.Or(nodeTypes[typeName], node)
	for _, field := range graphql.CollectFields(operation, selections, []string{typeName}) {
		switch field.Name {
		case "nodes":
			fields = append(fields, collect(operation, field.Selections, of)...)
		case "edges":
			for _, inner := range graphql.CollectFields(operation, field.Selections, []string{node + "Edge"}) {
				if inner.Name == "node" {
					fields = append(fields, collect(operation, inner.Selections, of)...)
				}
			}
		}
	}
	return fields
}
