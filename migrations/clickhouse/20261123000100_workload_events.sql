-- Workload events.
--
-- The zone is part of the type: without it, months and hours would be cut in the zone of whatever server runs the query.
-- non_replicated_deduplication_window makes a table without replicas remember the tokens of its last inserts, so that an insert retried
-- with the same insert_deduplication_token counts once; replicated tables do so anyway.
--
-- ClickHouse has no transactions: each statement can be repeated, so that a migration that stopped half-way can be run again.

-- +goose Up
CREATE TABLE IF NOT EXISTS workload_events (
    event_id UUID DEFAULT generateUUIDv4(),
    timestamp DateTime64(3, 'UTC') DEFAULT now64(3),
    user_id UInt32,
    workload_id String,
    event_type String,
    event_category String,
    metrics Nested(
        name String,
        value Float64,
        unit String
    ),
    dimensions Map(String, String),
    metadata String,
    INDEX idx_user_id user_id TYPE minmax GRANULARITY 8192,
    INDEX idx_workload_id workload_id TYPE bloom_filter GRANULARITY 1,
    INDEX idx_event_type event_type TYPE set(100) GRANULARITY 1
) ENGINE = MergeTree()
PARTITION BY toYYYYMM(timestamp)
ORDER BY (user_id, timestamp, event_id)
TTL timestamp + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 1000;

-- +goose Down
DROP TABLE IF EXISTS workload_events SYNC;
