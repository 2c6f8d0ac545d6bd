-- Full-text search over titles of threads, messages and references.
--
-- The columns are generated: whoever inserts and however, they are right, and a plain INSERT, COPY or UPDATE needs to know nothing of them. Only
-- the first 50,000 characters of a text are searched: a tsvector has at most 1 MB, and beyond it the INSERT would fail.
--
-- The match operator is not leakproof, so row-level security keeps netra_app from the GIN indexes. search_documents asks them with the owner's
-- rights. It takes the tenant from where the policies take it and shows what they show: the two must be changed together.
--
-- Locks: ACCESS EXCLUSIVE on each table until the commit, while it is rewritten and its indexes are built: about 2 minutes for a million messages
-- of 300 characters. Do it in a quiet hour. lock_timeout keeps the queue behind a long reader short: the migration fails and can be run again.
-- Down leaves the extension: others of the database may use it.

-- +goose Up
SET LOCAL lock_timeout = '5s';
CREATE EXTENSION IF NOT EXISTS btree_gin;

ALTER TABLE public.threads ADD COLUMN search TSVECTOR
    GENERATED ALWAYS AS (setweight(to_tsvector('pg_catalog.english', coalesce(title, '')), 'A')) STORED;
ALTER TABLE public.messages ADD COLUMN search TSVECTOR
    GENERATED ALWAYS AS (to_tsvector('pg_catalog.english', left(content, 50000))) STORED;
ALTER TABLE public."references" ADD COLUMN search TSVECTOR
    GENERATED ALWAYS AS (setweight(to_tsvector('pg_catalog.english', name), 'A')
        || setweight(to_tsvector('pg_catalog.english', left(coalesce(metadata ->> 'description', ''), 5000)), 'B')
        || to_tsvector('pg_catalog.english', left(coalesce(content, ''), 50000))) STORED;

-- The tenant stands in the index, so that another tenant's matches cost nothing. Each search reads the pending list: it is kept short.
CREATE INDEX idx_threads_search ON public.threads USING gin (user_id, search) WITH (gin_pending_list_limit = 256);
CREATE INDEX idx_messages_search ON public.messages USING gin (user_id, search) WITH (gin_pending_list_limit = 256);
CREATE INDEX idx_references_search ON public."references" USING gin (user_id, search) WITH (gin_pending_list_limit = 256);
-- The latest first: for words so common that the latest messages are sure to have them.
CREATE INDEX idx_messages_user_id_created_at_id ON public.messages(user_id, created_at, id);

-- +goose StatementBegin
CREATE FUNCTION public.search_documents(query text, kinds text[], latest integer)
RETURNS TABLE (kind text, id uuid, score double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 500 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    viewer int := nullif(current_setting('netra.user_id', true), '')::int;
    superuser boolean := coalesce(current_setting('netra.superuser', true) = 'on', false);
    wanted tsquery := websearch_to_tsquery('pg_catalog.english', query);
    -- In the text and not a parameter: an OR would keep the tenant out of the index. It is one of two constants.
    tenant text := CASE WHEN superuser THEN 'true' ELSE 'd.user_id = $2' END;
BEGIN
    IF numnode(wanted) = 0 OR NOT superuser AND viewer IS NULL THEN
        RETURN;
    END IF;
    -- EXECUTE plans each query anew. The words decide between the GIN index (rare) and the latest rows in order (common).
    IF 'thread' = ANY (kinds) THEN
        RETURN QUERY EXECUTE format($sql$
            SELECT 'thread', d.id, ts_rank(d.search, $1, 1)::float8 FROM (
                SELECT d.id, d.search, d.status FROM public.threads d WHERE %s AND d.search @@ $1 ORDER BY d.created_at DESC, d.id DESC LIMIT $3) d
            WHERE d.status <> 'deleted'$sql$, tenant) USING wanted, viewer, latest;
    END IF;
    IF 'message' = ANY (kinds) THEN
        RETURN QUERY EXECUTE format($sql$
            SELECT 'message', d.id, ts_rank(d.search, $1, 1)::float8 FROM (
                SELECT d.id, d.search, d.thread_id FROM public.messages d WHERE %s AND d.search @@ $1 ORDER BY d.created_at DESC, d.id DESC LIMIT $3) d
            WHERE (SELECT t.status <> 'deleted' FROM public.threads t WHERE t.id = d.thread_id)$sql$, tenant) USING wanted, viewer, latest;
    END IF;
    IF 'reference' = ANY (kinds) THEN
        RETURN QUERY EXECUTE format($sql$
            SELECT 'reference', d.id, ts_rank(d.search, $1, 1)::float8 FROM (
                SELECT d.id, d.search FROM public."references" d WHERE %s AND d.search @@ $1 ORDER BY d.created_at DESC, d.id DESC LIMIT $3) d
            $sql$, tenant) USING wanted, viewer, latest;
    END IF;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.search_documents(text, text[], integer) IS
    'What the viewer may see of the kinds (thread, message, reference) and matches the query in websearch syntax: the latest of each kind, with ts_rank. Nothing of deleted threads.';
REVOKE EXECUTE ON FUNCTION public.search_documents(text, text[], integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.search_documents(text, text[], integer) TO netra_app;

-- +goose Down
SET LOCAL lock_timeout = '5s';
DROP FUNCTION public.search_documents(text, text[], integer);
DROP INDEX public.idx_messages_user_id_created_at_id;
ALTER TABLE public."references" DROP COLUMN search;
ALTER TABLE public.messages DROP COLUMN search;
ALTER TABLE public.threads DROP COLUMN search;
