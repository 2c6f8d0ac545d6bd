-- Similarity search over the embeddings of references.
--
-- The specification's IVFFlat index has useless centroids on an empty table and, filtered by tenant, returns too little. In its place stand
-- the signs of each embedding's 1536 numbers: 192 bytes in the row itself instead of 6 kB out of line. A search takes candidates by their
-- Hamming distance, from an HNSW index for a large tenant and by reading all of a small one's, and orders them by the true cosine.
--
-- Locks: ACCESS EXCLUSIVE on references until the commit, while it is rewritten and its indexes are built: minutes for 200,000 embeddings.
-- lock_timeout keeps the queue behind a long reader short: the migration fails and can be run again.

-- +goose Up
SET LOCAL lock_timeout = '5s';
DROP INDEX public.idx_references_embedding;
ALTER TABLE public."references" ADD COLUMN embedding_signs BIT(1536)
    GENERATED ALWAYS AS (public.binary_quantize(embedding)::bit(1536)) STORED;
CREATE INDEX idx_references_embedding ON public."references" USING hnsw (embedding_signs bit_hamming_ops);
CREATE INDEX idx_references_embedded ON public."references"(user_id) WHERE embedding_signs IS NOT NULL;

-- With the caller's rights: no operator here is a condition, so row-level security costs no index and guards this as everything else.
-- +goose StatementBegin
CREATE FUNCTION public.similar_references(probe public.vector, candidates integer)
RETURNS TABLE (id uuid, score double precision)
LANGUAGE plpgsql STABLE ROWS 100 SET search_path = pg_catalog, public, pg_temp SET hnsw.iterative_scan = 'relaxed_order'
AS $$
DECLARE
    viewer int := nullif(current_setting('netra.user_id', true), '')::int;
    superuser boolean := coalesce(current_setting('netra.superuser', true) = 'on', false);
    signs bit(1536) := binary_quantize(probe)::bit(1536);
    tenant text := CASE WHEN superuser THEN 'true' ELSE 'r.user_id = $2' END;
    -- Reading up to so many rows' signs takes less than the index would, or the tenant is too small a part of the index for it to find
    -- enough: it gives up after hnsw.max_scan_tuples (20,000).
    few bigint := greatest(10000, (SELECT c.reltuples * 0.02 FROM pg_class c WHERE c.oid = 'public."references"'::regclass)::bigint);
    many boolean;
BEGIN
    IF probe IS NULL OR NOT superuser AND viewer IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT count(*) > $1 FROM (SELECT FROM public."references" r WHERE embedding_signs IS NOT NULL AND %s LIMIT $1 + 1) r', tenant)
        INTO many USING few, viewer;
    PERFORM set_config('hnsw.ef_search', least(1000, candidates)::text, true);
    -- The sum with 0 hides the order from the index.
    RETURN QUERY EXECUTE format($sql$
        WITH nearest AS MATERIALIZED (
            SELECT r.id, r.embedding FROM public."references" r WHERE r.embedding_signs IS NOT NULL AND %s
            ORDER BY (r.embedding_signs <~> $1) %s LIMIT $3)
        SELECT n.id, 1 - (n.embedding <=> $4) FROM nearest n ORDER BY 2 DESC, 1 DESC$sql$,
        tenant, CASE WHEN many THEN '' ELSE '+ 0' END) USING signs, viewer, candidates, probe;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.similar_references(public.vector, integer) IS
    'The references that the viewer may see whose embeddings are the most similar to the probe, by cosine, among so many candidates.';
REVOKE EXECUTE ON FUNCTION public.similar_references(public.vector, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.similar_references(public.vector, integer) TO netra_app;

-- +goose Down
SET LOCAL lock_timeout = '5s';
DROP FUNCTION public.similar_references(public.vector, integer);
DROP INDEX public.idx_references_embedded;
DROP INDEX public.idx_references_embedding;
ALTER TABLE public."references" DROP COLUMN embedding_signs;
CREATE INDEX idx_references_embedding ON public."references" USING ivfflat (embedding vector_cosine_ops);
