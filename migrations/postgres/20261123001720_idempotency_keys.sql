-- What mutations with a key have done: the row is written in the transaction of the effect, so that there is one if and only if there is the
-- other, and its uniqueness makes those who come at the same time wait for the first. Keys are the client's; only hashes are kept.
--
-- Locks: a new table; SHARE ROW EXCLUSIVE on users for its foreign key.

-- +goose Up
CREATE TABLE public.idempotency_keys (
    user_id INTEGER NOT NULL REFERENCES public.users(id) ON DELETE CASCADE,
    operation VARCHAR(100) NOT NULL,
    key_hash BYTEA NOT NULL,
    input_hash BYTEA NOT NULL,
    answer BYTEA,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (user_id, operation, key_hash)
);
COMMENT ON TABLE public.idempotency_keys IS 'What mutations that were sent with an idempotency key have done, until the keys expire.';
CREATE INDEX idx_idempotency_keys_user_id_expires_at ON public.idempotency_keys(user_id, expires_at);

ALTER TABLE public.idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON public.idempotency_keys TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY viewer ON public.idempotency_keys TO netra_app
    USING (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'))
    WITH CHECK (
        user_id = (SELECT nullif(current_setting('netra.user_id', true), '')::int)
        OR (SELECT current_setting('netra.superuser', true) = 'on'));

GRANT SELECT, INSERT, UPDATE, DELETE ON public.idempotency_keys TO netra_app;

-- +goose Down
DROP TABLE public.idempotency_keys;
