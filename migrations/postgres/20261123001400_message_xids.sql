-- messages becomes its own log: xid is the transaction that added the row, which tells a reader of snapshots what is new. It costs a
-- writer 8 bytes, an index entry and a bell for each statement; a table of events, as runs have, would cost another row with three
-- index entries. Messages are never edited, so nothing else has to be remembered of them. Rows that are there already have no xid: they are
-- no news. A row that was restored from a backup brings the xid of another time or server; readers tell it by its xmin, which is older.
--
-- Locks: ACCESS EXCLUSIVE on messages for a moment: a column without a default rewrites nothing.

-- +goose Up
ALTER TABLE public.messages ADD COLUMN xid xid8;
ALTER TABLE public.messages ALTER COLUMN xid SET DEFAULT pg_current_xact_id();
COMMENT ON COLUMN public.messages.xid IS 'The transaction that added the message; null for those from before this column.';

-- +goose StatementBegin
CREATE FUNCTION public.ring_messages()
RETURNS TRIGGER LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_notify('messages', '');
    RETURN NULL;
END;
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION public.ring_messages() IS 'Trigger function: rings NOTIFY messages with an empty payload.';
REVOKE EXECUTE ON FUNCTION public.ring_messages() FROM PUBLIC;

CREATE TRIGGER ring_messages_on_insert AFTER INSERT ON public.messages
    FOR EACH STATEMENT EXECUTE FUNCTION public.ring_messages();
COMMENT ON TRIGGER ring_messages_on_insert ON public.messages IS 'Tells that there may be new messages.';
ALTER TABLE public.messages ENABLE ALWAYS TRIGGER ring_messages_on_insert;

-- +goose Down
DROP TRIGGER ring_messages_on_insert ON public.messages;
DROP FUNCTION public.ring_messages();
ALTER TABLE public.messages DROP COLUMN xid;
