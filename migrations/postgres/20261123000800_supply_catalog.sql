-- The supply catalogue. A row without user_id is a system item: every viewer reads it, only superusers write it. That is why the
-- deletion of a user deletes their items: with SET NULL it would publish them to every tenant.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on users for its foreign key.

-- +goose Up
CREATE TABLE public.supply_catalog (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER REFERENCES public.users(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    category VARCHAR(100) NOT NULL,
    provider VARCHAR(100),
    specifications JSONB NOT NULL,
    pricing JSONB,
    availability JSONB,
    is_active BOOLEAN NOT NULL DEFAULT true,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata JSONB DEFAULT '{}'::jsonb
);

CREATE INDEX idx_supply_catalog_category ON public.supply_catalog(category);
CREATE INDEX idx_supply_catalog_provider ON public.supply_catalog(provider);
CREATE INDEX idx_supply_catalog_is_active ON public.supply_catalog(is_active);
CREATE INDEX idx_supply_catalog_user_id ON public.supply_catalog(user_id);
CREATE INDEX idx_supply_catalog_specifications ON public.supply_catalog USING gin (specifications jsonb_path_ops);
CREATE INDEX idx_supply_catalog_pricing ON public.supply_catalog USING gin (pricing jsonb_path_ops);
CREATE INDEX idx_supply_catalog_availability ON public.supply_catalog USING gin (availability jsonb_path_ops);
CREATE INDEX idx_supply_catalog_metadata ON public.supply_catalog USING gin (metadata jsonb_path_ops);

CREATE TRIGGER update_supply_catalog_updated_at BEFORE UPDATE ON public.supply_catalog
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
COMMENT ON TRIGGER update_supply_catalog_updated_at ON public.supply_catalog IS 'Keeps updated_at.';

ALTER TABLE public.supply_catalog ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.supply_catalog FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.supply_catalog TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.supply_catalog TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));
CREATE POLICY viewer_reads_system_items ON public.supply_catalog FOR SELECT TO netra_app
    USING (user_id IS NULL AND (SELECT nullif(current_setting('netra.user_id', true), '') IS NOT NULL));

GRANT SELECT, INSERT, UPDATE, DELETE ON public.supply_catalog TO netra_app;

-- +goose Down
DROP TABLE public.supply_catalog;
