-- +goose NO TRANSACTION

-- Indexes of the live streams and of what the graph shows of them:
-- idx_messages_xid_thread_id finds what is new; idx_runs_open finds a tenant's runs that go on among all that have ended;
-- idx_run_events_thread_id_at_seq lists a thread's activity, and idx_run_events_user_id_xid finds what a stream of a tenant missed. They take the
-- place of (thread_id, seq) and (user_id, seq), which nothing reads any more: by seq alone, rows of transactions that commit late are missed.
--
-- A restored or interrupted attempt leaves an invalid index behind; each is dropped first, so that the file can be repeated.
--
-- Locks: SHARE UPDATE EXCLUSIVE: readers and writers go on.

-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS public.idx_messages_xid_thread_id;
CREATE INDEX CONCURRENTLY idx_messages_xid_thread_id ON public.messages(xid, thread_id) WHERE xid IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS public.idx_runs_open;
CREATE INDEX CONCURRENTLY idx_runs_open ON public.runs(user_id, created_at, id) WHERE status IN ('pending', 'processing');
DROP INDEX CONCURRENTLY IF EXISTS public.idx_run_events_thread_id_at_seq;
CREATE INDEX CONCURRENTLY idx_run_events_thread_id_at_seq ON public.run_events(thread_id, at, seq);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_run_events_thread_id_seq;
DROP INDEX CONCURRENTLY IF EXISTS public.idx_run_events_user_id_xid;
CREATE INDEX CONCURRENTLY idx_run_events_user_id_xid ON public.run_events(user_id, xid);
DROP INDEX CONCURRENTLY IF EXISTS public.idx_run_events_user_id_seq;

-- +goose Down
CREATE INDEX CONCURRENTLY idx_run_events_user_id_seq ON public.run_events(user_id, seq);
DROP INDEX CONCURRENTLY public.idx_run_events_user_id_xid;
CREATE INDEX CONCURRENTLY idx_run_events_thread_id_seq ON public.run_events(thread_id, seq);
DROP INDEX CONCURRENTLY public.idx_run_events_thread_id_at_seq;
DROP INDEX CONCURRENTLY public.idx_runs_open;
DROP INDEX CONCURRENTLY public.idx_messages_xid_thread_id;
