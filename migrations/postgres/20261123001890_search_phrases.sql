-- Two corrections of search_documents.
--
-- A phrase is rarer than its words together, which is what PostgreSQL's estimate is of. Taking it for common, it read all of a tenant's messages from
-- the latest on in search of 500: 500 ms for half a million messages where the GIN index needs 50. Said twice, a condition counts twice: a phrase is
-- taken to be as much rarer than its words together as these are rarer than all. IS NOT FALSE keeps the planner from seeing that both are one;
-- it is evaluated only for rows that match.
--
-- Messages of deleted threads were dropped from the latest 500 after these had been chosen, and could crowd out the others. Now they are dropped
-- before: OFFSET 0 keeps the look at the thread outside, for as many rows as it takes, in order.
--
-- Locks: nothing beyond the function.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION public.search_documents(query text, kinds text[], latest integer)
RETURNS TABLE (kind text, id uuid, score double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 500 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    viewer int := nullif(current_setting('netra.user_id', true), '')::int;
    superuser boolean := coalesce(current_setting('netra.superuser', true) = 'on', false);
    wanted tsquery := websearch_to_tsquery('pg_catalog.english', query);
    -- In the text and not a parameter: an OR would keep the tenant out of the index. All parts are constants.
    matches text := CASE WHEN superuser THEN '' ELSE 'd.user_id = $2 AND ' END || 'd.search @@ $1'
        || CASE WHEN wanted::text ~ '<(-|\d+)>' THEN ' AND (d.search @@ $1) IS NOT FALSE' ELSE '' END;
BEGIN
    IF numnode(wanted) = 0 OR NOT superuser AND viewer IS NULL THEN
        RETURN;
    END IF;
    -- EXECUTE plans each query anew. The words decide between the GIN index (rare) and the latest rows in order (common).
    IF 'thread' = ANY (kinds) THEN
        RETURN QUERY EXECUTE format($sql$
            SELECT 'thread', d.id, ts_rank(d.search, $1, 1)::float8 FROM public.threads d
            WHERE %s AND d.status <> 'deleted' ORDER BY d.created_at DESC, d.id DESC LIMIT $3$sql$, matches) USING wanted, viewer, latest;
    END IF;
    IF 'message' = ANY (kinds) THEN
        RETURN QUERY EXECUTE format($sql$
            SELECT 'message', m.id, ts_rank(m.search, $1, 1)::float8 FROM (
                SELECT found.id FROM (SELECT d.id, d.thread_id FROM public.messages d WHERE %s ORDER BY d.created_at DESC, d.id DESC OFFSET 0) found
                WHERE (SELECT t.status <> 'deleted' FROM public.threads t WHERE t.id = found.thread_id) LIMIT $3) shown
            JOIN public.messages m ON m.id = shown.id$sql$, matches) USING wanted, viewer, latest;
    END IF;
    IF 'reference' = ANY (kinds) THEN
        RETURN QUERY EXECUTE format($sql$
            SELECT 'reference', d.id, ts_rank(d.search, $1, 1)::float8 FROM public."references" d
            WHERE %s ORDER BY d.created_at DESC, d.id DESC LIMIT $3$sql$, matches) USING wanted, viewer, latest;
    END IF;
END;
$$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION public.search_documents(query text, kinds text[], latest integer)
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
