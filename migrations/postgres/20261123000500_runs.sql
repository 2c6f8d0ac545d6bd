-- Runs. version is ours: it counts the statuses that a run has had, densely from 1. It is set under the row's lock, so concurrent
-- writers cannot share or skip a number, and a version that a writer gives is ignored.
--
-- The thread's deletion clears thread_id alone (SET NULL with a column list, PostgreSQL 15): user_id is NOT NULL.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on users and threads for its foreign keys.

-- +goose Up
CREATE TABLE public.runs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    thread_id UUID,
    user_id INTEGER NOT NULL REFERENCES public.users(id) ON DELETE CASCADE,
    status VARCHAR(50) NOT NULL DEFAULT 'pending',
    agent_type VARCHAR(100),
    input_data JSONB NOT NULL,
    output_data JSONB,
    error_message TEXT,
    started_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata JSONB DEFAULT '{}'::jsonb,
    version BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT check_status CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT runs_thread_id_fkey FOREIGN KEY (thread_id, user_id)
        REFERENCES public.threads(id, user_id) ON DELETE SET NULL (thread_id)
);

CREATE INDEX idx_runs_user_id ON public.runs(user_id);
CREATE INDEX idx_runs_thread_id ON public.runs(thread_id);
CREATE INDEX idx_runs_status ON public.runs(status);
CREATE INDEX idx_runs_created_at ON public.runs(created_at);
CREATE INDEX idx_runs_agent_type ON public.runs(agent_type);
CREATE INDEX idx_runs_thread_id_created_at_id ON public.runs(thread_id, created_at, id);
CREATE INDEX idx_runs_user_id_created_at_id ON public.runs(user_id, created_at, id);
CREATE INDEX idx_runs_input_data ON public.runs USING gin (input_data jsonb_path_ops);
CREATE INDEX idx_runs_output_data ON public.runs USING gin (output_data jsonb_path_ops);
CREATE INDEX idx_runs_metadata ON public.runs USING gin (metadata jsonb_path_ops);

-- +goose StatementBegin
CREATE FUNCTION public.set_run_version()
RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.version := 1;
    ELSIF NEW.status IS DISTINCT FROM OLD.status THEN
        NEW.version := OLD.version + 1;
    ELSE
        NEW.version := OLD.version;
    END IF;
    RETURN NEW;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.set_run_version() IS
    'Trigger function: a new run has version 1, each change of status adds one, nothing else changes it.';

CREATE TRIGGER set_run_version_on_insert BEFORE INSERT ON public.runs
    FOR EACH ROW EXECUTE FUNCTION public.set_run_version();
COMMENT ON TRIGGER set_run_version_on_insert ON public.runs IS 'Starts the version at 1.';
CREATE TRIGGER set_run_version_on_update BEFORE UPDATE ON public.runs
    FOR EACH ROW WHEN (NEW.status IS DISTINCT FROM OLD.status OR NEW.version IS DISTINCT FROM OLD.version)
    EXECUTE FUNCTION public.set_run_version();
COMMENT ON TRIGGER set_run_version_on_update ON public.runs IS 'Counts changes of status under the row lock.';
-- ALWAYS: session_replication_role = replica, which bulk loaders and replication use, silences ordinary triggers.
ALTER TABLE public.runs ENABLE ALWAYS TRIGGER set_run_version_on_insert;
ALTER TABLE public.runs ENABLE ALWAYS TRIGGER set_run_version_on_update;

ALTER TABLE public.runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.runs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.runs TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.runs TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT SELECT, INSERT, UPDATE, DELETE ON public.runs TO netra_app;

-- +goose Down
DROP TABLE public.runs;
DROP FUNCTION public.set_run_version();
