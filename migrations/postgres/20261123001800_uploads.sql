-- Files behind references.
--
-- objects is the journal of the storage: a row is there before the first byte of an object is, and goes after the object has gone. So what nobody
-- uses is found without listing the storage: collect_after says from when on the object may be deleted, unless a reference names it. It is NULL
-- while one does, in the future while the object may still be in the making, and set by a trigger when the reference goes, whoever deletes it. A
-- row outlives its user, since the object does: no foreign key.
--
-- pending_uploads are references to be, by the reference's id: what is known of the file that somebody is about to send.
--
-- Locks: new tables; SHARE ROW EXCLUSIVE on users for a foreign key; ACCESS EXCLUSIVE on "references" until the commit, while the rows that have a
-- file_path are indexed: a second for a million.

-- +goose Up
SET LOCAL lock_timeout = '5s';
CREATE TABLE public.objects (
    path TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    collect_after TIMESTAMP WITH TIME ZONE
);
COMMENT ON TABLE public.objects IS 'What the storage of files holds, or may hold.';
COMMENT ON COLUMN public.objects.collect_after IS 'From when on the object may be deleted; NULL while a reference names it.';
CREATE INDEX idx_objects_collect_after ON public.objects(collect_after) WHERE collect_after IS NOT NULL;

CREATE TABLE public.pending_uploads (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id INTEGER NOT NULL REFERENCES public.users(id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL,
    type VARCHAR(100) NOT NULL,
    mime_type VARCHAR(255),
    file_size BIGINT,
    metadata JSONB DEFAULT '{}'::jsonb,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    completed_at TIMESTAMP WITH TIME ZONE
);
COMMENT ON TABLE public.pending_uploads IS 'References whose file has not come yet; kept for some hours.';
CREATE INDEX idx_pending_uploads_user_id ON public.pending_uploads(user_id);
CREATE INDEX idx_pending_uploads_expires_at ON public.pending_uploads(expires_at);

ALTER TABLE public.objects ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.objects FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.objects TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.objects TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));
GRANT SELECT, INSERT, UPDATE, DELETE ON public.objects TO netra_app;

ALTER TABLE public.pending_uploads ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.pending_uploads FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.pending_uploads TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.pending_uploads TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));
GRANT SELECT, INSERT, UPDATE, DELETE ON public.pending_uploads TO netra_app;

ALTER TABLE public."references" ADD COLUMN checksum VARCHAR(64);
COMMENT ON COLUMN public."references".checksum IS 'SHA-256 of the file in hex.';
CREATE INDEX idx_references_file_path ON public."references"(file_path) WHERE file_path IS NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION public.free_object()
RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.file_path IS DISTINCT FROM OLD.file_path THEN
        UPDATE public.objects SET collect_after = now() WHERE path = OLD.file_path AND user_id = OLD.user_id;
    END IF;
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.free_object() IS 'Trigger function: lets the object be collected that a reference no longer names.';
REVOKE EXECUTE ON FUNCTION public.free_object() FROM PUBLIC;
CREATE TRIGGER free_references_object AFTER DELETE OR UPDATE OF file_path ON public."references" FOR EACH ROW
    WHEN (OLD.file_path IS NOT NULL) EXECUTE FUNCTION public.free_object();
ALTER TABLE public."references" ENABLE ALWAYS TRIGGER free_references_object;
COMMENT ON TRIGGER free_references_object ON public."references" IS 'Lets the object be collected.';

-- +goose Down
SET LOCAL lock_timeout = '5s';
DROP TRIGGER free_references_object ON public."references";
DROP FUNCTION public.free_object();
DROP INDEX public.idx_references_file_path;
ALTER TABLE public."references" DROP COLUMN checksum;
DROP TABLE public.pending_uploads;
DROP TABLE public.objects;
