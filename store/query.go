package store

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/netra-ai/netra/models"
)

// table says how a table is read: some columns always, for the store, the loaders and cursors to rely on; the others cost many bytes, a detoast or an
// allocation and are read only when an operation selects them.
type table struct {
	name   string
	always string
	wide   []wide // in the order in which they are read
}

// wide is a column that is read for a GraphQL field.
type wide struct{ field, column string }

var (
	users = table{"users",
		"id, email, name, oauth_provider, oauth_id, picture, is_active, is_superuser, created_at, updated_at, last_login_at",
		[]wide{{"metadata", "metadata"}}}
	threads = table{"threads",
		"id, user_id, title, status, created_at, updated_at, version",
		[]wide{{"metadata", "metadata"}}}
	messages = table{"messages",
		"id, thread_id, role, created_at",
		[]wide{{"tokensUsed", "tokens_used"}, {"model", "model"}, {"content", "content"}, {"metadata", "metadata"}}}
	runs = table{"runs",
		"id, thread_id, user_id, status, created_at, version",
		[]wide{{"agentType", "agent_type"}, {"startedAt", "started_at"}, {"completedAt", "completed_at"}, {"inputData", "input_data"}, {"outputData", "output_data"}, {"errorMessage", "error_message"}, {"metadata", "metadata"}}}
)

// Fields are names of GraphQL fields that an operation selects. Names of other fields do not matter.
type Fields []string

// columns is a list for SELECT, always in the same order for the same fields, so that one prepared statement serves them.
func (t table) columns(selected Fields) string {
	list := t.always
	for _, w := range t.wide {
		if slices.Contains(selected, w.field) {
			list += ", " + w.column
		}
	}
	return list
}

// statement builds parameterised SQL. Text comes from this package only; everything from outside is an argument.
type statement struct {
	strings.Builder
	args []any
	rows int // at most, where it reads rows by their ids, or pages of whole lists, each along the index of its order, and so takes about as long as it has rows; else zero
}

// fixed is a statement whose text is known.
func fixed(text string, args ...any) *statement {
	s := &statement{args: args}
	s.WriteString(text)
	return s
}

// arg adds an argument and returns its placeholder.
func (s *statement) arg(value any) string {
	s.args = append(s.args, value)
	return "$" + strconv.Itoa(len(s.args))
}

// and adds a condition. Few rows may meet it, and all of a list be looked at to find them.
func (s *statement) and(column, operator string, value any, cast string) {
	s.rows = 0
	s.WriteString(" AND " + column + " " + operator + " " + s.arg(value) + cast)
}

// anyOf narrows column to values, unless values is nil. The planner looks at them: some may be rare.
func anyOf[V ~string](s *statement, column string, values []V) {
	if values != nil {
		s.rows = 0
		s.WriteString(" AND " + column + " = ANY(" + s.arg(textsOf(values)) + "::text[])")
	}
}

func textsOf[V ~string](values []V) []string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = string(value)
	}
	return list
}

func (s *statement) within(column string, span *models.TimeFilter) {
	if span == nil {
		return
	}
	if span.From != nil {
		s.and(column, ">=", *span.From, "::timestamptz")
	}
	if span.To != nil {
		s.and(column, "<", *span.To, "::timestamptz")
	}
}

func (s *statement) containing(column string, document models.JSON) {
	if document != nil {
		s.and(column, "@>", string(document), "::jsonb")
	}
}

// page adds the keyset conditions, the order and the limit: one row more than the page, which tells whether the list goes on.
// A backward page comes out reversed.
func (s *statement) page(page models.Page) {
	order := page.Order
	beyond, within := ">", "<"
	if order.Descending {
		beyond, within = within, beyond
	}
	s.bound(order, beyond, page.After)
	s.bound(order, within, page.Before)
	direction := ""
	if order.Descending != page.Backward {
		direction = " DESC"
	}
	// Not an argument: of a limit that it does not know, PostgreSQL expects a tenth of the rows, and would plan anew each time to learn better.
	s.WriteString(" ORDER BY " + order.Column + direction + ", id" + direction + " LIMIT " + strconv.Itoa(page.Rows()))
}

// keys adds a list of keys for unnest and = ANY. It stands in a subquery so that the planner does not see how long it is: a plan made for the very
// list would always seem cheaper than one for any list, and a statement would be planned anew each time, at up to twice the cost of running it.
func (s *statement) keys(list any, key string) string {
	return "(SELECT " + s.arg(list) + "::" + key + "[])::" + key + "[]"
}

