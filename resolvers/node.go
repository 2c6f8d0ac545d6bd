package resolvers

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
	"github.com/google/uuid"

	"github.com/netra-ai/netra/loaders"
	"github.com/netra-ai/netra/models"
	"github.com/netra-ai/netra/store"
)

// nodes reads objects by their global ids, with one statement or question for each kind among them. Every place has an object or an error.
func (r *Resolver) nodes(ctx context.Context, ids []string) ([]models.Node, []error) {
	places := make([]place, len(ids))
	for i, id := range ids {
		places[i].id, places[i].err = models.ParseID(id)
	}
	readNodes(ctx, places, models.KindUser, models.GlobalID.Int, r.Store.Users, userKey)
	readNodes(ctx, places, models.KindThread, models.GlobalID.UUID, r.Store.Threads, threadKey)
	readNodes(ctx, places, models.KindMessage, models.GlobalID.UUID, r.Store.Messages, messageKey)
	readNodes(ctx, places, models.KindRun, models.GlobalID.UUID, r.Store.Runs, runKey)
	readNodes(ctx, places, models.KindWorkload, workloadSubject, func(ctx context.Context, subjects []models.Subject, _ store.Fields) ([]*models.Workload, error) {
		return r.Analytics.Workloads(ctx, subjects)
	}, (*models.Workload).Subject)
	readNodes(ctx, places, models.KindReference, models.GlobalID.UUID, r.Store.References, referenceKey)
	readNodes(ctx, places, models.KindSupplyItem, models.GlobalID.UUID, r.Store.SupplyItems, func(s *models.SupplyItem) uuid.UUID { return s.DatabaseID })
	readNodes(ctx, places, models.KindAPIKey, models.GlobalID.UUID, r.Store.APIKeys, func(k *models.APIKey) uuid.UUID { return k.DatabaseID })
	readNodes(ctx, places, models.KindAuditLog, models.GlobalID.Int64, r.Store.AuditLogs, func(l *models.AuditLog) int64 { return l.DatabaseID })
	nodes, errs := make([]models.Node, len(places)), make([]error, len(places))
	for i, p := range places {
		nodes[i], errs[i] = p.node, p.err
	}
	return nodes, errs
}

// place is one of the ids asked for, and what became of it.
type place struct {
	id   models.GlobalID
	node models.Node
	err  error
}

// readNodes fills the places of one kind. The objects become a cohort: their fields are loaded together, and a shared one counts
// once for each of its places.
func readNodes[K comparable, T interface {
	loaders.Object
	models.Node
}](ctx context.Context, places []place, kind models.Kind, parse func(models.GlobalID) (K, error), read reader[K, T], keyOf func(T) K) {
	var wanted []K
	for _, p := range places {
		if p.err == nil && p.id.Kind == kind {
			key, _ := parse(p.id) // ParseID has checked it
			wanted = append(wanted, key)
		}
	}
	if len(wanted) == 0 {
		return
	}
	rows, err := read(ctx, wanted, selectedOf(ctx, graphql.GetFieldContext(ctx).Field.Selections, string(kind)))
	found := make(map[K]T, len(rows))
	for _, row := range rows {
		found[keyOf(row)] = row
	}
	var delivered []T
	for i := range places {
		p := &places[i]
		if p.err != nil || p.id.Kind != kind {
			continue
		}
		key, _ := parse(p.id)
		row, ok := found[key]
		switch {
		case err != nil:
			p.err = err
		case !ok:
			p.err = models.Errorf(models.NotFound, "no such %s", kind)
		default:
			p.node = row
			delivered = append(delivered, row)
		}
	}
	loaders.Adopt(ctx, delivered)
}

// addErrors reports each error at its place in the list that the field of ctx returns.
func addErrors(ctx context.Context, errs []error) {
	for i, err := range errs {
		if err != nil {
			graphql.AddError(graphql.WithPathContext(ctx, graphql.NewPathWithIndex(i)), err)
		}
	}
}
