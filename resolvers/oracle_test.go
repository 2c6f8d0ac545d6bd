package resolvers_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/analytics"
	"github.com/netra-ai/netra/graph"
	"github.com/netra-ai/netra/models"
)

// oracle answers the graph one row at a time from memory, without statements, batches or tenancy of a database: what it answers is
// what the real resolvers must answer. It also notes which fields needed a statement.
type oracle struct {
	dataset
	analytics *analytics.Analytics

	mu        sync.Mutex
	relations map[string]bool // response paths that PostgreSQL is asked for
	questions map[string]bool // response paths that ClickHouse is asked for
	together  map[group][]grouped
}

func (o *oracle) note(ctx context.Context, suffix string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.relations[responsePath(ctx)+suffix] = true
}

// responsePath is the path of ctx without list indices, with the type of each object on it: fields of one name in two kinds of Node
// are two fields.
func responsePath(ctx context.Context) string { return pathOf(graphql.GetFieldContext(ctx)) }

func pathOf(field *graphql.FieldContext) string {
	path := ""
	for ; field != nil; field = field.Parent {
		if field.Field.Field != nil {
			path = field.Object + "." + field.Field.Alias + "/" + path
		}
	}
	return path
}

// sees is the tenancy rule.
func sees(ctx context.Context, userID int) bool {
	viewer, err := models.ViewerFrom(ctx)
	return err == nil && (viewer.Superuser || viewer.UserID == userID)
}

func find[T any](rows []T, matches func(T) bool) (found T, ok bool) {
	if i := slices.IndexFunc(rows, matches); i >= 0 {
		return rows[i], true
	}
	return found, false
}

func (o *oracle) user(ctx context.Context, id int) *models.User {
	user, ok := find(o.users, func(u *models.User) bool { return u.DatabaseID == id && sees(ctx, id) })
	if !ok {
		return nil
	}
	clone := *user
	return &clone
}

func (o *oracle) thread(ctx context.Context, id uuid.UUID) *models.Thread {
	thread, _ := find(o.threads, func(t *models.Thread) bool { return t.DatabaseID == id && sees(ctx, t.UserID) })
	return thread
}

func (o *oracle) message(ctx context.Context, id uuid.UUID) *models.Message {
	message, _ := find(o.messages, func(m *models.Message) bool { return m.DatabaseID == id && o.thread(ctx, m.ThreadID) != nil })
	return message
}

func (o *oracle) run(ctx context.Context, id uuid.UUID) *models.Run {
	run, _ := find(o.runs, func(r *models.Run) bool { return r.DatabaseID == id && sees(ctx, r.UserID) })
	return run
}

func (o *oracle) Query() graph.QueryResolver { return oracleQuery{o} }
func (o *oracle) User() graph.UserResolver   { return oracleUser{o, oracleMeasured[*models.User]{o}} }
func (o *oracle) Thread() graph.ThreadResolver {
	return oracleThread{o, oracleMeasured[*models.Thread]{o}}
}
func (o *oracle) Message() graph.MessageResolver   { return oracleMessage{o} }
func (o *oracle) Run() graph.RunResolver           { return oracleRun{o, oracleMeasured[*models.Run]{o}} }
func (o *oracle) Mutation() graph.MutationResolver { return nil }
func (o *oracle) reference(ctx context.Context, id uuid.UUID) *models.Reference {
	reference, _ := find(o.references, func(r *models.Reference) bool { return r.DatabaseID == id && sees(ctx, r.UserID) })
	return reference
}

func (o *oracle) supplyItem(ctx context.Context, id uuid.UUID) *models.SupplyItem {
	item, _ := find(o.supplyItems, func(s *models.SupplyItem) bool {
		return s.DatabaseID == id && (s.UserID == nil || sees(ctx, *s.UserID))
	})
	return item
}

func (o *oracle) apiKey(ctx context.Context, id uuid.UUID) *models.APIKey {
	apiKey, _ := find(o.apiKeys, func(k *models.APIKey) bool { return k.DatabaseID == id && sees(ctx, k.UserID) })
	return apiKey
}

