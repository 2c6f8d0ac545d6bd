-- Whether a user may still sign in is read from users, for the user itself or for many at once: a call of a function for each of them costs eight times the look.
--
-- Locks: nothing beyond the function. Replicas from before cannot sign users in without it: replace them together with this.

-- +goose Up
DROP FUNCTION IF EXISTS public.authenticate_viewer(integer);

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION public.authenticate_viewer(viewer_id integer)
RETURNS TABLE (superuser boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT u.is_superuser FROM public.users u WHERE u.id = viewer_id AND u.is_active;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.authenticate_viewer(integer) IS
    'One row with the user''s rights as they are now; none for an absent or inactive user. Asked before there is a viewer.';
REVOKE EXECUTE ON FUNCTION public.authenticate_viewer(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.authenticate_viewer(integer) TO netra_app;
