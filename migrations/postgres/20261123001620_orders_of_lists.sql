-- Indexes in the orders in which references, supply items, API keys and audit logs are listed: the parent, the order and the id in one index, as
-- keyset pages need them.
--
-- Locks: SHARE on each table (writers wait, readers do not) while its indexes are built. lock_timeout keeps the queue behind a long writer
-- short: the migration fails and can be run again.

-- +goose Up
SET LOCAL lock_timeout = '5s';
CREATE INDEX idx_references_user_id_created_at_id ON public."references"(user_id, created_at, id);
CREATE INDEX idx_references_user_id_updated_at_id ON public."references"(user_id, updated_at, id);
CREATE INDEX idx_references_user_id_name_id ON public."references"(user_id, name, id);
CREATE INDEX idx_supply_catalog_user_id_created_at_id ON public.supply_catalog(user_id, created_at, id);
CREATE INDEX idx_supply_catalog_user_id_name_id ON public.supply_catalog(user_id, name, id);
CREATE INDEX idx_api_keys_user_id_created_at_id ON public.api_keys(user_id, created_at, id);
CREATE INDEX idx_api_keys_user_id_name_id ON public.api_keys(user_id, name, id);
CREATE INDEX idx_audit_logs_user_id_created_at_id ON public.audit_logs(user_id, created_at, id);
CREATE INDEX idx_audit_logs_created_at_id ON public.audit_logs(created_at, id);

-- +goose Down
SET LOCAL lock_timeout = '5s';
DROP INDEX public.idx_audit_logs_created_at_id;
DROP INDEX public.idx_audit_logs_user_id_created_at_id;
DROP INDEX public.idx_api_keys_user_id_name_id;
DROP INDEX public.idx_api_keys_user_id_created_at_id;
DROP INDEX public.idx_supply_catalog_user_id_name_id;
DROP INDEX public.idx_supply_catalog_user_id_created_at_id;
DROP INDEX public.idx_references_user_id_name_id;
DROP INDEX public.idx_references_user_id_updated_at_id;
DROP INDEX public.idx_references_user_id_created_at_id;