func (o *oracle) auditLog(ctx context.Context, id int64) *models.AuditLog {
	log, _ := find(o.auditLogs, func(l *models.AuditLog) bool { return l.DatabaseID == id && seesOf(ctx, l.UserID) })
	return log
}

// seesOf is sees for rows that may be nobody's, which superusers see.
func seesOf(ctx context.Context, userID *int) bool {
	if userID == nil {
		return sees(ctx, 0)
	}
	return sees(ctx, *userID)
}

func (o *oracle) Reference() graph.ReferenceResolver               { return oracleReference{o} }
func (o *oracle) SupplyItem() graph.SupplyItemResolver             { return oracleSupplyItem{o} }
func (o *oracle) ApiKey() graph.ApiKeyResolver                     { return oracleAPIKey{o} }
func (o *oracle) AuditLog() graph.AuditLogResolver                 { return oracleAuditLog{o} }
func (o *oracle) SearchHit() graph.SearchHitResolver               { return nil } // searches have tests of their own
func (o *oracle) SimilarReference() graph.SimilarReferenceResolver { return nil }
func (o *oracle) Subscription() graph.SubscriptionResolver         { return nil } // operations of these tests are queries
func (o *oracle) RunStatusChange() graph.RunStatusChangeResolver   { return nil }
func (o *oracle) MessageAddition() graph.MessageAdditionResolver   { return nil }
func (o *oracle) RunTransition() graph.RunTransitionResolver       { return oracleTransition{o} }
func (o *oracle) ThreadActivity() graph.ThreadActivityResolver     { return oracleActivity{o} }

type (
	oracleQuery   struct{ *oracle }
	oracleMessage struct{ *oracle }
	oracleUser    struct {
		*oracle
		oracleMeasured[*models.User]
	}
	oracleThread struct {
		*oracle
		oracleMeasured[*models.Thread]
	}
	oracleRun struct {
		*oracle
		oracleMeasured[*models.Run]
	}

	oracleTransition struct{ *oracle }
	oracleActivity   struct{ *oracle }

	oracleReference  struct{ *oracle }
	oracleSupplyItem struct{ *oracle }
	oracleAPIKey     struct{ *oracle }
	oracleAuditLog   struct{ *oracle }
)

func (o oracleQuery) Viewer(ctx context.Context) (*models.User, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	o.note(ctx, "")
	return o.user(ctx, viewer.UserID), nil
}

// lookup is what every root field by id does: the same answer for what is absent and for what is another's.
func lookup[T any](ctx context.Context, o *oracle, id string, kind models.Kind, read func(models.GlobalID) *T) (*T, error) {
	parsed, err := models.ParseIDOf(kind, id)
	if err != nil {
		return nil, err
	}
	o.note(ctx, "")
	if object := read(parsed); object != nil {
		return object, nil
	}
	return nil, models.Errorf(models.NotFound, "no such %s", kind)
}

func integer(id models.GlobalID) int { n, _ := strconv.Atoi(id.Key); return n }

func (o oracleQuery) User(ctx context.Context, id string) (*models.User, error) {
	return lookup(ctx, o.oracle, id, models.KindUser, func(id models.GlobalID) *models.User { return o.user(ctx, integer(id)) })
}

func (o oracleQuery) Thread(ctx context.Context, id string) (*models.Thread, error) {
	return lookup(ctx, o.oracle, id, models.KindThread, func(id models.GlobalID) *models.Thread { return o.thread(ctx, uuid.MustParse(id.Key)) })
}

func (o oracleQuery) Message(ctx context.Context, id string) (*models.Message, error) {
	return lookup(ctx, o.oracle, id, models.KindMessage, func(id models.GlobalID) *models.Message { return o.message(ctx, uuid.MustParse(id.Key)) })
}

func (o oracleQuery) Run(ctx context.Context, id string) (*models.Run, error) {
	return lookup(ctx, o.oracle, id, models.KindRun, func(id models.GlobalID) *models.Run { return o.run(ctx, uuid.MustParse(id.Key)) })
}

