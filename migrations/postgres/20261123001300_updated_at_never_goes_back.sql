-- CURRENT_TIMESTAMP is when a transaction began: one that waited for another's row would set updated_at back, and a thread that has just been
-- written to would sink in the list. The later of the two stands.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION public.update_updated_at_column()
RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = GREATEST(CURRENT_TIMESTAMP, OLD.updated_at);
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
COMMENT ON FUNCTION public.update_updated_at_column() IS
    'Trigger function: sets updated_at to the start of the transaction, whatever the writer gave; never back.';

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION public.update_updated_at_column()
RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = CURRENT_TIMESTAMP;
    RETURN NEW;
END;
$$ LANGUAGE plpgsql;
-- +goose StatementEnd
COMMENT ON FUNCTION public.update_updated_at_column() IS
    'Trigger function: sets updated_at to the start of the transaction, whatever the writer gave.';
