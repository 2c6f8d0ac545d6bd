package resolvers_test

import (
	"cmp"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

func (o oracleQuery) Reference(ctx context.Context, id string) (*models.Reference, error) {
	return lookup(ctx, o.oracle, id, models.KindReference, func(id models.GlobalID) *models.Reference { return o.reference(ctx, uuid.MustParse(id.Key)) })
}

func (o oracleQuery) SupplyItem(ctx context.Context, id string) (*models.SupplyItem, error) {
	return lookup(ctx, o.oracle, id, models.KindSupplyItem, func(id models.GlobalID) *models.SupplyItem { return o.supplyItem(ctx, uuid.MustParse(id.Key)) })
}

func (o oracleQuery) APIKey(ctx context.Context, id string) (*models.APIKey, error) {
	return lookup(ctx, o.oracle, id, models.KindAPIKey, func(id models.GlobalID) *models.APIKey { return o.apiKey(ctx, uuid.MustParse(id.Key)) })
}

func (o oracleQuery) AuditLog(ctx context.Context, id string) (*models.AuditLog, error) {
	return lookup(ctx, o.oracle, id, models.KindAuditLog, func(id models.GlobalID) *models.AuditLog { return o.auditLog(ctx, int64(integer(id))) })
}

func (o oracleReference) User(ctx context.Context, reference *models.Reference) (*models.User, error) {
	o.note(ctx, "")
	return o.user(ctx, reference.UserID), nil
}

// DownloadURL is null: nothing in the data was uploaded.
func (oracleReference) DownloadURL(context.Context, *models.Reference) (*string, error) {
	return nil, nil
}

func (o oracleAPIKey) User(ctx context.Context, apiKey *models.APIKey) (*models.User, error) {
	o.note(ctx, "")
	return o.user(ctx, apiKey.UserID), nil
}

func (o oracleSupplyItem) User(ctx context.Context, item *models.SupplyItem) (*models.User, error) {
	return o.userOf(ctx, item.UserID)
}

func (o oracleAuditLog) User(ctx context.Context, log *models.AuditLog) (*models.User, error) {
	return o.userOf(ctx, log.UserID)
}

func (o *oracle) userOf(ctx context.Context, userID *int) (*models.User, error) {
	if userID == nil {
		return nil, nil
	}
	o.note(ctx, "")
	return o.user(ctx, *userID), nil
}

func (o oracleUser) References(ctx context.Context, user *models.User, first *int, after *string, last *int, before *string, f *models.ReferenceFilter, order models.ReferenceOrder) (*models.ReferenceConnection, error) {
	return list(ctx, o.oracle, o.references, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(r *models.Reference) bool {
		return r.UserID == user.DatabaseID && sees(ctx, r.UserID) && (f == nil || oneOf(f.Type, &r.Type) && oneOf(f.MimeType, r.MimeType) &&
			(f.HasEmbedding == nil || *f.HasEmbedding == r.HasEmbedding) && oneOf(f.EmbeddingStatus, &r.EmbeddingStatus) && within(f.CreatedAt, r.CreatedAt) && within(f.UpdatedAt, r.UpdatedAt) && holds(r.Metadata, f.Metadata))
	})
}

func (o oracleUser) APIKeys(ctx context.Context, user *models.User, first *int, after *string, last *int, before *string, f *models.APIKeyFilter, order models.APIKeyOrder) (*models.APIKeyConnection, error) {
	return list(ctx, o.oracle, o.apiKeys, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(k *models.APIKey) bool {
		return k.UserID == user.DatabaseID && sees(ctx, k.UserID) && (f == nil || (f.IsActive == nil || *f.IsActive == k.IsActive) &&
			within(f.CreatedAt, k.CreatedAt) && holds(k.Metadata, f.Metadata))
	})
}

func (o oracleUser) AuditLogs(ctx context.Context, user *models.User, first *int, after *string, last *int, before *string, f *models.AuditLogFilter, order models.AuditLogOrder) (*models.AuditLogConnection, error) {
	return list(ctx, o.oracle, o.auditLogs, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(l *models.AuditLog) bool {
		return l.UserID != nil && *l.UserID == user.DatabaseID && sees(ctx, *l.UserID) && auditLogMatches(f, l)
	})
}

func (o oracleQuery) AuditLogs(ctx context.Context, first *int, after *string, last *int, before *string, f *models.AuditLogFilter, order models.AuditLogOrder) (*models.AuditLogConnection, error) {
	return list(ctx, o.oracle, o.auditLogs, models.PageArguments{First: first, After: after, Last: last, Before: before}, order.Order(), func(l *models.AuditLog) bool {
		return seesOf(ctx, l.UserID) && auditLogMatches(f, l)
	})
}

func auditLogMatches(f *models.AuditLogFilter, l *models.AuditLog) bool {
	return f == nil || oneOf(f.Action, &l.Action) && oneOf(f.ResourceType, l.ResourceType) && oneOf(f.ResourceID, l.ResourceID) && oneOf(f.RequestID, l.RequestID) &&
		oneOf(f.ResponseStatus, l.ResponseStatus) && within(f.CreatedAt, l.CreatedAt) && holds(l.Metadata, f.Metadata)
}

func (o oracleUser) SupplyItems(ctx context.Context, user *models.User, first *int, after *string, last *int, before *string, f *models.SupplyItemFilter, order models.SupplyItemOrder) (*models.SupplyItemConnection, error) {
	return o.items(ctx, models.PageArguments{First: first, After: after, Last: last, Before: before}, f, order, func(s *models.SupplyItem) bool {
		return s.UserID != nil && *s.UserID == user.DatabaseID && sees(ctx, *s.UserID)
	})
}

func (o oracleQuery) SupplyItems(ctx context.Context, first *int, after *string, last *int, before *string, f *models.SupplyItemFilter, order models.SupplyItemOrder) (*models.SupplyItemConnection, error) {
	viewer, err := models.ViewerFrom(ctx)
	if err != nil {
		return nil, err
	}
	return o.items(ctx, models.PageArguments{First: first, After: after, Last: last, Before: before}, f, order, func(s *models.SupplyItem) bool {
		return s.UserID == nil || *s.UserID == viewer.UserID
	})
}

func (o *oracle) items(ctx context.Context, args models.PageArguments, f *models.SupplyItemFilter, order models.SupplyItemOrder, belongs func(*models.SupplyItem) bool) (*models.SupplyItemConnection, error) {
	if f != nil {
		for _, conditions := range [][]models.JSONCondition{f.Specifications, f.Pricing, f.Availability, f.PerformanceMetrics} {
			if err := models.CheckConditions(conditions); err != nil {
				return nil, err
			}
		}
	}
	return list(ctx, o, o.supplyItems, args, order.Order(), func(s *models.SupplyItem) bool {
		return belongs(s) && (f == nil || oneOf(f.Category, &s.Category) && oneOf(f.Provider, s.Provider) && (f.IsActive == nil || *f.IsActive == s.IsActive) &&
			(f.IsSystem == nil || *f.IsSystem == s.IsSystem()) && within(f.CreatedAt, s.CreatedAt) && holds(s.Metadata, f.Metadata) &&
			meets(s.Specifications, f.Specifications) && meets(s.Pricing, f.Pricing) && meets(s.Availability, f.Availability) && meets(s.PerformanceMetrics, f.PerformanceMetrics))
	})
}

// meets evaluates conditions on a document.
func meets(document models.JSON, conditions []models.JSONCondition) bool {
	return !slices.ContainsFunc(conditions, func(c models.JSONCondition) bool {
		at, there := any(nil), document != nil
		if there {
			at, there = walk(decoded(document), c.Path)
		}
		if c.Operator == models.JSONExists {
			return there != (string(c.Value) != "false")
		}
		return !there || !compares(at, c.Operator, decoded(c.Value))
	})
}

func decoded(document models.JSON) (value any) {
	if err := json.Unmarshal(document, &value); err != nil {
		panic(err)
	}
	return value
}

func walk(at any, path []string) (any, bool) {
	for _, step := range path {
		switch whole := at.(type) {
		case map[string]any:
			inner, ok := whole[step]
			if !ok {
				return nil, false
			}
			at = inner
		case []any:
			place, err := strconv.Atoi(step)
			if place < 0 {
				place += len(whole)
			}
			if err != nil || place < 0 || place >= len(whole) {
				return nil, false
			}
			at = whole[place]
		default:
			return nil, false
		}
	}
	return at, true
}

func compares(at any, operator models.JSONOperator, value any) bool {
	order := func(allowed ...int) bool {
		switch x := at.(type) {
		case float64:
			y, ok := value.(float64)
			return ok && slices.Contains(allowed, cmp.Compare(x, y))
		case string:
			y, ok := value.(string)
			return ok && slices.Contains(allowed, strings.Compare(x, y))
		}
		return false
	}
	switch operator {
	case models.JSONEqual:
		return reflect.DeepEqual(at, value)
	case models.JSONNotEqual:
		return !reflect.DeepEqual(at, value)
	case models.JSONLess:
		return order(-1)
	case models.JSONLessOrEqual:
		return order(-1, 0)
	case models.JSONGreater:
		return order(1)
	case models.JSONGreaterOrEqual:
		return order(1, 0)
	case models.JSONIn:
		return slices.ContainsFunc(value.([]any), func(choice any) bool { return reflect.DeepEqual(at, choice) })
	case models.JSONContains:
		list, isList := at.([]any)
		if _, document := value.(map[string]any); isList && !document && reflect.TypeOf(value) != reflect.TypeOf(list) {
			return slices.ContainsFunc(list, func(item any) bool { return reflect.DeepEqual(item, value) })
		}
		return containsJSON(at, value)
	}
	panic(operator)
}

// containsJSON is jsonb containment.
func containsJSON(whole, part any) bool {
	switch part := part.(type) {
	case map[string]any:
		w, ok := whole.(map[string]any)
		for key, value := range part {
			inner, there := w[key]
			ok = ok && there && containsJSON(inner, value)
		}
		return ok
	case []any:
		w, ok := whole.([]any)
		return ok && !slices.ContainsFunc(part, func(item any) bool {
			return !slices.ContainsFunc(w, func(inner any) bool { return containsJSON(inner, item) })
		})
	default:
		return reflect.DeepEqual(whole, part)
	}
}

func (o oracleQuery) Search(context.Context, string, []models.SearchType, *models.SimilarityInput, *int, *string) (*models.SearchConnection, error) {
	panic("searches have tests of their own")
}

func (o oracleQuery) SimilarReferences(context.Context, models.SimilarityInput, int, *float64) ([]*models.SimilarReference, error) {
	panic("searches have tests of their own")
}
