-- The one place that says how a run may go on, and does it. It runs with its caller's rights, so that row-level security decides whose run it is.
-- Agents that write to the table themselves are not bound by it.
--
-- Locks: none; a call takes the lock of its run's row.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION public.advance_run(run uuid, target text, expected bigint DEFAULT NULL, output jsonb DEFAULT NULL, failure text DEFAULT NULL)
RETURNS TABLE (previous varchar, version bigint, moved boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    legal CONSTANT jsonb := '{"pending": ["processing", "failed", "cancelled"], "processing": ["completed", "failed", "cancelled"]}';
BEGIN
    SELECT r.status, r.version INTO advance_run.previous, advance_run.version FROM public.runs r WHERE r.id = run FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    moved := coalesce(legal -> previous ? target, false) AND advance_run.version = coalesce(expected, advance_run.version);
    IF moved THEN
        UPDATE public.runs r SET
            status = target,
            output_data = coalesce(output, r.output_data),
            error_message = coalesce(failure, r.error_message),
            started_at = CASE target WHEN 'processing' THEN coalesce(r.started_at, clock_timestamp()) ELSE r.started_at END,
            completed_at = CASE target WHEN 'processing' THEN r.completed_at ELSE clock_timestamp() END
        WHERE r.id = run;
    END IF;
    RETURN NEXT;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.advance_run(uuid, text, bigint, jsonb, text) IS
    'Takes a run from its status to target, if that is a legal step and its version is the expected one. One row: the status and version that it was found with, and whether it moved; no row for a run that does not exist.';
REVOKE EXECUTE ON FUNCTION public.advance_run(uuid, text, bigint, jsonb, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.advance_run(uuid, text, bigint, jsonb, text) TO netra_app;

-- +goose Down
DROP FUNCTION public.advance_run(uuid, text, bigint, jsonb, text);
