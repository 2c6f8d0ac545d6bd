package store

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/netra-ai/netra/models"
)

// ranked is how many of each type's latest matches are ranked: a word that half of a million messages have is answered from the latest.
const ranked = 500

// headline marks the words that match. A name that matches is shown whole where no content does.
const headline = `StartSel="` + models.SnippetStart + `", StopSel="` + models.SnippetStop + `", MaxFragments=2, MaxWords=30, MinWords=10, FragmentDelimiter=" … "`

// Search is a page of what the viewer may see and matches, with one row more where the list goes on. It fails with NotFound where
// there is no such reference to be similar to, and with Conflict where it has no embedding yet.
func (s *Store) Search(ctx context.Context, search models.Search, page models.Page, selected Fields) ([]*models.SearchHit, error) {
	q := new(statement)
	words := q.arg(search.Query) + "::text"
	kinds := make([]string, len(search.Types))
	for i, kind := range search.Types {
		kinds[i] = string(kind)
	}
	matches := "search_documents(" + words + ", " + q.arg(kinds) + "::text[], " + q.arg(ranked) + "::int)"

	q.WriteString("SELECT hit.kind, hit.id, hit.score")
	if slices.Contains(selected, "snippet") {
		marked := func(text string) string {
			return "ts_headline('pg_catalog.english', translate(" + text + ", E'\\x01\\x02', ''), websearch_to_tsquery('pg_catalog.english', " + words + "), " + q.arg(headline) + "::text)"
		}
		q.WriteString(", CASE hit.kind" +
			" WHEN 'thread' THEN (SELECT " + marked("title") + " FROM threads WHERE id = hit.id)" +
			" WHEN 'message' THEN (SELECT " + marked("left(content, 50000)") + " FROM messages WHERE id = hit.id)" +
			" ELSE (SELECT " + marked(`concat_ws(E'\n', name, left(metadata ->> 'description', 5000), left(content, 50000))`) + ` FROM "references" WHERE id = hit.id)` +
			" END AS snippet")
	}
	q.WriteString(" FROM (SELECT kind, id, score FROM ")
	if similar := search.SimilarTo; similar == nil {
		q.WriteString(matches + " AS found")
	} else {
		if err := s.checkProbe(ctx, *similar); err != nil {
			return nil, err
		}
		// Reciprocal rank fusion with its customary 60: scores of the two searches have no common measure, places have.
		q.WriteString("(SELECT kind, id, sum(1.0::float8 / (60 + place)) AS score FROM (" +
			"SELECT kind, id, row_number() OVER (ORDER BY score DESC, id DESC) AS place FROM " + matches + " AS found" +
			" UNION ALL SELECT 'reference', id, row_number() OVER (ORDER BY score DESC, id DESC) FROM " + q.similar(*similar, models.MaxPageSize) +
			") AS places GROUP BY kind, id) AS found")
	}
	q.WriteString(" WHERE true")
	q.page(page)
	q.WriteString(") AS hit ORDER BY score DESC, id DESC")
	return query[*models.SearchHit](ctx, s, q)
}

// SimilarReferences are the references that the viewer may see that are the most similar, the most similar first. It fails with NotFound
// where there is no such reference to be similar to, and with Conflict where it has no embedding yet.
func (s *Store) SimilarReferences(ctx context.Context, to models.Similarity, first int, minScore *float64) ([]*models.SimilarReference, error) {
	if err := s.checkProbe(ctx, to); err != nil {
		return nil, err
	}
	q := new(statement)
	q.WriteString("SELECT id, score FROM " + q.similar(to, first) + " WHERE true")
	if minScore != nil {
		q.and("score", ">=", *minScore, "::float8")
	}
	q.WriteString(" ORDER BY score DESC, id DESC LIMIT " + q.arg(first) + "::int")
	return query[*models.SimilarReference](ctx, s, q)
}

// similar is a table of references and scores without the reference that was asked about.
func (s *statement) similar(to models.Similarity, first int) string {
	// Ten candidates for each result that is wanted, and a hundred at least, put the right ones first (bench/search).
	candidates := s.arg(min(1000, max(100, 10*first))) + "::int"
	if to.ReferenceID == nil {
		return "similar_references(" + s.arg(to.Vector) + "::text::vector, " + candidates + ", " + s.arg(to.Model) + "::text) AS alike"
	}
	id := s.arg(*to.ReferenceID) + "::uuid"
	return `(SELECT id, score FROM similar_references((SELECT embedding FROM "references" WHERE id = ` + id + "), " + candidates +
		`, (SELECT coalesce(embedding_model, '') FROM "references" WHERE id = ` + id + ")) WHERE id <> " + id + ") AS alike"
}

func (s *Store) checkProbe(ctx context.Context, to models.Similarity) error {
	if to.ReferenceID == nil {
		return nil
	}
	found, err := s.References(ctx, []uuid.UUID{*to.ReferenceID}, nil)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return models.Errorf(models.NotFound, "no such %s", models.KindReference)
	case !found[0].HasEmbedding:
		return models.Errorf(models.Conflict, "this reference has no embedding yet")
	}
	return nil
}