func (o oracleQuery) Node(ctx context.Context, id string) (models.Node, error) {
	parsed, err := models.ParseID(id)
	if err != nil {
		return nil, err
	}
	if parsed.Kind != models.KindWorkload {
		o.note(ctx, "")
	}
	return o.any(ctx, parsed)
}

func (o *oracle) any(ctx context.Context, id models.GlobalID) (models.Node, error) {
	switch id.Kind {
	case models.KindUser:
		if u := o.user(ctx, integer(id)); u != nil {
			return u, nil
		}
	case models.KindThread:
		if t := o.thread(ctx, uuid.MustParse(id.Key)); t != nil {
			return t, nil
		}
	case models.KindMessage:
		if m := o.message(ctx, uuid.MustParse(id.Key)); m != nil {
			return m, nil
		}
	case models.KindRun:
		if r := o.run(ctx, uuid.MustParse(id.Key)); r != nil {
			return r, nil
		}
	case models.KindWorkload:
		w, asked := o.workload(ctx, id)
		if asked {
			o.ask(ctx, &models.Platform{}, responsePath(ctx))
		}
		if w != nil {
			return w, nil
		}
	case models.KindReference:
		if r := o.reference(ctx, uuid.MustParse(id.Key)); r != nil {
			return r, nil
		}
	case models.KindSupplyItem:
		if s := o.supplyItem(ctx, uuid.MustParse(id.Key)); s != nil {
			return s, nil
		}
	case models.KindAPIKey:
		if k := o.apiKey(ctx, uuid.MustParse(id.Key)); k != nil {
			return k, nil
		}
	case models.KindAuditLog:
		if l := o.auditLog(ctx, int64(integer(id))); l != nil {
			return l, nil
		}
	}
	return nil, models.Errorf(models.NotFound, "no such %s", id.Kind)
}

func (o oracleQuery) Nodes(ctx context.Context, ids []string) ([]models.Node, error) {
	nodes := make([]models.Node, len(ids))
	for i, id := range ids {
		parsed, err := models.ParseID(id)
		if err == nil {
			if parsed.Kind != models.KindWorkload {
				o.note(ctx, string(parsed.Kind))
			}
			nodes[i], err = o.any(ctx, parsed)
		}
		if err != nil {
			graphql.AddError(graphql.WithPathContext(ctx, graphql.NewPathWithIndex(i)), err)
		}
	}
	return nodes, nil
}

func (o oracleQuery) Users(ctx context.Context, first *int, after *string, last *int, before *string, f *models.UserFilter, order models.UserOrder) (*models.UserConnection, error) {
	if viewer, err := models.ViewerFrom(ctx); err != nil || !viewer.Superuser {
		return nil, models.Errorf(models.Forbidden, "only superusers may ask for this")
	}
	return list(ctx, o.oracle, o.users, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(u *models.User) bool {
		return f == nil || (f.IsActive == nil || *f.IsActive == u.IsActive) && (f.IsSuperuser == nil || *f.IsSuperuser == u.IsSuperuser) &&
			oneOf(f.Email, &u.Email) && within(f.CreatedAt, u.CreatedAt) && holds(u.Metadata, f.Metadata)
	})
}

func (o oracleUser) Threads(ctx context.Context, user *models.User, first *int, after *string, last *int, before *string, f *models.ThreadFilter, order models.ThreadOrder) (*models.ThreadConnection, error) {
	return list(ctx, o.oracle, o.threads, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(t *models.Thread) bool {
		return t.UserID == user.DatabaseID && sees(ctx, t.UserID) && (f == nil || oneOf(f.Status, &t.Status) &&
			within(f.CreatedAt, t.CreatedAt) && within(f.UpdatedAt, t.UpdatedAt) && holds(t.Metadata, f.Metadata))
	})
}

