-- Who may be a viewer.
--
-- Locks: none.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION public.authenticate_viewer(viewer_id integer)
RETURNS TABLE (superuser boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.is_superuser FROM public.users u WHERE u.id = viewer_id AND u.is_active
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.authenticate_viewer(integer) IS
    'One row with the user''s rights as they are now; none for an absent or inactive user. Asked before there is a viewer.';
REVOKE EXECUTE ON FUNCTION public.authenticate_viewer(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.authenticate_viewer(integer) TO netra_app;

-- +goose Down
DROP FUNCTION public.authenticate_viewer(integer);
