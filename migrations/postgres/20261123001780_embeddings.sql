-- Embeddings that the server lets an endpoint make of references' texts.
--
-- embedding_hash says of which text `embedding` is, or which one was refused: reference_hash of that moment. So a text that has changed since
-- waits, whoever changed it and however, without a trigger. A vector without a hash was given by a writer and is left alone.
-- embedded_at is for the application alone to set: by it the triggers tell its writes from those of others, and they are no edits.
-- What waits is found by partial indexes; embedding_jobs has rows only for what is at work and what is to be tried again.
--
-- reference_text and reference_hash stand in an index: to change them, make others. Everybody may call them, since an index calls its functions
-- with the rights of whoever inserts; they read nothing but their arguments.
--
-- Locks: ACCESS EXCLUSIVE on references until the commit, while three indexes are built; nothing is rewritten. lock_timeout keeps the queue
-- behind a long reader short: the migration fails and can be run again.

-- +goose Up
SET LOCAL lock_timeout = '5s';

-- +goose StatementBegin
CREATE FUNCTION public.reference_text(name text, metadata jsonb, content text)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN left(btrim(coalesce(name, '')
    || coalesce(E'\n' || left(metadata ->> 'description', 5000), '')
    || coalesce(E'\n' || left(content, 24000), ''), E' \t\r\n'), 24000);
-- +goose StatementEnd
COMMENT ON FUNCTION public.reference_text(text, jsonb, text) IS
    'What of a reference is embedded: name, description and content, as far as models read. Empty where there is none.';
-- +goose StatementBegin
CREATE FUNCTION public.reference_hash(name text, metadata jsonb, content text)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended(nullif(public.reference_text(name, metadata, content), ''), 0);
-- +goose StatementEnd
COMMENT ON FUNCTION public.reference_hash(text, jsonb, text) IS
    'Tells whether the text that is embedded has changed; null where there is none. No secret: 64 bits, not cryptographic.';

ALTER TABLE public."references"
    ADD COLUMN embedding_model VARCHAR(255),
    ADD COLUMN embedding_hash BIGINT,
    ADD COLUMN embedded_at TIMESTAMP WITH TIME ZONE,
    ADD COLUMN embedding_error VARCHAR(100);
COMMENT ON COLUMN public."references".embedding_model IS 'Which model made the embedding; null where its writer did not say.';
COMMENT ON COLUMN public."references".embedding_hash IS 'reference_hash of the text that was embedded or refused; null where a writer gave the embedding.';
COMMENT ON COLUMN public."references".embedded_at IS 'When the endpoint embedded or refused the text; only the application sets it.';
COMMENT ON COLUMN public."references".embedding_error IS 'Why the endpoint has made no embedding of the text, for good.';

CREATE INDEX idx_references_unembedded ON public."references"(updated_at)
    WHERE (embedding IS NULL OR embedding_hash IS NOT NULL) AND embedding_hash IS DISTINCT FROM public.reference_hash(name, metadata, content);
CREATE INDEX idx_references_embedded_at ON public."references"(embedded_at) WHERE embedded_at IS NOT NULL;
DROP INDEX public.idx_references_embedded;
CREATE INDEX idx_references_embedded ON public."references"(user_id, embedding_model) WHERE embedding_signs IS NOT NULL;

-- BEFORE triggers fire by name: this one after that of updated_at.
DROP TRIGGER update_references_updated_at ON public."references";
CREATE TRIGGER update_references_updated_at BEFORE UPDATE ON public."references" FOR EACH ROW
    WHEN (OLD.embedded_at IS NOT DISTINCT FROM NEW.embedded_at)
    EXECUTE FUNCTION public.update_updated_at_column();
COMMENT ON TRIGGER update_references_updated_at ON public."references" IS 'Keeps updated_at; an embedding by the endpoint is no edit.';
-- +goose StatementBegin
CREATE FUNCTION public.take_given_embedding()
RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.embedding_hash := NULL;
    NEW.embedded_at := NULL;
    NEW.embedding_error := NULL;
    IF NEW.embedding_model IS NOT DISTINCT FROM OLD.embedding_model THEN
        NEW.embedding_model := NULL;
    END IF;
    RETURN NEW;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.take_given_embedding() IS 'Trigger function: an embedding that a writer gives, or takes away, is not that of the text before.';
REVOKE EXECUTE ON FUNCTION public.take_given_embedding() FROM PUBLIC;
CREATE TRIGGER writer_gives_references_embedding BEFORE UPDATE OF embedding ON public."references" FOR EACH ROW
    WHEN (OLD.embedded_at IS NOT NULL AND OLD.embedded_at IS NOT DISTINCT FROM NEW.embedded_at AND OLD.embedding IS DISTINCT FROM NEW.embedding)
    EXECUTE FUNCTION public.take_given_embedding();
COMMENT ON TRIGGER writer_gives_references_embedding ON public."references" IS 'Forgets what was known of an embedding that a writer replaces.';

