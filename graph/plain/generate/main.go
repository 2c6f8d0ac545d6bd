// Command generate is gqlgen with a plugin that writes graph/plain.generated.go: how the plain fields of every type are written.
package main

import (
	_ "embed"
	"fmt"
	"go/types"
	"io"
	"log"
	"os"
	"strings"

	"github.com/99designs/gqlgen/api"
	"github.com/99designs/gqlgen/codegen"
	"github.com/99designs/gqlgen/codegen/config"
	"github.com/99designs/gqlgen/codegen/templates"
	"github.com/vektah/gqlparser/v2/ast"
)

//go:embed plain.gotpl
var source string

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate() error {
	log.SetOutput(io.Discard) // as gqlgen's own command does
	cfg, err := config.LoadConfigFromDefaultLocations()
	if err != nil {
		return fmt.Errorf("load gqlgen.yml: %w", err)
	}
	return api.Generate(cfg, api.AddPlugin(plugin{}))
}

type plugin struct{}

func (plugin) Name() string { return "plain" }

// GenerateCode runs when gqlgen knows to which Go field or method each field of the graph is bound.
func (plugin) GenerateCode(data *codegen.Data) error {
	g := &generator{types: map[string]*objectType{}, measured: data.Schema.Types["Measured"]}
	for _, object := range data.Objects {
		if !object.Root && !strings.HasPrefix(object.Name, "__") {
			g.types[object.Name] = &objectType{Object: object}
		}
	}
	list, roots := make([]*objectType, 0, len(g.types)), []plainField(nil)
	for _, object := range data.Objects {
		if t, ok := g.types[object.Name]; ok {
			for _, field := range object.Fields {
				if plain, ok := g.field(field); ok {
					t.Plain = append(t.Plain, plain)
				}
			}
			list = append(list, t)
		}
	}
	for _, field := range data.QueryRoot.Fields {
		if _, ok := g.types[field.TypeReference.Definition.Name]; ok && field.IsResolver && !field.HasDirectives() {
			roots = append(roots, plainField{Field: field})
		}
	}
	return templates.Render(templates.Options{
		PackageName: data.Config.Exec.Package,
		Filename:    data.Config.Exec.DirName + "/plain.generated.go",
		Template:    source,
		Data: struct {
			Types []*objectType
			Roots []plainField
		}{list, roots},
		GeneratedHeader: true,
		Packages:        data.Config.Packages,
	})
}

type generator struct {
	types    map[string]*objectType
	measured *ast.Definition // the interface of what ClickHouse is asked
}

type objectType struct {
	*codegen.Object
	Plain []plainField
}

// plainField is a field bound to a Go field or to a method that takes nothing and cannot fail, or one that is loaded: an object by a resolver, or a leaf
// by a method with a context.
type plainField struct {
	*codegen.Field
	IsLoaded bool

	Of                   *codegen.Object // nil for leaves
	IsList               bool
	NonNull, ItemNonNull bool

	IsPointer bool
	IsNilable bool
	Write     string // the function of package scalar that appends a leaf
	Append    string // the method that appends it in place of the one that gives it, if there is one: text that needs no escapes
}

func (g *generator) field(f *codegen.Field) (plainField, bool) {
	if f.HasHaser || f.VOkFunc || f.HasDirectives() || strings.HasPrefix(f.Name, "__") {
		return plainField{}, false
	}
	ref := f.TypeReference
	p := plainField{Field: f, NonNull: ref.GQL.NonNull}
	_, isObject := g.types[ref.Definition.Name]
	switch {
	case f.IsResolver:
		p.IsLoaded = true
		// What is measured may fail alone, and is more than what was loaded.
		if ref.IsSlice() || !isObject || g.measured.Fields.ForName(f.Name) != nil {
			return plainField{}, false
		}
	case len(f.Args) > 0:
		return plainField{}, false
	case f.GoFieldType == codegen.GoFieldVariable, f.GoFieldType == codegen.GoFieldMethod && f.NoErr && !f.MethodHasContext:
	case f.GoFieldType == codegen.GoFieldMethod && !f.NoErr && f.MethodHasContext:
		p.IsLoaded = true
		if ref.IsSlice() || ref.IsNilable() || isObject {
			return plainField{}, false
		}
	default:
		return plainField{}, false
	}
	if ref.IsSlice() {
		p.IsList = true
		ref = ref.Elem()
		p.ItemNonNull = ref.GQL.NonNull
		if ref.GQL.Elem != nil {
			return plainField{}, false
		}
	}
	if of, ok := g.types[ref.Definition.Name]; ok {
		p.Of = of.Object
		return p, types.Identical(ref.GO, of.Reference())
	}
	_, p.IsPointer = ref.GO.(*types.Pointer)
	p.IsNilable = ref.IsNilable()
	if method, _, _ := types.LookupFieldOrMethod(f.Object.Reference(), true, nil, "Append"+f.GoFieldName); method != nil && f.GoFieldType == codegen.GoFieldMethod {
		p.Append = method.Name()
	}
	return p, p.leaf(ref) && !(p.IsList && (p.IsPointer || p.IsNilable))
}

// Resolver is the method that gives the type's resolver; each call makes it anew.
func (p plainField) Resolver() string {
	of, _, _ := strings.Cut(p.ShortInvocation(), "().")
	return "ec.Resolvers." + of
}

// Get is the Go expression, in which resolver gives that of the type.
func (p plainField) Get() string {
	switch {
	case p.IsResolver:
		_, method, _ := strings.Cut(p.ShortInvocation(), "().")
		return "resolver()." + method
	case p.IsLoaded:
		return "obj." + p.GoFieldName + "(ctx)"
	case p.GoFieldType == codegen.GoFieldMethod:
		return "obj." + p.GoFieldName + "()"
	default:
		return "obj." + p.GoFieldName
	}
}

// leaf finds the function that appends what ref's marshaler writes.
func (p *plainField) leaf(ref *config.TypeReference) bool {
	switch {
	case ref.IsContext || ref.CastType != nil || len(ref.EnumValues) > 0:
		return false
	case ref.IsMarshaler && ref.Definition.IsInputType() && len(ref.Definition.EnumValues) > 0:
		p.Write = "AppendEnum"
	case ref.IsMarshaler:
		p.Write = "AppendMarshaler"
	case ref.Marshaler != nil:
		name, _ := strings.CutPrefix(ref.Marshaler.Name(), "Marshal")
		p.Write = "Append" + name
		return ref.Marshaler.Pkg().Scope().Lookup(p.Write) != nil
	default:
		return false
	}
	return true
}
