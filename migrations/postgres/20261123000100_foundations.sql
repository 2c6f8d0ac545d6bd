-- What the tables stand on: extensions, the application role, the trigger function of the specification.
--
-- Locks: none on tables. CREATE ROLE touches the whole cluster, so two databases that migrate at once may meet there.
-- Down leaves the extensions and the role: other databases of the cluster may use them, and they may have been there before.

-- +goose Up
CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'netra_app') THEN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolcreaterole OR rolsuper)) THEN
            RAISE EXCEPTION 'role netra_app does not exist and % may not create it: run CREATE ROLE netra_app LOGIN as a superuser', current_user;
        END IF;
        BEGIN
            CREATE ROLE netra_app LOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster was faster
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'netra_app' AND (rolsuper OR rolbypassrls)) THEN
        RAISE EXCEPTION 'role netra_app is a superuser or has BYPASSRLS: row-level security would not hold';
    END IF;
    IF pg_has_role('netra_app', current_user, 'USAGE') THEN
        RAISE EXCEPTION 'role netra_app has the rights of the owner %: row-level security would not hold', current_user;
    END IF;
END;
$$;
-- +goose StatementEnd

GRANT USAGE ON SCHEMA public TO netra_app;

-- +goose StatementBegin
CREATE FUNCTION public.update_updated_at_column()
RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = CURRENT_TIMESTAMP;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
COMMENT ON FUNCTION public.update_updated_at_column() IS
    'Trigger function: sets updated_at to the start of the transaction, whatever the writer gave.';

-- +goose Down
DROP FUNCTION public.update_updated_at_column();
REVOKE USAGE ON SCHEMA public FROM netra_app;
