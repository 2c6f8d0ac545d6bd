-- What an API key may do, signing in with one, and whether those who have may stay. Keys from before, and those of writers that do not know the column, may read.
--
-- Locks: ACCESS EXCLUSIVE on api_keys until the commit; nothing is rewritten. The CHECK reads the table once.

-- +goose Up
SET LOCAL lock_timeout = '5s';
ALTER TABLE public.api_keys ADD COLUMN permissions TEXT[] NOT NULL DEFAULT '{read}'
    CONSTRAINT check_permissions CHECK (permissions <@ '{read,write,agent,ingest,admin}'::text[] AND cardinality(permissions) BETWEEN 1 AND 5);
GRANT SELECT (permissions), INSERT (permissions) ON public.api_keys TO netra_app;

-- SKIP LOCKED: whoever holds the row, a request does not wait to note that it came.
-- +goose StatementBegin
CREATE FUNCTION public.authenticate_api_key(key_id uuid, hash text)
RETURNS TABLE (user_id integer, superuser boolean, permissions text[], expires_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    last_used timestamptz;
BEGIN
    SELECT k.user_id, u.is_superuser, k.permissions, k.expires_at, k.last_used_at
    INTO authenticate_api_key.user_id, superuser, authenticate_api_key.permissions, authenticate_api_key.expires_at, last_used
    FROM public.api_keys k JOIN public.users u ON u.id = k.user_id
    WHERE k.id = key_id AND k.key_hash = hash AND k.is_active AND u.is_active AND (k.expires_at IS NULL OR k.expires_at > now());
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF last_used IS NULL OR last_used < now() - interval '1 minute' THEN
        UPDATE public.api_keys k SET last_used_at = now()
        WHERE k.id IN (SELECT l.id FROM public.api_keys l WHERE l.id = key_id
            AND (l.last_used_at IS NULL OR l.last_used_at < now() - interval '1 minute') FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    RETURN NEXT;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.authenticate_api_key(uuid, text) IS
    'Whose key this is and what it may do, by its id and hash and before there is a viewer: no row for an unknown, inactive or expired key or an inactive user. Keeps last_used_at, to the minute.';
REVOKE EXECUTE ON FUNCTION public.authenticate_api_key(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.authenticate_api_key(uuid, text) TO netra_app;
DROP FUNCTION public.find_api_key(text);

-- +goose StatementBegin
CREATE FUNCTION public.usable_api_keys(keys uuid[])
RETURNS TABLE (id uuid, user_id integer, superuser boolean, permissions text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT k.id, k.user_id, u.is_superuser, k.permissions
    FROM public.api_keys k
    JOIN public.users u ON u.id = k.user_id
    WHERE k.id = ANY(keys) AND k.is_active AND u.is_active AND (k.expires_at IS NULL OR k.expires_at > now())
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.usable_api_keys(uuid[]) IS
    'Whose these keys are and what they may do now, for streams that were opened with them: unknown, inactive and expired keys and those of inactive users are missing.';
REVOKE EXECUTE ON FUNCTION public.usable_api_keys(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.usable_api_keys(uuid[]) TO netra_app;

-- +goose Down
DROP FUNCTION public.usable_api_keys(uuid[]);
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
DROP FUNCTION public.authenticate_api_key(uuid, text);
SET LOCAL lock_timeout = '5s';
ALTER TABLE public.api_keys DROP COLUMN permissions;
