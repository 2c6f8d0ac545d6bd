-- +goose NO TRANSACTION

-- What is in threads is found by whose it is, and then by thread: all that a user has is close together in the index. A page of 20 threads of a user with few
-- has its runs in two pages of the index, where it read one for each thread, which with millions of rows are in no cache of the processor. Both new indexes
-- take the place of one with the same columns, and have its size.
--
-- What was there before goes when both are complete. A restored or interrupted attempt leaves an invalid index behind; each is dropped first, so that the file can
-- be repeated.
--
-- Locks: SHARE UPDATE EXCLUSIVE: readers and writers go on. A server of before does not name the tenant, and reads all of a thread for a page or a count of it: replace
-- it first, this one works with the indexes of before too.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_user_id_thread_id_created_at_id;
CREATE INDEX CONCURRENTLY idx_messages_user_id_thread_id_created_at_id ON public.messages(user_id, thread_id, created_at, id);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_user_id_thread_id_created_at_id_with_summary;
CREATE INDEX CONCURRENTLY idx_runs_user_id_thread_id_created_at_id_with_summary ON public.runs(user_id, thread_id, created_at, id) INCLUDE (status, version, agent_type);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_thread_id_created_at_id_with_tenant;
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_thread_id_created_at_id_with_summary;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_thread_id_created_at_id_with_summary;
CREATE INDEX CONCURRENTLY idx_runs_thread_id_created_at_id_with_summary ON public.runs(thread_id, created_at, id) INCLUDE (user_id, status, version, agent_type);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_thread_id_created_at_id_with_tenant;
CREATE INDEX CONCURRENTLY idx_messages_thread_id_created_at_id_with_tenant ON public.messages(thread_id, created_at, id) INCLUDE (user_id);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_user_id_thread_id_created_at_id_with_summary;
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_user_id_thread_id_created_at_id;
