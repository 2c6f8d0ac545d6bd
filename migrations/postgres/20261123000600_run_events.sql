-- run_events: the log of every status that a run has had, written by the database itself, so that nothing depends on who changed
-- the run. NOTIFY run_events is only a doorbell (empty payload, folded to one per transaction); the table is the truth.
--
-- seq is given out before the commit, so a reader that remembers the greatest seq misses rows of transactions that commit late.
-- A reader remembers an xid instead: everything below pg_snapshot_xmin(pg_current_snapshot()) is final.
--
-- The writing function is SECURITY DEFINER: netra_app and any other writer of runs may only read the log.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on runs for the foreign key and the triggers (no writes to runs meanwhile). Runs that
-- exist already have no events.

-- +goose Up
CREATE TABLE public.run_events (
    seq BIGSERIAL PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    run_id UUID NOT NULL REFERENCES public.runs(id) ON DELETE CASCADE,
    version BIGINT NOT NULL,
    thread_id UUID,
    user_id INTEGER NOT NULL,
    old_status VARCHAR(50),
    new_status VARCHAR(50) NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT run_events_run_id_version_key UNIQUE (run_id, version)
);

CREATE INDEX idx_run_events_xid_seq ON public.run_events(xid, seq);
CREATE INDEX idx_run_events_thread_id_seq ON public.run_events(thread_id, seq);
CREATE INDEX idx_run_events_user_id_seq ON public.run_events(user_id, seq);

-- +goose StatementBegin
CREATE FUNCTION public.record_run_event()
RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO public.run_events (run_id, version, thread_id, user_id, old_status, new_status)
    VALUES (NEW.id, NEW.version, NEW.thread_id, NEW.user_id, CASE TG_OP WHEN 'UPDATE' THEN OLD.status END, NEW.status);
    PERFORM pg_notify('run_events', '');
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.record_run_event() IS
    'Trigger function: appends a status of a run to run_events and rings NOTIFY run_events with an empty payload.';
REVOKE EXECUTE ON FUNCTION public.record_run_event() FROM PUBLIC;

CREATE TRIGGER record_run_event_on_insert AFTER INSERT ON public.runs
    FOR EACH ROW EXECUTE FUNCTION public.record_run_event();
COMMENT ON TRIGGER record_run_event_on_insert ON public.runs IS 'Records the first status.';
-- Not UPDATE OF status: that would miss a status changed by another BEFORE trigger.
CREATE TRIGGER record_run_event_on_update AFTER UPDATE ON public.runs
    FOR EACH ROW WHEN (NEW.status IS DISTINCT FROM OLD.status) EXECUTE FUNCTION public.record_run_event();
COMMENT ON TRIGGER record_run_event_on_update ON public.runs IS 'Records a change of status.';
ALTER TABLE public.runs ENABLE ALWAYS TRIGGER record_run_event_on_insert;
ALTER TABLE public.runs ENABLE ALWAYS TRIGGER record_run_event_on_update;

ALTER TABLE public.run_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.run_events FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.run_events TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.run_events TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT SELECT ON public.run_events TO netra_app;

-- +goose Down
DROP TRIGGER record_run_event_on_update ON public.runs;
DROP TRIGGER record_run_event_on_insert ON public.runs;
DROP FUNCTION public.record_run_event();
DROP TABLE public.run_events;
