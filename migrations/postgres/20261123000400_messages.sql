-- Messages. user_id is ours: the tenant, so that a policy needs no join. Writers that know nothing of it go on as before.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on threads for its foreign key.

-- +goose Up
CREATE TABLE public.messages (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    thread_id UUID NOT NULL,
    role VARCHAR(50) NOT NULL,
    content TEXT NOT NULL,
    tokens_used INTEGER,
    model VARCHAR(100),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata JSONB DEFAULT '{}'::jsonb,
    user_id INTEGER NOT NULL,
    CONSTRAINT check_role CHECK (role IN ('user', 'assistant', 'system', 'tool')),
    CONSTRAINT messages_thread_id_fkey FOREIGN KEY (thread_id, user_id)
        REFERENCES public.threads(id, user_id) ON DELETE CASCADE
);

CREATE INDEX idx_messages_thread_id ON public.messages(thread_id);
CREATE INDEX idx_messages_created_at ON public.messages(created_at);
CREATE INDEX idx_messages_role ON public.messages(role);
CREATE INDEX idx_messages_thread_id_created_at_id ON public.messages(thread_id, created_at, id);
CREATE INDEX idx_messages_metadata ON public.messages USING gin (metadata jsonb_path_ops);

-- Not SECURITY DEFINER: under row-level security another tenant's thread and an absent one are the same, and so is the error.
-- +goose StatementBegin
CREATE FUNCTION public.set_message_user_id()
RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SELECT t.user_id INTO NEW.user_id FROM public.threads t WHERE t.id = NEW.thread_id;
    IF NOT FOUND AND NEW.thread_id IS NOT NULL THEN
        RAISE EXCEPTION 'message of a thread that does not exist'
            USING ERRCODE = 'foreign_key_violation', SCHEMA = 'public', TABLE = 'messages', CONSTRAINT = 'messages_thread_id_fkey',
                  DETAIL = format('Key (thread_id)=(%s) is not present in table "threads".', NEW.thread_id);
    END IF;
    RETURN NEW;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.set_message_user_id() IS
    'Trigger function: copies the tenant of the thread into a message whose writer does not give it.';

CREATE TRIGGER set_messages_user_id BEFORE INSERT ON public.messages
    FOR EACH ROW WHEN (NEW.user_id IS NULL) EXECUTE FUNCTION public.set_message_user_id();
COMMENT ON TRIGGER set_messages_user_id ON public.messages IS 'Fills user_id for writers that do not know the column.';

ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.messages FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.messages TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.messages TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT SELECT, INSERT, UPDATE, DELETE ON public.messages TO netra_app;

-- +goose Down
DROP TABLE public.messages;
DROP FUNCTION public.set_message_user_id();
