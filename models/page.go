package models

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

const (
	DefaultPageSize = 20
	MaxPageSize     = 100
)

// OrderDirection is ASC or DESC.
type OrderDirection string

const (
	Ascending  OrderDirection = "ASC"
	Descending OrderDirection = "DESC"
)

// ColumnType is the type of a column that a cursor holds: PostgreSQL's, or the key of a workload.
type ColumnType string

const (
	Timestamp ColumnType = "timestamptz"
	Text      ColumnType = "text"
	Integer   ColumnType = "integer"
	Bigint    ColumnType = "bigint"
	UUID      ColumnType = "uuid"
	Number    ColumnType = "double precision"

	WorkloadKey ColumnType = "workload"
	ActivityKey ColumnType = "activity"
)

// Order is a column that has a keyset index, and a direction. Ties are broken by id in the same direction.
type Order struct {
	Column     string
	Type       ColumnType
	IDType     ColumnType
	Descending bool
}

// Page is a slice of an ordered list: at most Limit rows after After and before Before, from the list's end when Backward.
type Page struct {
	Limit    int
	Backward bool
	After    *Cursor
	Before   *Cursor
	Order    Order
	Bare     bool // nobody wants to know whether the list goes on
}

// Rows is how many rows are read for the page: one more than it has, which tells whether the list goes on.
func (p Page) Rows() int {
	if p.Bare {
		return p.Limit
	}
	return p.Limit + 1
}

// PageArguments are a connection's arguments as the client gave them.
type PageArguments struct {
	First, Last   *int
	After, Before *string
}

// NewPage checks a connection's arguments. It fails with BadUserInput.
func NewPage(args PageArguments, order Order) (Page, error) {
	page := Page{Limit: DefaultPageSize, Order: order}
	switch {
	case args.First != nil && args.Last != nil:
		return Page{}, Errorf(BadUserInput, "give first or last, not both")
	case args.First != nil:
		page.Limit = *args.First
	case args.Last != nil:
		page.Limit, page.Backward = *args.Last, true
	case args.Before != nil && args.After == nil:
		page.Backward = true
	}
	if page.Limit < 1 || page.Limit > MaxPageSize {
		return Page{}, Errorf(BadUserInput, "a page has between 1 and %d items", MaxPageSize)
	}
	var err error
	if page.After, err = parseCursor(args.After, order); err != nil {
		return Page{}, err
	}
	if page.Before, err = parseCursor(args.Before, order); err != nil {
		return Page{}, err
	}
	return page, nil
}

// Cursor is a position in an ordered list: the order's value and id of one row. It is opaque to clients.
type Cursor struct {
	Column string `json:"c"`
	Value  string `json:"v"` // a time in RFC 3339 with microseconds, or text
	ID     string `json:"i"`
}

func (c Cursor) String() string {
	raw, _ := json.Marshal(c) // three strings: cannot fail
	return base64.RawURLEncoding.EncodeToString(raw)
}

func parseCursor(s *string, order Order) (*Cursor, error) {
	if s == nil {
		return nil, nil
	}
	malformed := Errorf(BadUserInput, "malformed cursor: use a cursor as the API gave it")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(*s)
	if err != nil || len(raw) > 1000 || !utf8.Valid(raw) {
		return nil, malformed
	}
	var c Cursor
	if err := json.Unmarshal(raw, &c); err != nil || c.String() != *s {
		return nil, malformed
	}
	if c.Column != order.Column {
		return nil, Errorf(BadUserInput, "this cursor belongs to another order of the list")
	}
	if !order.Type.accepts(c.Value) || !order.IDType.accepts(c.ID) {
		return nil, malformed
	}
	return &c, nil
}

// accepts is whether a value is as Cursor writes it: PostgreSQL reads some that Go does not, and Go some that PostgreSQL does not.
func (t ColumnType) accepts(value string) bool {
	var err error
	written := value
	switch t {
	case Timestamp:
		var at time.Time
		at, err = time.Parse(cursorTime, value)
		if written = CursorTime(at); at.Year() < 1 { // PostgreSQL has no year 0
			return false
		}
	case Text:
		err = CheckText(value)
	case Integer:
		var n int64
		n, err = strconv.ParseInt(value, 10, 32)
		written = strconv.FormatInt(n, 10)
	case Bigint:
		var n int64
		n, err = strconv.ParseInt(value, 10, 64)
		written = strconv.FormatInt(n, 10)
	case Number:
		var n float64
		n, err = strconv.ParseFloat(value, 64)
		written = strconv.FormatFloat(n, 'g', -1, 64)
	case UUID:
		var id uuid.UUID
		id, err = uuid.Parse(value)
		written = id.String()
	case WorkloadKey:
		_, _, err = ParseWorkloadKey(value)
	case ActivityKey:
		_, err = ParseActivityKey(value)
	default:
		return false
	}
	return err == nil && written == value
}

const cursorTime = "2006-01-02T15:04:05.000000Z"

// CursorTime is a time as a cursor's value.
func CursorTime(t time.Time) string { return t.UTC().Format(cursorTime) }
