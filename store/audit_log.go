package store

import (
	"context"

	"github.com/netra-ai/netra/models"
)

var (
	auditLogs = table{"audit_logs",
		"id, user_id, action, resource_type, resource_id, ip_address, user_agent, request_id, response_status, created_at",
		[]wide{{"metadata", "metadata"}}}
	auditLogsOfUser = child{auditLogs, (*statement).users, ofUser}
)

// AuditLogs are those of ids that the viewer may see, in any order.
func (s *Store) AuditLogs(ctx context.Context, ids []int64, selected Fields) ([]*models.AuditLog, error) {
	q := auditLogs.byID(ids, "bigint", selected)
	return query[*models.AuditLog](ctx, s, q)
}

// AuditLogsOfUsers is one page for each user: its rows in the page's order, with one row more where the list goes on.
func (s *Store) AuditLogsOfUsers(ctx context.Context, userIDs []int, page models.Page, filter *models.AuditLogFilter, selected Fields) ([]*models.AuditLog, error) {
	q := auditLogsOfUser.pages(ctx, userIDs, page, selected, auditLogFilter(filter))
	return query[*models.AuditLog](ctx, s, q)
}

// CountAuditLogsOfUsers is how many each user has.
func (s *Store) CountAuditLogsOfUsers(ctx context.Context, userIDs []int, filter *models.AuditLogFilter) (map[int]int, error) {
	return count[int](ctx, s, auditLogsOfUser.counts(ctx, userIDs, auditLogFilter(filter)))
}

// ListAuditLogs is a page of all that the viewer may see, with one row more where the list goes on. It fails with Unauthenticated.
func (s *Store) ListAuditLogs(ctx context.Context, page models.Page, filter *models.AuditLogFilter, selected Fields) ([]*models.AuditLog, error) {
	q := new(statement)
	q.WriteString("SELECT " + auditLogs.columns(selected) + " FROM audit_logs WHERE ")
	if err := q.visibleAuditLogs(ctx); err != nil {
		return nil, err
	}
	auditLogFilter(filter)(q)
	q.page(page)
	return query[*models.AuditLog](ctx, s, q)
}

// CountAuditLogs is the length of the list that ListAuditLogs pages through.
func (s *Store) CountAuditLogs(ctx context.Context, filter *models.AuditLogFilter) (int, error) {
	q := new(statement)
	q.WriteString("SELECT count(*) FROM audit_logs WHERE ")
	if err := q.visibleAuditLogs(ctx); err != nil {
		return 0, err
	}
	auditLogFilter(filter)(q)
	return s.number(ctx, q)
}

// visibleAuditLogs says what row-level security says, in words that an index understands.
func (s *statement) visibleAuditLogs(ctx context.Context) error {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return err
	}
	if viewer.Superuser {
		s.WriteString("true")
		return nil
	}
	s.WriteString("user_id = " + s.arg(viewer.UserID) + "::int")
	return nil
}

func auditLogFilter(f *models.AuditLogFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		anyOf(s, "action", f.Action)
		anyOf(s, "resource_type", f.ResourceType)
		anyOf(s, "resource_id", f.ResourceID)
		anyOf(s, "request_id", f.RequestID)
		if f.ResponseStatus != nil {
			s.rows = 0
			s.WriteString(" AND response_status = ANY(" + s.arg(f.ResponseStatus) + "::int[])")
		}
		s.within("created_at", f.CreatedAt)
		s.containing("metadata", f.Metadata)
	}
}
