package resolvers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/netra-ai/netra/models"
)

// operation is a query with its variables.
type operation struct {
	Query     string         `json:"query"`
	Variables map[string]any `json:"variables,omitempty"`
}

// generator makes random valid operations from nothing but the schema and a pool of ids and cursors.
type generator struct {
	*rand.Rand
	schema    *ast.Schema
	pool      *pool
	variables []string // their definitions
	values    map[string]any
	fragments []string
	named     map[string][]string // fragments by type, for use in several places
	aliases   int
	measuring bool // ask ClickHouse too; a question costs ten times what a statement costs, so not every operation does
}

// pool is what ids and cursors are drawn from: rows of every tenant, and what does not exist or is malformed.
type pool struct {
	ids     []string
	byKind  map[models.Kind][]string
	cursors map[string][]string // by connection type and order column
}

func newPool(d dataset) *pool {
	p := &pool{byKind: map[models.Kind][]string{}, cursors: map[string][]string{}}
	add := func(kind models.Kind, id string) { p.byKind[kind] = append(p.byKind[kind], id) }
	for _, u := range d.users {
		add(models.KindUser, u.ID())
		p.cursor("UserConnection", u, models.UserOrder{Field: models.UserCreatedAt}.Order(), models.UserOrder{Field: models.UserEmail}.Order())
	}
	for _, t := range d.threads {
		add(models.KindThread, t.ID())
		p.cursor("ThreadConnection", t, models.ThreadOrder{Field: models.ThreadCreatedAt}.Order(), models.ThreadOrder{Field: models.ThreadUpdatedAt}.Order())
	}
	for _, m := range d.messages {
		add(models.KindMessage, m.ID())
		p.cursor("MessageConnection", m, models.MessageOrder{}.Order())
	}
	for _, r := range d.runs {
		add(models.KindRun, r.ID())
		p.cursor("RunConnection", r, models.RunOrder{}.Order())
	}
	for _, w := range d.workloads() {
		add(models.KindWorkload, w.ID())
		p.cursor("WorkloadConnection", w, models.RecentWorkloads)
	}
	for i, e := range d.events {
		row := &models.WorkloadEvent{EventID: key("event", i), Timestamp: e.at}
		p.cursor("WorkloadEventConnection", row, models.LatestEvents)
	}
	add(models.KindWorkload, models.GlobalID{Kind: models.KindWorkload, Key: "1:absent"}.String())
	for _, t := range d.transitions {
		p.cursor("RunTransitionConnection", &t.RunTransition, models.TimelineOrder)
		if t.thread != nil {
			p.cursor("ThreadActivityConnection", &models.ThreadActivity{At: t.At, Transition: &t.Seq}, models.ActivityOrder)
		}
	}
	for _, m := range d.messages {
		p.cursor("ThreadActivityConnection", &models.ThreadActivity{At: m.CreatedAt, MessageID: &m.DatabaseID}, models.ActivityOrder)
	}
	for _, r := range d.references {
		add(models.KindReference, r.ID())
		p.cursor("ReferenceConnection", r, models.ReferenceOrder{}.Order(), models.ReferenceOrder{Field: models.ReferenceUpdatedAt}.Order(), models.ReferenceOrder{Field: models.ReferenceName}.Order())
	}
	for _, s := range d.supplyItems {
		add(models.KindSupplyItem, s.ID())
		p.cursor("SupplyItemConnection", s, models.SupplyItemOrder{}.Order(), models.SupplyItemOrder{Field: models.SupplyItemName}.Order())
	}
	for _, k := range d.apiKeys {
		add(models.KindAPIKey, k.ID())
		p.cursor("ApiKeyConnection", k, models.APIKeyOrder{}.Order(), models.APIKeyOrder{Field: models.APIKeyName}.Order())
	}
	for _, l := range d.auditLogs {
		add(models.KindAuditLog, l.ID())
		p.cursor("AuditLogConnection", l, models.AuditLogOrder{}.Order())
	}
	add(models.KindUser, models.GlobalID{Kind: models.KindUser, Key: "2000000000"}.String())
	add(models.KindAuditLog, models.GlobalID{Kind: models.KindAuditLog, Key: "9000000000000000000"}.String())
	for _, kind := range []models.Kind{models.KindThread, models.KindMessage, models.KindRun, models.KindReference, models.KindSupplyItem, models.KindAPIKey} {
		add(kind, models.GlobalID{Kind: kind, Key: uuid.NewString()}.String())
	}
	for _, ids := range p.byKind {
		p.ids = append(p.ids, ids...)
	}
	slices.Sort(p.ids)
	p.ids = append(p.ids, "malformed", "")
	return p
}

func (p *pool) cursor(connection string, row models.Listed, orders ...models.Order) {
	for _, order := range orders {
		p.cursors[connection] = append(p.cursors[connection], row.Cursor(order).String())
	}
}

