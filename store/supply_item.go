package store

import (
	"context"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

var (
	supplyItems = table{"supply_catalog",
		"id, user_id, name, category, provider, is_active, created_at, updated_at, version",
		[]wide{{"specifications", "specifications"}, {"pricing", "pricing"}, {"availability", "availability"}, {"performanceMetrics", "performance_metrics"}, {"metadata", "metadata"}}}
	supplyItemsOfUser = child{supplyItems, (*statement).users, ofUser}
)

// SupplyItems are those of ids that the viewer may see, in any order.
func (s *Store) SupplyItems(ctx context.Context, ids []uuid.UUID, selected Fields) ([]*models.SupplyItem, error) {
	q := supplyItems.byID(ids, "uuid", selected)
	return query[*models.SupplyItem](ctx, s, q)
}

// SupplyItemsOfUsers is one page for each user: its rows in the page's order, with one row more where the list goes on.
func (s *Store) SupplyItemsOfUsers(ctx context.Context, userIDs []int, page models.Page, filter *models.SupplyItemFilter, selected Fields) ([]*models.SupplyItem, error) {
	q := supplyItemsOfUser.pages(ctx, userIDs, page, selected, supplyItemFilter(filter))
	return query[*models.SupplyItem](ctx, s, q)
}

// CountSupplyItemsOfUsers is how many each user has.
func (s *Store) CountSupplyItemsOfUsers(ctx context.Context, userIDs []int, filter *models.SupplyItemFilter) (map[int]int, error) {
	return count[int](ctx, s, supplyItemsOfUser.counts(ctx, userIDs, supplyItemFilter(filter)))
}

// ListSupplyItems is a page of the system's items and the viewer's own, with one row more where the list goes on. It fails with
// Unauthenticated.
func (s *Store) ListSupplyItems(ctx context.Context, page models.Page, filter *models.SupplyItemFilter, selected Fields) ([]*models.SupplyItem, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	q := new(statement)
	columns := supplyItems.columns(selected)
	// Two pages, each by its index, of which the first rows in order are the page: one condition with OR has no index.
	q.WriteString("SELECT supply_catalog.* FROM ((SELECT " + columns + " FROM supply_catalog WHERE user_id IS NULL")
	supplyItemFilter(filter)(q)
	q.page(page)
	q.WriteString(") UNION ALL (SELECT " + columns + " FROM supply_catalog WHERE user_id = " + q.arg(viewer.UserID) + "::int")
	supplyItemFilter(filter)(q)
	q.page(page)
	q.WriteString(")) AS supply_catalog WHERE true")
	q.page(page)
	return query[*models.SupplyItem](ctx, s, q)
}

// CountSupplyItems is the length of the list that ListSupplyItems pages through.
func (s *Store) CountSupplyItems(ctx context.Context, filter *models.SupplyItemFilter) (int, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return 0, err
	}
	q := new(statement)
	q.WriteString("SELECT count(*) FROM supply_catalog WHERE (user_id IS NULL OR user_id = " + q.arg(viewer.UserID) + "::int)")
	supplyItemFilter(filter)(q)
	return s.number(ctx, q)
}

func supplyItemFilter(f *models.SupplyItemFilter) func(*statement) {
	return func(s *statement) {
		if f == nil {
			return
		}
		anyOf(s, "category", f.Category)
		anyOf(s, "provider", f.Provider)
		if f.IsActive != nil {
			s.and("is_active", "=", *f.IsActive, "::boolean")
		}
		if f.IsSystem != nil {
			s.and("(user_id IS NULL)", "=", *f.IsSystem, "::boolean")
		}
		s.within("created_at", f.CreatedAt)
		s.conditions("specifications", f.Specifications)
		s.conditions("pricing", f.Pricing)
		s.conditions("availability", f.Availability)
		s.conditions("performance_metrics", f.PerformanceMetrics)
		s.containing("metadata", f.Metadata)
	}
}

// conditions narrows by what stands in a document. Paths and values are arguments, compared as jsonb, which never fails and compares numbers
// as numbers.
func (s *statement) conditions(column string, conditions []models.JSONCondition) {
	for _, c := range conditions {
		s.rows = 0
		if holders := c.Holders(); holders != nil {
			documents := make([]string, len(holders))
			for i, holder := range holders {
				documents[i] = string(holder)
			}
			// Under row-level security the index on containment is out of reach; the function looks there.
			s.WriteString(" AND id IN (SELECT find_supply_items('" + column + "', " + s.arg(documents) + "::text[]))")
		}
		at := column + " #> " + s.arg(c.Path) + "::text[]"
		switch c.Operator {
		case models.JSONExists:
			s.and("("+at+" IS NOT NULL)", "=", c.Wanted(), "::boolean")
		case models.JSONIn:
			choices, _ := c.Choices() // CheckConditions has seen them
			values := make([]string, len(choices))
			for i, choice := range choices {
				values[i] = string(choice)
			}
			s.WriteString(" AND " + at + " = ANY(" + s.arg(values) + "::text[]::jsonb[])")
		case models.JSONContains:
			s.and(at, "@>", string(c.Value), "::jsonb")
		case models.JSONEqual:
			s.and(at, "=", string(c.Value), "::jsonb")
		case models.JSONNotEqual:
			s.and(at, "<>", string(c.Value), "::jsonb")
		default: // an order, which jsonb has between values of different types too
			value := s.arg(string(c.Value)) + "::jsonb"
			s.WriteString(" AND jsonb_typeof(" + at + ") = jsonb_typeof(" + value + ") AND " + at + " " + orders[c.Operator] + " " + value)
		}
	}
}

var orders = map[models.JSONOperator]string{
	models.JSONLess: "<", models.JSONLessOrEqual: "<=", models.JSONGreater: ">", models.JSONGreaterOrEqual: ">=",
}
