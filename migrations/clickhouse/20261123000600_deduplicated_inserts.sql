-- Inserts that are repeated count once, as far back as the last 10,000.
--
-- user_activity is written by ingestion, which gives every insert an insert_deduplication_token. Whoever else writes there must too: without
-- one, an insert that equals an earlier one is taken for its repetition. The windows of the other tables grow from 1,000 to what replicated tables remember: each partition that an insert touches takes a
-- place, and all replicas share them. A place is about 100 bytes of memory and of a log beside the parts.
--
-- The settings change nothing that is stored and lock nothing.

-- +goose Up
ALTER TABLE user_activity MODIFY SETTING non_replicated_deduplication_window = 10000;
ALTER TABLE workload_events MODIFY SETTING non_replicated_deduplication_window = 10000;
ALTER TABLE aggregated_metrics MODIFY SETTING non_replicated_deduplication_window = 10000;

-- +goose Down
ALTER TABLE aggregated_metrics MODIFY SETTING non_replicated_deduplication_window = 1000;
ALTER TABLE workload_events MODIFY SETTING non_replicated_deduplication_window = 1000;
ALTER TABLE user_activity RESET SETTING non_replicated_deduplication_window;
