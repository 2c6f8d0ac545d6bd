-- Retention of run_events. The application owns nothing, so a function with the owner's rights deletes for it: only what is older than
-- it asks and than an hour, a bounded number at a time, one caller at a time. run_events_horizon tells readers how far deletion
-- has come: a cursor whose snapshot does not show everything up to there may have missed rows, and says so.
--
-- A row may be old and yet new to all readers, where its transaction stayed open for long. So only rows go whose transactions had all
-- ended a minute before (`settled`), by when every reader that is connected has read them.
--
-- Locks: a new table; none on others.

-- +goose Up
CREATE TABLE public.run_events_horizon (
    only_row BOOLEAN PRIMARY KEY DEFAULT true,
    deleted xid8 NOT NULL DEFAULT '0',
    settled xid8 NOT NULL DEFAULT '0',
    next_settled xid8 NOT NULL DEFAULT '0',
    next_settled_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT '-infinity',
    CONSTRAINT check_only_row CHECK (only_row)
);
COMMENT ON TABLE public.run_events_horizon IS 'How far run_events has been deleted: the greatest xid that a deleted row had.';
INSERT INTO public.run_events_horizon DEFAULT VALUES;
GRANT SELECT ON public.run_events_horizon TO netra_app;

-- +goose StatementBegin
CREATE FUNCTION public.expire_run_events(keep interval, batch integer)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cutoff CONSTANT timestamptz := clock_timestamp() - greatest(keep, interval '1 hour');
    horizon public.run_events_horizon;
    gone integer;
    youngest xid8;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('netra.expire_run_events')) THEN
        RETURN 0;
    END IF;
    SELECT * INTO horizon FROM public.run_events_horizon;
    IF horizon.next_settled_at < clock_timestamp() - interval '1 minute' THEN
        UPDATE public.run_events_horizon
        SET settled = next_settled, next_settled = pg_snapshot_xmin(pg_current_snapshot()), next_settled_at = clock_timestamp()
        RETURNING * INTO horizon;
    END IF;
    WITH expired AS (
        DELETE FROM public.run_events WHERE seq IN (
            SELECT oldest.seq FROM (SELECT seq, xid, at FROM public.run_events ORDER BY seq LIMIT least(batch, 10000)) AS oldest
            WHERE oldest.at < cutoff AND oldest.xid < horizon.settled)
        RETURNING xid)
    SELECT count(*), max(xid::text::numeric)::text::xid8 INTO gone, youngest FROM expired;
    IF youngest > horizon.deleted THEN
        UPDATE public.run_events_horizon SET deleted = youngest;
    END IF;
    RETURN gone;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.expire_run_events(interval, integer) IS
    'Deletes at most `batch` of the oldest run_events that are older than `keep`, which is an hour at least, and says how many.';
REVOKE EXECUTE ON FUNCTION public.expire_run_events(interval, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.expire_run_events(interval, integer) TO netra_app;

-- +goose Down
DROP FUNCTION public.expire_run_events(interval, integer);
DROP TABLE public.run_events_horizon;