func newOperation(seed uint64, schema *ast.Schema, p *pool) operation {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), schema: schema, pool: p, values: map[string]any{}, named: map[string][]string{}, measuring: seed%10 == 0}
	selection := g.selection(schema.Query, 3+g.IntN(4))
	query := "query"
	if len(g.variables) > 0 {
		query += "(" + strings.Join(g.variables, ", ") + ")"
	}
	return operation{Query: query + " " + selection + "\n" + strings.Join(g.fragments, "\n"), Variables: g.values}
}

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func one[T any](g *generator, list []T) T { return list[g.IntN(len(list))] }

func (g *generator) composite(t *ast.Type) bool {
	return g.schema.Types[t.Name()].IsCompositeType()
}

// selection selects some fields of a type, to at most depth further levels.
func (g *generator) selection(def *ast.Definition, depth int) string {
	var parts []string
	var fields ast.FieldList
	for _, field := range def.Fields {
		if !strings.HasPrefix(field.Name, "__") && (depth > 0 || !g.composite(field.Type)) && !percentile(field.Name) && !searching(field.Name) && (g.measuring || !g.measured(def, field)) {
			fields = append(fields, field)
		}
	}
	for range 1 + g.IntN(4) {
		if len(fields) > 0 {
			parts = append(parts, g.field(one(g, fields), depth))
		}
	}
	if def.Kind == ast.Interface {
		for _, member := range g.schema.GetPossibleTypes(def) {
			if g.chance(60) && (g.measuring || member.Name != "Workload") {
				parts = append(parts, "... on "+member.Name+" "+g.selection(member, depth))
			}
		}
	}
	if def.Kind == ast.Object && slices.Contains(def.Interfaces, "Node") && g.chance(15) {
		parts = append(parts, "... on Node { id __typename }")
	}
	if def != g.schema.Query && depth > 0 && g.chance(20) {
		parts = append(parts, g.fragment(def, depth))
	}
	parts = append(parts, "__typename")
	return "{ " + strings.Join(parts, " ") + " }"
}

// measured fields are those that ClickHouse answers, and the ways to them.
func (g *generator) measured(def *ast.Definition, field *ast.FieldDefinition) bool {
	return g.schema.Types["Measured"].Fields.ForName(field.Name) != nil || field.Name == "activity" && def.Name != "Thread" || def == g.schema.Query && (field.Name == "platform" || field.Name == "workload")
}

// percentile fields are estimates; they have a test of their own.
func percentile(name string) bool { return len(name) == 3 && name[0] == 'p' }

// searching fields are ranked by the database; they have tests of their own.
func searching(name string) bool { return name == "search" || name == "similarReferences" }

// fragment spreads a fragment: a new one, or one that stands elsewhere too.
func (g *generator) fragment(def *ast.Definition, depth int) string {
	if known := g.named[def.Name]; len(known) > 0 && g.chance(60) {
		return "..." + one(g, known)
	}
	name := "F" + strconv.Itoa(len(g.fragments))
	g.fragments = append(g.fragments, "") // keeps the number
	place := len(g.fragments) - 1
	body := g.selection(def, min(depth, 2)-1)
	g.fragments[place] = "fragment " + name + " on " + def.Name + " " + body
	g.named[def.Name] = append(g.named[def.Name], name) // only now: a fragment must not spread itself
	return "..." + name
}

func (g *generator) field(field *ast.FieldDefinition, depth int) string {
	arguments := g.arguments(field)
	text := field.Name + arguments
	clashes := slices.Contains([]string{"databaseId", "status", "type", "name", "content", "metadata"}, field.Name) // of other types in other kinds of Node
	if arguments != "" || clashes || g.chance(25) {
		g.aliases++
		text = fmt.Sprintf("a%d: %s", g.aliases, text)
	}
	if g.chance(8) {
		text += one(g, []string{" @include(if: true)", " @skip(if: false)", " @include(if: false)", " @skip(if: true)"})
	}
	if g.composite(field.Type) {
		text += " " + g.selection(g.schema.Types[field.Type.Name()], depth-1)
	}
	return text
}

