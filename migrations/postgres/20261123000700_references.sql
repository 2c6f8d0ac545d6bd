-- References. The name is a reserved word of SQL: always "references".
--
-- The IVFFlat index is built on an empty table, so its centroids mean nothing until it is rebuilt (REINDEX INDEX CONCURRENTLY
-- idx_references_embedding) after the first load of data.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on users for its foreign key.

-- +goose Up
CREATE TABLE public."references" (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER NOT NULL REFERENCES public.users(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    type VARCHAR(100) NOT NULL,
    content TEXT,
    file_path TEXT,
    file_size BIGINT,
    mime_type VARCHAR(255),
    embedding VECTOR(1536),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata JSONB DEFAULT '{}'::jsonb,
    CONSTRAINT check_type CHECK (type IN ('document', 'dataset', 'configuration', 'model', 'other'))
);

CREATE INDEX idx_references_user_id ON public."references"(user_id);
CREATE INDEX idx_references_type ON public."references"(type);
CREATE INDEX idx_references_created_at ON public."references"(created_at);
CREATE INDEX idx_references_embedding ON public."references" USING ivfflat (embedding vector_cosine_ops);
CREATE INDEX idx_references_metadata ON public."references" USING gin (metadata jsonb_path_ops);

CREATE TRIGGER update_references_updated_at BEFORE UPDATE ON public."references"
    FOR EACH ROW EXECUTE FUNCTION public.update_updated_at_column();
COMMENT ON TRIGGER update_references_updated_at ON public."references" IS 'Keeps updated_at.';

ALTER TABLE public."references" ENABLE ROW LEVEL SECURITY;
ALTER TABLE public."references" FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public."references" TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public."references" TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT SELECT, INSERT, UPDATE, DELETE ON public."references" TO netra_app;

-- +goose Down
DROP TABLE public."references";
