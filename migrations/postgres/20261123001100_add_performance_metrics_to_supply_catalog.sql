-- The specification's example migration: add performance_metrics to supply_catalog. Its index has GIN's default operator class, as there.
--
-- Locks: ACCESS EXCLUSIVE on supply_catalog until the commit; adding the column is instant (no default), the index reads the table
-- once. lock_timeout keeps the queue behind a long reader short: the migration fails and can be run again.

-- +goose Up
SET LOCAL lock_timeout = '5s';
ALTER TABLE public.supply_catalog ADD COLUMN performance_metrics JSONB;
CREATE INDEX idx_supply_catalog_performance ON public.supply_catalog USING gin (performance_metrics);

-- +goose Down
SET LOCAL lock_timeout = '5s';
DROP INDEX public.idx_supply_catalog_performance;
ALTER TABLE public.supply_catalog DROP COLUMN performance_metrics;
