-- Who may sign in, and who is a superuser, has a version: as long as it is the same, what a server remembers of users holds. It asks for the version
-- in place of each user. It is the time of the last change in microseconds: a database that was restored, or migrated down and up, never comes to a
-- version by another way.
--
-- It is set under a row's lock by a trigger that is deferred to the commit, as the last thing that a transaction does: so the row is held for
-- that moment, and nobody who holds it waits for another row. A sequence would not do: others would see its next value before the change itself.
--
-- Locks: SHARE ROW EXCLUSIVE on users until the commit, for a moment; lock_timeout keeps the queue behind a long writer short: the migration fails and can
-- be run again.

-- +goose Up
SET LOCAL lock_timeout = '5s';

CREATE TABLE public.user_standing (
    only_row BOOLEAN PRIMARY KEY DEFAULT true,
    version BIGINT NOT NULL DEFAULT extract(epoch FROM clock_timestamp()) * 1000000,
    CONSTRAINT check_only_row CHECK (only_row)
);
COMMENT ON TABLE public.user_standing IS 'When a transaction last changed who may sign in or who is a superuser, in microseconds: its version.';
INSERT INTO public.user_standing DEFAULT VALUES;
GRANT SELECT ON public.user_standing TO netra_app;

-- +goose StatementBegin
CREATE FUNCTION public.renew_user_standing()
RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE public.user_standing SET version = greatest(version + 1, extract(epoch FROM clock_timestamp()) * 1000000)
        WHERE xmin <> pg_current_xact_id()::xid; -- once, however many users change
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.renew_user_standing() IS 'Trigger function: what servers remember of who may sign in holds no more.';
REVOKE EXECUTE ON FUNCTION public.renew_user_standing() FROM PUBLIC;

CREATE CONSTRAINT TRIGGER renew_user_standing_on_update AFTER UPDATE ON public.users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.id <> NEW.id OR OLD.is_active <> NEW.is_active OR OLD.is_superuser <> NEW.is_superuser)
    EXECUTE FUNCTION public.renew_user_standing();
COMMENT ON TRIGGER renew_user_standing_on_update ON public.users IS 'Servers forget who may sign in.';
CREATE CONSTRAINT TRIGGER renew_user_standing_on_delete AFTER DELETE ON public.users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION public.renew_user_standing();
COMMENT ON TRIGGER renew_user_standing_on_delete ON public.users IS 'Servers forget who may sign in.';
CREATE TRIGGER renew_user_standing_on_truncate AFTER TRUNCATE ON public.users
    FOR EACH STATEMENT EXECUTE FUNCTION public.renew_user_standing();
COMMENT ON TRIGGER renew_user_standing_on_truncate ON public.users IS 'Servers forget who may sign in.';
ALTER TABLE public.users
    ENABLE ALWAYS TRIGGER renew_user_standing_on_update,
    ENABLE ALWAYS TRIGGER renew_user_standing_on_delete,
    ENABLE ALWAYS TRIGGER renew_user_standing_on_truncate;

-- +goose Down
DROP TRIGGER renew_user_standing_on_update ON public.users;
DROP TRIGGER renew_user_standing_on_delete ON public.users;
DROP TRIGGER renew_user_standing_on_truncate ON public.users;
DROP FUNCTION public.renew_user_standing();
DROP TABLE public.user_standing;
