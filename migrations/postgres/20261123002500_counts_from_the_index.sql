-- +goose NO TRANSACTION

-- Threads' messages are counted, and threads' runs listed, from the index alone. The policies look at user_id of every row, so an index without it sends
-- each count to the table, row by row. Both new indexes take the place of one with the same key, and serve all that it did:
-- messages: 68 MB in place of 59 for a million; counting 50 messages each of 20 threads costs half of the processor time.
-- runs: 10 MB in place of 6 for 100,000, with what every list of them shows; a page of 5 runs each of 20 threads costs two thirds. A run's status is in
-- another index already, so an update that changes it was never HOT.
--
-- Rows are read from the index where VACUUM has seen that they are visible to everybody. Nothing of messages is ever updated, so VACUUM has little to do
-- there, but by default it comes after each fifth of the table is new, which are the threads that are read most; now after each fiftieth.
--
-- A restored or interrupted attempt leaves an invalid index behind; each is dropped first, so that the file can be repeated.
--
-- Locks: SHARE UPDATE EXCLUSIVE: readers and writers go on.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_thread_id_created_at_id_with_tenant;
CREATE INDEX CONCURRENTLY idx_messages_thread_id_created_at_id_with_tenant ON public.messages(thread_id, created_at, id) INCLUDE (user_id);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_thread_id_created_at_id;
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_thread_id_created_at_id_with_summary;
CREATE INDEX CONCURRENTLY idx_runs_thread_id_created_at_id_with_summary ON public.runs(thread_id, created_at, id) INCLUDE (user_id, status, version, agent_type);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_thread_id_created_at_id;
ALTER TABLE public.messages SET (autovacuum_vacuum_insert_scale_factor = 0.02);

-- +goose Down
ALTER TABLE public.messages RESET (autovacuum_vacuum_insert_scale_factor);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_thread_id_created_at_id;
CREATE INDEX CONCURRENTLY idx_runs_thread_id_created_at_id ON public.runs(thread_id, created_at, id);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_thread_id_created_at_id_with_summary;
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_thread_id_created_at_id;
CREATE INDEX CONCURRENTLY idx_messages_thread_id_created_at_id ON public.messages(thread_id, created_at, id);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_thread_id_created_at_id_with_tenant;
