-- version counts the edits of what several people may edit at once, so that a writer can say which state an edit was made of. updated_at
-- cannot tell: a message touches the thread that it is posted in, two edits can share an instant, and clients see milliseconds only.
--
-- The number is set under the row's lock whoever writes. Columns that machines fill in (updated_at, embedding) do not count as edits; that is
-- why the columns are named: a column that comes later is no edit until its trigger says so.
--
-- Locks: ACCESS EXCLUSIVE on each table until the commit; nothing is rewritten, since a constant default is kept in the catalogue.

-- +goose Up
SET LOCAL lock_timeout = '5s';
-- +goose StatementBegin
CREATE FUNCTION public.count_edit()
RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.count_edit() IS 'Trigger function: adds one to version, whatever the writer gave.';

ALTER TABLE public.threads ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
CREATE TRIGGER count_threads_edit BEFORE UPDATE ON public.threads FOR EACH ROW
    WHEN ((OLD.user_id, OLD.title, OLD.status, OLD.metadata)
        IS DISTINCT FROM (NEW.user_id, NEW.title, NEW.status, NEW.metadata))
    EXECUTE FUNCTION public.count_edit();
COMMENT ON TRIGGER count_threads_edit ON public.threads IS 'Counts edits under the row lock.';

ALTER TABLE public."references" ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
CREATE TRIGGER count_references_edit BEFORE UPDATE ON public."references" FOR EACH ROW
    WHEN ((OLD.user_id, OLD.name, OLD.type, OLD.content, OLD.file_path, OLD.file_size, OLD.mime_type, OLD.metadata)
        IS DISTINCT FROM (NEW.user_id, NEW.name, NEW.type, NEW.content, NEW.file_path, NEW.file_size, NEW.mime_type, NEW.metadata))
    EXECUTE FUNCTION public.count_edit();
COMMENT ON TRIGGER count_references_edit ON public."references" IS 'Counts edits under the row lock.';

ALTER TABLE public.supply_catalog ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
CREATE TRIGGER count_supply_catalog_edit BEFORE UPDATE ON public.supply_catalog FOR EACH ROW
    WHEN ((OLD.user_id, OLD.name, OLD.category, OLD.provider, OLD.specifications, OLD.pricing, OLD.availability, OLD.performance_metrics, OLD.is_active, OLD.metadata)
        IS DISTINCT FROM (NEW.user_id, NEW.name, NEW.category, NEW.provider, NEW.specifications, NEW.pricing, NEW.availability, NEW.performance_metrics, NEW.is_active, NEW.metadata))
    EXECUTE FUNCTION public.count_edit();
COMMENT ON TRIGGER count_supply_catalog_edit ON public.supply_catalog IS 'Counts edits under the row lock.';

-- +goose Down
SET LOCAL lock_timeout = '5s';
DROP TRIGGER count_supply_catalog_edit ON public.supply_catalog;
ALTER TABLE public.supply_catalog DROP COLUMN version;
DROP TRIGGER count_references_edit ON public."references";
ALTER TABLE public."references" DROP COLUMN version;
DROP TRIGGER count_threads_edit ON public.threads;
ALTER TABLE public.threads DROP COLUMN version;
DROP FUNCTION public.count_edit();
