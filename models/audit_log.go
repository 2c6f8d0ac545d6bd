package models

import (
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"
)

// AuditLog is a row of audit_logs: something that somebody did. Rows are appended and never changed. One without a user is of a failed
// login or of a user who is gone, and only superusers see it.
type AuditLog struct {
	bun.BaseModel `bun:"table:audit_logs"`
	Batched       `bun:"-"`

	DatabaseID     int64     `bun:"id,pk"`
	UserID         *int      `bun:"user_id"`
	Action         string    `bun:"action"`
	ResourceType   *string   `bun:"resource_type"`
	ResourceID     *string   `bun:"resource_id"`
	IPAddress      *Inet     `bun:"ip_address"`
	UserAgent      *string   `bun:"user_agent"`
	RequestID      *string   `bun:"request_id"`
	ResponseStatus *int      `bun:"response_status"`
	CreatedAt      time.Time `bun:"created_at"`
	Metadata       JSON      `bun:"metadata,type:jsonb"`
}

func (*AuditLog) IsNode()      {}
func (l *AuditLog) ID() string { return globalID(KindAuditLog, strconv.FormatInt(l.DatabaseID, 10)) }

// Cursor is the entry's position under order.
func (l *AuditLog) Cursor(order Order) Cursor {
	return Cursor{Column: order.Column, Value: CursorTime(l.CreatedAt), ID: strconv.FormatInt(l.DatabaseID, 10)}
}

// Inet is an address, or a network, of IPv4 or IPv6 as PostgreSQL writes it: a single host without a prefix length.
type Inet string

// Scan reads an inet column.
func (i *Inet) Scan(src any) error {
	text, ok := src.(string)
	if raw, isBytes := src.([]byte); isBytes {
		text, ok = string(raw), true
	}
	if !ok {
		return Errorf(Internal, "scan %T into Inet", src)
	}
	if prefix, err := netip.ParsePrefix(text); err == nil && prefix.IsSingleIP() {
		text = prefix.Addr().String()
	}
	*i = Inet(text)
	return nil
}

func (i Inet) MarshalGQL(w io.Writer) { _, _ = io.WriteString(w, strconv.Quote(string(i))) } // the writer is a buffer

// UnmarshalGQL takes an address or a network. It fails with BadUserInput.
func (i *Inet) UnmarshalGQL(v any) error {
	text, _ := v.(string)
	if _, err := netip.ParseAddr(text); err == nil && !strings.Contains(text, "%") {
		*i = Inet(text)
		return nil
	}
	if _, err := netip.ParsePrefix(text); err != nil {
		return Errorf(BadUserInput, "expected an address of IPv4 or IPv6")
	}
	return i.Scan(text)
}

// AuditLogOrderField is a column by which audit logs can be listed.
type AuditLogOrderField string

const AuditLogCreatedAt AuditLogOrderField = "CREATED_AT"

func (f AuditLogOrderField) MarshalGQL(w io.Writer) { marshalEnum(w, f) }
func (f *AuditLogOrderField) UnmarshalGQL(v any) error {
	return unmarshalUpper(v, f, []AuditLogOrderField{AuditLogCreatedAt})
}

// AuditLogOrder is the argument `orderBy` of a list of audit logs.
type AuditLogOrder struct {
	Field     AuditLogOrderField
	Direction OrderDirection
}

// Order is the keyset order.
func (o AuditLogOrder) Order() Order {
	return Order{Column: "created_at", Type: Timestamp, IDType: Bigint, Descending: o.Direction == Descending}
}

// AuditLogFilter narrows a list of audit logs.
type AuditLogFilter struct {
	Action         []string
	ResourceType   []string
	ResourceID     []string
	RequestID      []string
	ResponseStatus []int
	CreatedAt      *TimeFilter
	Metadata       JSON
}

type (
	AuditLogConnection = Connection[*AuditLog]
	AuditLogEdge       = Edge[*AuditLog]
)
