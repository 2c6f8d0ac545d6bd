-- Users, and the one way to a password hash.
--
-- Row-level security, here and in the tables that follow: netra_app sees the rows of the viewer whose id is in netra.user_id, all
-- rows when netra.superuser is on, and nothing when neither is set. Both are set per transaction. (select …) makes the viewer an
-- InitPlan: computed once per statement, and comparable with an index. After the transaction the setting is '', hence nullif.
-- FORCE subjects the owner too; its own policy lets it in, so that migrations and foreign keys work without BYPASSRLS.
--
-- netra_app never selects password_hash, never writes is_superuser, never deletes a user: these are the owner's.
--
-- Locks: a new table, none on others.

-- +goose Up
CREATE TABLE public.users (
    id SERIAL PRIMARY KEY,
    email VARCHAR(255) UNIQUE NOT NULL,
    name VARCHAR(255),
    password_hash VARCHAR(255),
    oauth_provider VARCHAR(50),
    oauth_id VARCHAR(255),
    picture TEXT,
    is_active BOOLEAN NOT NULL DEFAULT true,
    is_superuser BOOLEAN NOT NULL DEFAULT false,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_login_at TIMESTAMP WITH TIME ZONE,
    metadata JSONB DEFAULT '{}'::jsonb
);

CREATE INDEX idx_users_email ON public.users(email);
CREATE INDEX idx_users_oauth ON public.users(oauth_provider, oauth_id);
CREATE INDEX idx_users_created_at ON public.users(created_at);
CREATE INDEX idx_users_created_at_id ON public.users(created_at, id);
CREATE INDEX idx_users_metadata ON public.users USING gin (metadata jsonb_path_ops);

CREATE TRIGGER update_users_updated_at BEFORE UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
COMMENT ON TRIGGER update_users_updated_at ON public.users IS 'Keeps updated_at.';

ALTER TABLE public.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.users FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.users TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.users TO netra_app
    USING (
        id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT
    SELECT (id, email, name, oauth_provider, oauth_id, picture, is_active, is_superuser, created_at, updated_at, last_login_at, metadata),
    INSERT (email, name, password_hash, oauth_provider, oauth_id, picture, is_active, metadata),
    UPDATE (email, name, password_hash, oauth_provider, oauth_id, picture, is_active, last_login_at, metadata)
    ON public.users TO netra_app;
GRANT USAGE ON SEQUENCE public.users_id_seq TO netra_app;

-- +goose StatementBegin
CREATE FUNCTION public.find_login(login_email text)
RETURNS TABLE (id integer, password_hash varchar, is_active boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.id, u.password_hash, u.is_active FROM public.users u WHERE u.email = login_email
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.find_login(text) IS
    'What a login by password compares: one user by exact email, before there is a viewer. The only way of netra_app to a hash.';
REVOKE EXECUTE ON FUNCTION public.find_login(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.find_login(text) TO netra_app;

-- +goose Down
DROP FUNCTION public.find_login(text);
DROP TABLE public.users;
