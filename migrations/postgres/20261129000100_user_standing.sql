-- Who may sign in, and who is a superuser, has a version: as long as it is the same, what a server remembers of users holds. It asks for the version
-- in place of each user.
--
-- The version is counted under a row's lock by a trigger that is deferred to the commit, as the last thing that a transaction does: so it is held for
-- that moment, and nobody who holds it waits for another row. A sequence would not do: others would see its next value before the change itself.
--
-- Locks: SHARE ROW EXCLUSIVE on users until the commit, for a moment; lock_timeout keeps the queue behind a long writer short: the migration fails and can
-- be run again.

-- +goose Up
SET LOCAL lock_timeout = '5s';

CREATE TABLE public.user_standing (
    only_row BOOLEAN PRIMARY KEY DEFAULT true,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT check_only_row CHECK (only_row)
);
COMMENT ON TABLE public.user_standing IS 'Counts the transactions that changed who may sign in or who is a superuser.';
INSERT INTO public.user_standing DEFAULT VALUES;
GRANT SELECT ON public.user_standing TO netra_app;

-- +goose StatementBegin
CREATE FUNCTION public.count_user_standing()
RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE public.user_standing SET version = version + 1 WHERE xmin <> pg_current_xact_id()::xid; -- once, however many users change
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.count_user_standing() IS 'Trigger function: what servers remember of who may sign in holds no more.';
REVOKE EXECUTE ON FUNCTION public.count_user_standing() FROM PUBLIC;

CREATE CONSTRAINT TRIGGER count_user_standing_on_update AFTER UPDATE ON public.users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.id <> NEW.id OR OLD.is_active <> NEW.is_active OR OLD.is_superuser <> NEW.is_superuser)
    EXECUTE FUNCTION public.count_user_standing();
COMMENT ON TRIGGER count_user_standing_on_update ON public.users IS 'Servers forget who may sign in.';
CREATE CONSTRAINT TRIGGER count_user_standing_on_delete AFTER DELETE ON public.users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION public.count_user_standing();
COMMENT ON TRIGGER count_user_standing_on_delete ON public.users IS 'Servers forget who may sign in.';
CREATE TRIGGER count_user_standing_on_truncate AFTER TRUNCATE ON public.users
    FOR EACH STATEMENT EXECUTE FUNCTION public.count_user_standing();
COMMENT ON TRIGGER count_user_standing_on_truncate ON public.users IS 'Servers forget who may sign in.';
ALTER TABLE public.users
    ENABLE ALWAYS TRIGGER count_user_standing_on_update,
    ENABLE ALWAYS TRIGGER count_user_standing_on_delete,
    ENABLE ALWAYS TRIGGER count_user_standing_on_truncate;

-- +goose Down
DROP TRIGGER count_user_standing_on_update ON public.users;
DROP TRIGGER count_user_standing_on_delete ON public.users;
DROP TRIGGER count_user_standing_on_truncate ON public.users;
DROP FUNCTION public.count_user_standing();
DROP TABLE public.user_standing;
