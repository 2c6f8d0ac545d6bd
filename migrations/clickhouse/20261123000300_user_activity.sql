-- User activity by day (UTC) and action: merges add up count and total_duration_ms, so reads aggregate again.

-- +goose Up
CREATE TABLE IF NOT EXISTS user_activity (
    date Date DEFAULT toDate(now('UTC')),
    user_id UInt32,
    action String,
    count UInt64,
    total_duration_ms UInt64,
    metadata String
) ENGINE = SummingMergeTree()
PARTITION BY toYYYYMM(date)
ORDER BY (date, user_id, action)
TTL date + INTERVAL 6 MONTH
SETTINGS non_replicated_deduplication_window = 1000;

-- +goose Down
DROP TABLE IF EXISTS user_activity SYNC;