CREATE TABLE public.embedding_settings (
    only_row BOOLEAN PRIMARY KEY DEFAULT true,
    model VARCHAR(255) NOT NULL,
    since TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT check_only_row CHECK (only_row)
);
COMMENT ON TABLE public.embedding_settings IS 'Which model embeds, for all replicas, and from when on: what was embedded before is embedded anew. No row before the first endpoint.';
GRANT SELECT, INSERT, UPDATE ON public.embedding_settings TO netra_app;

CREATE TABLE public.embedding_jobs (
    reference_id UUID PRIMARY KEY REFERENCES public."references"(id) ON DELETE CASCADE,
    user_id INTEGER NOT NULL,
    holder UUID NOT NULL,
    due TIMESTAMP WITH TIME ZONE NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error VARCHAR(100)
);
COMMENT ON TABLE public.embedding_jobs IS 'References that somebody embeds now, or that are to be tried again: nobody else takes them before they are due.';
COMMENT ON COLUMN public.embedding_jobs.attempts IS 'How often the endpoint failed at this very text.';
ALTER TABLE public.embedding_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.embedding_jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.embedding_jobs TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.embedding_jobs TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));
GRANT SELECT, INSERT, UPDATE, DELETE ON public.embedding_jobs TO netra_app;

-- As before, and embeddings of different models are kept apart.
DROP FUNCTION public.similar_references(public.vector, integer);
-- +goose StatementBegin
CREATE FUNCTION public.similar_references(probe public.vector, candidates integer, made_by text DEFAULT NULL)
RETURNS TABLE (id uuid, score double precision)
LANGUAGE plpgsql STABLE ROWS 100 SET search_path = pg_catalog, public, pg_temp SET hnsw.iterative_scan = 'relaxed_order'
AS $$
DECLARE
    viewer int := nullif(current_setting('netra.user_id', true), '')::int;
    superuser boolean := coalesce(current_setting('netra.superuser', true) = 'on', false);
    signs bit(1536) := binary_quantize(probe)::bit(1536);
    comparable text := CASE WHEN superuser THEN 'true' ELSE 'r.user_id = $2' END
        || CASE WHEN made_by IS NULL THEN '' WHEN made_by = '' THEN ' AND r.embedding_model IS NULL' ELSE ' AND r.embedding_model = $5' END;
    -- Reading up to so many rows' signs takes less than the index would, or they are too small a part of the index for it to find
    -- enough: it gives up after hnsw.max_scan_tuples (20,000).
    few bigint := greatest(10000, (SELECT c.reltuples * 0.02 FROM pg_class c WHERE c.oid = 'public."references"'::regclass)::bigint);
    many boolean;
BEGIN
    IF probe IS NULL OR NOT superuser AND viewer IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT count(*) > $1 FROM (SELECT FROM public."references" r WHERE embedding_signs IS NOT NULL AND %s LIMIT $1 + 1) r', comparable)
        INTO many USING few, viewer, NULL, NULL, made_by;
    PERFORM set_config('hnsw.ef_search', least(1000, candidates)::text, true);
    -- The sum with 0 hides the order from the index.
    RETURN QUERY EXECUTE format($sql$
        WITH nearest AS MATERIALIZED (
            SELECT r.id, r.embedding FROM public."references" r WHERE r.embedding_signs IS NOT NULL AND %s
            ORDER BY (r.embedding_signs <~> $1) %s LIMIT $3)
        SELECT n.id, 1 - (n.embedding <=> $4) FROM nearest n ORDER BY 2 DESC, 1 DESC$sql$,
        comparable, CASE WHEN many THEN '' ELSE '+ 0' END) USING signs, viewer, candidates, probe, made_by;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.similar_references(public.vector, integer, text) IS
    'The references that the viewer may see whose embeddings are the most similar to the probe, by cosine, among so many candidates: of one model, of none that is known (an empty text), or of any (null).';
REVOKE EXECUTE ON FUNCTION public.similar_references(public.vector, integer, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.similar_references(public.vector, integer, text) TO netra_app;

-- +goose Down
SET LOCAL lock_timeout = '5s';
DROP FUNCTION public.similar_references(public.vector, integer, text);
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
DROP TABLE public.embedding_jobs;
DROP TABLE public.embedding_settings;
DROP TRIGGER writer_gives_references_embedding ON public."references";
DROP FUNCTION public.take_given_embedding();
DROP TRIGGER update_references_updated_at ON public."references";
CREATE TRIGGER update_references_updated_at BEFORE UPDATE ON public."references"
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
COMMENT ON TRIGGER update_references_updated_at ON public."references" IS 'Keeps updated_at.';
DROP INDEX public.idx_references_embedded;
DROP INDEX public.idx_references_embedded_at;
DROP INDEX public.idx_references_unembedded;
ALTER TABLE public."references"
    DROP COLUMN embedding_error,
    DROP COLUMN embedded_at,
    DROP COLUMN embedding_hash,
    DROP COLUMN embedding_model;
CREATE INDEX idx_references_embedded ON public."references"(user_id) WHERE embedding_signs IS NOT NULL;
DROP FUNCTION public.reference_hash(text, jsonb, text);
DROP FUNCTION public.reference_text(text, jsonb, text);
