-- Containment in JSONB is not leakproof, so row-level security keeps netra_app from the GIN indexes. This function asks them with the owner's
-- rights, and shows what the policies of supply_catalog show and nothing else: the two must be changed together.
--
-- Locks: none.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION public.find_supply_items(document text, holders text[])
RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    viewer int := nullif(current_setting('netra.user_id', true), '')::int;
    superuser boolean := coalesce(current_setting('netra.superuser', true) = 'on', false);
    holder jsonb;
BEGIN
    IF document NOT IN ('specifications', 'pricing', 'availability', 'performance_metrics') THEN
        RAISE EXCEPTION 'no such document: %', document USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOREACH holder IN ARRAY holders::jsonb[] LOOP
        -- Planned anew for each holder: whether an index helps depends on it.
        RETURN QUERY EXECUTE format('SELECT s.id FROM public.supply_catalog s
            WHERE s.%I @> $1 AND ($3 OR s.user_id = $2 OR s.user_id IS NULL AND $2 IS NOT NULL)', document)
            USING holder, viewer, superuser;
    END LOOP;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.find_supply_items(text, text[]) IS
    'Ids of the supply items that the viewer may see and whose document (specifications, pricing, availability, performance_metrics) contains one of the holders. With repetitions.';
REVOKE EXECUTE ON FUNCTION public.find_supply_items(text, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.find_supply_items(text, text[]) TO netra_app;

-- +goose Down
DROP FUNCTION public.find_supply_items(text, text[]);