func (o oracleUser) Runs(ctx context.Context, user *models.User, first *int, after *string, last *int, before *string, f *models.RunFilter, order models.RunOrder) (*models.RunConnection, error) {
	return list(ctx, o.oracle, o.runs, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(r *models.Run) bool {
		return r.UserID == user.DatabaseID && sees(ctx, r.UserID) && runMatches(f, r)
	})
}

func (o oracleThread) Runs(ctx context.Context, thread *models.Thread, first *int, after *string, last *int, before *string, f *models.RunFilter, order models.RunOrder) (*models.RunConnection, error) {
	return list(ctx, o.oracle, o.runs, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(r *models.Run) bool {
		return r.ThreadID != nil && *r.ThreadID == thread.DatabaseID && sees(ctx, r.UserID) && runMatches(f, r)
	})
}

func (o oracleThread) Messages(ctx context.Context, thread *models.Thread, first *int, after *string, last *int, before *string, f *models.MessageFilter, order models.MessageOrder) (*models.MessageConnection, error) {
	return list(ctx, o.oracle, o.messages, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(m *models.Message) bool {
		return m.ThreadID == thread.DatabaseID && sees(ctx, thread.UserID) && (f == nil || oneOf(f.Role, &m.Role) && oneOf(f.Model, m.Model) &&
			within(f.CreatedAt, m.CreatedAt) && holds(m.Metadata, f.Metadata))
	})
}

func (o oracleThread) User(ctx context.Context, thread *models.Thread) (*models.User, error) {
	o.note(ctx, "")
	return o.user(ctx, thread.UserID), nil
}

func (o oracleMessage) Thread(ctx context.Context, message *models.Message) (*models.Thread, error) {
	o.note(ctx, "")
	return o.thread(ctx, message.ThreadID), nil
}

func (o oracleRun) User(ctx context.Context, run *models.Run) (*models.User, error) {
	o.note(ctx, "")
	return o.user(ctx, run.UserID), nil
}

func (o oracleRun) Thread(ctx context.Context, run *models.Run) (*models.Thread, error) {
	if run.ThreadID == nil {
		return nil, nil
	}
	o.note(ctx, "")
	return o.thread(ctx, *run.ThreadID), nil
}

func (o oracleRun) Timeline(ctx context.Context, run *models.Run, first *int, after *string, last *int, before *string) (*models.RunTransitionConnection, error) {
	var rows []*models.RunTransition
	for _, t := range o.transitions {
		if t.RunID == run.DatabaseID && sees(ctx, t.user) {
			rows = append(rows, &t.RunTransition)
		}
	}
	return list(ctx, o.oracle, rows, models.PageArguments{First: first, After: after, Last: last, Before: before}, models.TimelineOrder,
		func(*models.RunTransition) bool { return true })
}

func (o oracleTransition) Run(ctx context.Context, transition *models.RunTransition) (*models.Run, error) {
	o.note(ctx, "")
	return o.run(ctx, transition.RunID), nil
}

func (o oracleThread) Activity(ctx context.Context, thread *models.Thread, first *int, after *string, last *int, before *string) (*models.ThreadActivityConnection, error) {
	var rows []*models.ThreadActivity
	for _, m := range o.messages {
		if m.ThreadID == thread.DatabaseID && sees(ctx, thread.UserID) {
			rows = append(rows, &models.ThreadActivity{ThreadID: m.ThreadID, At: m.CreatedAt, MessageID: &m.DatabaseID})
		}
	}
	for _, t := range o.transitions {
		if t.thread != nil && *t.thread == thread.DatabaseID && sees(ctx, t.user) {
			rows = append(rows, &models.ThreadActivity{ThreadID: *t.thread, At: t.At, Transition: &t.Seq})
		}
	}
	return list(ctx, o.oracle, rows, models.PageArguments{First: first, After: after, Last: last, Before: before}, models.ActivityOrder,
		func(*models.ThreadActivity) bool { return true })
}

