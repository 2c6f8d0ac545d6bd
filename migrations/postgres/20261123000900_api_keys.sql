-- API keys, and the one way from a key to its user.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on users for its foreign key.

-- +goose Up
CREATE TABLE public.api_keys (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER NOT NULL REFERENCES public.users(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    key_hash VARCHAR(255) NOT NULL UNIQUE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    is_active BOOLEAN NOT NULL DEFAULT true,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata JSONB DEFAULT '{}'::jsonb
);

CREATE INDEX idx_api_keys_user_id ON public.api_keys(user_id);
CREATE INDEX idx_api_keys_key_hash ON public.api_keys(key_hash);
CREATE INDEX idx_api_keys_is_active ON public.api_keys(is_active);
CREATE INDEX idx_api_keys_metadata ON public.api_keys USING gin (metadata jsonb_path_ops);

ALTER TABLE public.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.api_keys TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.api_keys TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT
    SELECT (id, user_id, name, last_used_at, expires_at, is_active, created_at, metadata),
    INSERT (id, user_id, name, key_hash, expires_at, is_active, metadata),
    UPDATE (name, last_used_at, expires_at, is_active, metadata),
    DELETE
    ON public.api_keys TO netra_app;

-- +goose StatementBegin
CREATE FUNCTION public.find_api_key(hash text)
RETURNS TABLE (id uuid, user_id integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.id, k.user_id
    FROM public.api_keys k
    JOIN public.users u ON u.id = k.user_id
    WHERE k.key_hash = hash AND k.is_active AND u.is_active AND (k.expires_at IS NULL OR k.expires_at > now())
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.find_api_key(text) IS
    'Whose key this is, by its hash and before there is a viewer: no row for an unknown, inactive or expired key or an inactive user.';
REVOKE EXECUTE ON FUNCTION public.find_api_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.find_api_key(text) TO netra_app;

-- +goose Down
DROP FUNCTION public.find_api_key(text);
DROP TABLE public.api_keys;