func lengthOf(list any) int { return reflect.ValueOf(list).Len() }

func (s *statement) bound(order models.Order, operator string, cursor *models.Cursor) {
	if cursor != nil {
		s.WriteString(" AND (" + order.Column + ", id) " + operator +
			" (" + s.arg(cursor.Value) + "::text::" + string(order.Type) + ", " + s.arg(cursor.ID) + "::text::" + string(order.IDType) + ")")
	}
}

// child is a list that every parent has: rows of a table.
type child struct {
	table
	parents func(s *statement, ctx context.Context, keys any) string // a relation parent
	of      string                                                   // which rows are a parent's
}

const ofUser, ofThread = "user_id = parent.key", "user_id = parent.tenant AND thread_id = parent.key"

var (
	threadsOfUser    = child{threads, (*statement).users, ofUser}
	runsOfUser       = child{runs, (*statement).users, ofUser}
	messagesOfThread = child{messages, (*statement).threads, ofThread}
	runsOfThread     = child{runs, (*statement).threads, ofThread}
)

func (s *statement) users(_ context.Context, ids any) string { return s.parents(ids, "int") }

// parents is keys as a relation.
func (s *statement) parents(list any, key string) string {
	return "(SELECT unnest(" + s.keys(list, key) + ") AS key) AS parent"
}

// threads has whose a thread is besides, which comes first in the indexes of what is in threads: all that a user has is close together there, and a page of
// threads reads a few pages of the index where it would read one for each, unless the user has thousands. An ordinary viewer sees nobody else's.
func (s *statement) threads(ctx context.Context, ids any) string {
	keys := s.keys(ids, "uuid")
	viewer, _ := models.ViewerFrom(ctx) // without one nothing is seen
	if viewer.Superuser {
		return "(SELECT id AS key, user_id AS tenant FROM threads WHERE id = ANY(" + keys + ")) AS parent"
	}
	return "(SELECT unnest(" + keys + ") AS key, " + s.arg(viewer.UserID) + "::int AS tenant) AS parent"
}

// pages is one page for each of parents. Rows of one parent come in the page's order: a nested loop is the only plan for a lateral
// subquery with a LIMIT, and it keeps the subquery's order.
func (c child) pages(ctx context.Context, parents any, page models.Page, selected Fields, filter func(*statement)) *statement {
	s := &statement{rows: lengthOf(parents) * page.Rows()}
	s.WriteString("SELECT " + c.name + ".* FROM " + c.parents(s, ctx, parents) + " CROSS JOIN LATERAL (SELECT " + c.columns(selected) +
		" FROM " + c.name + " WHERE " + c.of)
	filter(s)
	s.page(page)
	s.WriteString(") AS " + c.name)
	return s
}

// counts is the number of rows of each of parents.
func (c child) counts(ctx context.Context, parents any, filter func(*statement)) *statement {
	s := new(statement)
	s.WriteString("SELECT key, count FROM " + c.parents(s, ctx, parents) + " CROSS JOIN LATERAL (SELECT count(*) AS count FROM " + c.name + " WHERE " + c.of)
	filter(s)
	s.WriteString(") AS counted")
	return s
}

// byID is the rows with these ids.
func (t table) byID(ids any, key string, selected Fields) *statement {
	s := &statement{rows: lengthOf(ids)}
	s.WriteString("SELECT " + t.columns(selected) + " FROM " + t.name + " WHERE id = ANY(" + s.keys(ids, key) + ")")
	return s
}

// count reads what counts asks.
func count[K comparable](ctx context.Context, s *Store, q *statement) (map[K]int, error) {
	alone(ctx)
	rows, err := s.db.DB.QueryContext(ctx, q.String(), q.args...)
	if err != nil {
		return nil, translate(ctx, err)
	}
	defer rows.Close()
	counts := map[K]int{}
	for rows.Next() {
		var key K
		var n int
		if err := rows.Scan(&key, &n); err != nil {
			return nil, translate(ctx, err)
		}
		counts[key] = n
	}
	return counts, translate(ctx, rows.Err())
}

// number reads one number.
func (s *Store) number(ctx context.Context, q *statement) (int, error) {
	alone(ctx)
	var n int
	err := s.db.DB.QueryRowContext(ctx, q.String(), q.args...).Scan(&n)
	return n, translate(ctx, err)
}