func (g *generator) arguments(field *ast.FieldDefinition) string {
	given := map[string]any{}
	connection := strings.HasSuffix(field.Type.Name(), "Connection")
	for _, argument := range field.Arguments {
		switch name := argument.Name; {
		case name == "id":
			given[name] = g.id()
			if kind := models.Kind(field.Type.Name()); len(g.pool.byKind[kind]) > 0 && g.chance(90) {
				given[name] = one(g, g.pool.byKind[kind])
			}
		case name == "ids":
			ids := []any{}
			for range g.IntN(6) {
				ids = append(ids, g.id())
			}
			given[name] = ids
		case name == "range":
			from := time.Now().UTC().Truncate(time.Hour).Add(-time.Duration(g.IntN(20)*60+g.IntN(3)*7) * time.Minute)
			given[name] = map[string]any{"from": from.Format(time.RFC3339), "to": from.Add(time.Duration(g.IntN(48)) * 30 * time.Minute).Format(time.RFC3339)}
		case name == "names" && g.chance(50):
			given[name] = []any{one(g, []string{"latency_ms", "tokens_output"}), one(g, []string{"cost_usd", "none"})}
		case name == "metric" || name == "name":
			given[name] = one(g, []string{"latency_ms", "latency_ms", "tokens_output", "cost_usd", "none"})
		case name == "by":
			given[name] = one(g, []string{"model", "model", "status", "region", "none"})
		case name == "step":
			given[name] = one(g, g.schema.Types["TimeStep"].EnumValues).Name
		case name == "timeZone" && g.chance(50):
			given[name] = one(g, []string{"Asia/Kolkata", "America/New_York", "Mars/Phobos"})
		case name == "unit" && g.chance(20):
			given[name] = one(g, []string{"ms", "usd", ""})
		case (name == "top" || name == "buckets" || name == "first" && !connection) && g.chance(50):
			given[name] = one(g, []int{1, 2, 5, 0})
		case (name == "after" || name == "before") && g.chance(20):
			given[name] = one(g, g.pool.cursors[field.Type.Name()])
		case (name == "filter" || name == "orderBy") && g.chance(35):
			given[name] = g.input(argument.Type)
		}
	}
	if connection && g.chance(92) {
		given[one(g, []string{"first", "first", "last"})] = 1 + g.IntN(4)
	}
	if connection && g.chance(2) {
		given["first"] = one(g, []int{-1, 0, 101})
	}
	var parts []string
	for _, argument := range field.Arguments {
		if value, ok := given[argument.Name]; ok {
			parts = append(parts, argument.Name+": "+g.place(argument.Type, value))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

func (g *generator) id() string {
	for {
		id := one(g, g.pool.ids)
		if g.measuring || !slices.Contains(g.pool.byKind[models.KindWorkload], id) {
			return id
		}
	}
}

// place writes a value as a literal or moves it into a variable.
func (g *generator) place(t *ast.Type, value any) string {
	if g.chance(40) {
		name := "v" + strconv.Itoa(len(g.variables))
		g.variables = append(g.variables, "$"+name+": "+t.String())
		g.values[name] = value
		return "$" + name
	}
	return g.literal(t, value)
}

func (g *generator) literal(t *ast.Type, value any) string {
	def := g.schema.Types[t.Name()]
	switch value := value.(type) {
	case []any:
		parts := make([]string, len(value))
		for i, item := range value {
			parts[i] = g.literal(t, item)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(value)) {
			item, inner := value[name], t
			if def.Kind == ast.InputObject {
				inner = def.Fields.ForName(name).Type
			}
			parts = append(parts, name+": "+g.literal(inner, item))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case string:
		if def.Kind == ast.Enum {
			return value
		}
	}
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// input makes a value of an input type, with some of its fields.
func (g *generator) input(t *ast.Type) any {
	def := g.schema.Types[t.Name()]
	if t.Elem != nil {
		items := []any{}
		for range 1 + g.IntN(3) {
			items = append(items, g.input(t.Elem))
		}
		return items
	}
	switch {
	case def.Kind == ast.Enum:
		return one(g, def.EnumValues).Name
	case def.Name == "JSONCondition":
		return g.condition()
	case def.Kind == ast.InputObject:
		object := map[string]any{}
		for _, field := range def.Fields {
			if field.Type.NonNull && field.DefaultValue == nil || g.chance(40) {
				object[field.Name] = g.input(field.Type)
			}
		}
		return object
	case def.Name == "Boolean":
		return g.chance(50)
	case def.Name == "DateTime":
		return epoch.Add(time.Duration(g.IntN(20)) * time.Second).Format(time.RFC3339)
	case def.Name == "Int":
		return one(g, []int{200, 404, 500})
	case def.Name == "JSON":
		return map[string]any{"tag": one(g, []string{"red", "blue", "none"})}
	case def.Name == "String":
		return one(g, []string{"large", "small", "triage", "data", mark(tenantA) + "user@example.com", mark(tenantB) + "user@example.com", "compute", "cloud", "text/csv", "thread", "run.start", mark(tenantA) + "request", ""})
	}
	panic("no value for " + def.Name)
}

// condition is about the documents of supply items, or means nothing.
func (g *generator) condition() any {
	operator := one(g, g.schema.Types["JSONOperator"].EnumValues).Name
	values := []any{80, 9.5, 1.1, "80", "fast", nil, []any{"fast"}, []any{80, "80"}, map[string]any{"memory": 80}, true}
	condition := map[string]any{"operator": operator, "path": one(g, []any{[]any{"gpu"}, []any{"gpu", "memory"}, []any{"gpu", "memory"}, []any{"gpu", "tags"}, []any{"gpu", "tags", "0"},
		[]any{"gpu", "memory", "-1"}, []any{"hour"}, []any{"1"}, []any{"' OR true --"}, []any{}})}
	switch {
	case operator == "EXISTS":
		condition["value"] = g.chance(50)
	case operator == "IN" && g.chance(90):
		condition["value"] = []any{one(g, values), one(g, values)}
	default:
		condition["value"] = one(g, values)
	}
	return condition
}
