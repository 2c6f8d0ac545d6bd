-- User activity by day (UTC) and action: merges add up count and total_duration_ms, so reads aggregate again.
-- No deduplication window, unlike the other tables: a row has no identity, so two equal inserts are two activities.

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
TTL date + INTERVAL 6 MONTH;

-- +goose Down
DROP TABLE IF EXISTS user_activity SYNC;
