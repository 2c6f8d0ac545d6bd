-- Threads. UNIQUE (id, user_id) is what the composite foreign keys of messages and runs refer to: row-level security does not
-- bind foreign keys, so only a key that contains the tenant keeps a row from hanging on another tenant's thread.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on users for its foreign key.

-- +goose Up
CREATE TABLE public.threads (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER NOT NULL REFERENCES public.users(id) ON DELETE CASCADE,
    title VARCHAR(255),
    status VARCHAR(50) NOT NULL DEFAULT 'active',
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata JSONB DEFAULT '{}'::jsonb,
    CONSTRAINT check_status CHECK (status IN ('active', 'archived', 'deleted')),
    CONSTRAINT threads_id_user_id_key UNIQUE (id, user_id)
);

CREATE INDEX idx_threads_user_id ON public.threads(user_id);
CREATE INDEX idx_threads_created_at ON public.threads(created_at);
CREATE INDEX idx_threads_status ON public.threads(status);
CREATE INDEX idx_threads_user_id_created_at_id ON public.threads(user_id, created_at, id);
CREATE INDEX idx_threads_user_id_updated_at_id ON public.threads(user_id, updated_at, id);
CREATE INDEX idx_threads_metadata ON public.threads USING gin (metadata jsonb_path_ops);

CREATE TRIGGER update_threads_updated_at BEFORE UPDATE ON public.threads
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
COMMENT ON TRIGGER update_threads_updated_at ON public.threads IS 'Keeps updated_at.';

ALTER TABLE public.threads ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.threads FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.threads TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.threads TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT SELECT, INSERT, UPDATE, DELETE ON public.threads TO netra_app;

-- +goose Down
DROP TABLE public.threads;