func (o oracleActivity) Message(ctx context.Context, activity *models.ThreadActivity) (*models.Message, error) {
	if activity.MessageID == nil {
		return nil, nil
	}
	o.note(ctx, "")
	return o.message(ctx, *activity.MessageID), nil
}

func (o oracleActivity) Transition(ctx context.Context, activity *models.ThreadActivity) (*models.RunTransition, error) {
	if activity.Transition == nil {
		return nil, nil
	}
	o.note(ctx, "")
	found, ok := find(o.transitions, func(t *transition) bool { return t.Seq == *activity.Transition && sees(ctx, t.user) })
	if !ok {
		return nil, nil
	}
	return &found.RunTransition, nil
}

// list pages through rows by sorting all of them.
func list[T models.Listed](ctx context.Context, o *oracle, rows []T, args models.PageArguments, order models.Order, matches func(T) bool) (*models.Connection[T], error) {
	page, err := models.NewPage(args, order)
	if err != nil {
		return nil, err
	}
	if wantsRows(ctx) {
		o.note(ctx, "")
	}
	var all []T
	for _, row := range rows {
		if matches(row) {
			all = append(all, row)
		}
	}
	slices.SortFunc(all, func(a, b T) int { return compare(a.Cursor(order), b.Cursor(order), order) })
	var inside []T
	for _, row := range all {
		c := row.Cursor(order)
		if (page.After == nil || compare(c, *page.After, order) > 0) && (page.Before == nil || compare(c, *page.Before, order) < 0) {
			inside = append(inside, row)
		}
	}
	shown := inside
	if more := len(inside) - page.Limit; more > 0 && page.Backward {
		shown = inside[more:]
	} else if more > 0 {
		shown = inside[:page.Limit]
	}
	return models.NewConnection(shown, page, len(inside) > page.Limit, func(ctx context.Context) (int, error) {
		o.note(ctx, "")
		return len(all), nil
	}), nil
}

// wantsRows is false where a connection is asked for its length alone.
func wantsRows(ctx context.Context) bool { return wants(ctx, "nodes", "edges", "pageInfo") }

// compare orders two positions: by value, then by id.
func compare(a, b models.Cursor, order models.Order) int {
	c := cmp.Or(compareValues(a.Value, b.Value, order.Type), compareIDs(a.ID, b.ID, order.IDType))
	if order.Descending {
		return -c
	}
	return c
}

func compareValues(a, b string, kind models.ColumnType) int {
	if kind == models.Bigint {
		return compareIDs(a, b, kind)
	}
	return strings.Compare(a, b)
}

func compareIDs(a, b string, kind models.ColumnType) int {
	if kind == models.ActivityKey && a[0] == b[0] {
		return compareIDs(a[1:], b[1:], map[byte]models.ColumnType{'m': models.UUID, 'r': models.Bigint}[a[0]])
	}
	if kind == models.ActivityKey {
		return strings.Compare(a, b)
	}
	if kind == models.UUID {
		x, y := uuid.MustParse(a), uuid.MustParse(b)
		return bytes.Compare(x[:], y[:])
	}
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return cmp.Compare(x, y)
}

func runMatches(f *models.RunFilter, r *models.Run) bool {
	return f == nil || oneOf(f.Status, &r.Status) && oneOf(f.AgentType, r.AgentType) && within(f.CreatedAt, r.CreatedAt) && holds(r.Metadata, f.Metadata)
}

func oneOf[T comparable](allowed []T, value *T) bool {
	return allowed == nil || value != nil && slices.Contains(allowed, *value)
}

func within(span *models.TimeFilter, t time.Time) bool {
	return span == nil || (span.From == nil || !t.Before(*span.From)) && (span.To == nil || t.Before(*span.To))
}

// holds is jsonb containment of one flat document in another.
func holds(whole, part models.JSON) bool {
	if part == nil {
		return true
	}
	var w, p map[string]any
	if json.Unmarshal(whole, &w) != nil || json.Unmarshal(part, &p) != nil {
		return false
	}
	for key, value := range p {
		if w[key] != value {
			return false
		}
	}
	return true
}
