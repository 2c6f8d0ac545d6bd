-- The audit log. netra_app appends and reads, it neither changes nor deletes. A row without user_id (a failed login, a deleted user)
-- is for superusers and system sessions.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on users for its foreign key.

-- +goose Up
CREATE TABLE public.audit_logs (
    id BIGSERIAL PRIMARY KEY,
    user_id INTEGER REFERENCES public.users(id) ON DELETE SET NULL,
    action VARCHAR(100) NOT NULL,
    resource_type VARCHAR(100),
    resource_id VARCHAR(255),
    ip_address INET,
    user_agent TEXT,
    request_id VARCHAR(255),
    response_status INTEGER,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata JSONB DEFAULT '{}'::jsonb
);

CREATE INDEX idx_audit_logs_user_id ON public.audit_logs(user_id);
CREATE INDEX idx_audit_logs_action ON public.audit_logs(action);
CREATE INDEX idx_audit_logs_created_at ON public.audit_logs(created_at);
CREATE INDEX idx_audit_logs_resource ON public.audit_logs(resource_type, resource_id);
CREATE INDEX idx_audit_logs_metadata ON public.audit_logs USING gin (metadata jsonb_path_ops);

ALTER TABLE public.audit_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.audit_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.audit_logs TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.audit_logs TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT SELECT, INSERT ON public.audit_logs TO netra_app;
GRANT USAGE ON SEQUENCE public.audit_logs_id_seq TO netra_app;

-- +goose Down
DROP TABLE public.audit_logs;
