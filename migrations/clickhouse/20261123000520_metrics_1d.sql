-- metrics_15m by day (UTC): what is written there is added up here.

-- +goose Up
DROP VIEW IF EXISTS metrics_1d_view SYNC;

CREATE TABLE IF NOT EXISTS metrics_1d (
    user_id UInt32,
    metric_name LowCardinality(String),
    unit LowCardinality(String),
    day DateTime('UTC'),
    total_value SimpleAggregateFunction(sum, Float64),
    event_count SimpleAggregateFunction(sum, UInt64),
    min_value SimpleAggregateFunction(min, Float64),
    max_value SimpleAggregateFunction(max, Float64),
    value_quantiles AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Float64)
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(day)
ORDER BY (user_id, metric_name, unit, day)
TTL day + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 256;

TRUNCATE TABLE metrics_1d SYNC;

INSERT INTO metrics_1d (user_id, metric_name, unit, day, total_value, event_count, min_value, max_value, value_quantiles)
SELECT user_id, metric_name, unit, toStartOfDay(quarter) AS day, sum(total_value), sum(event_count), min(min_value), max(max_value),
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(value_quantiles)
FROM metrics_15m
GROUP BY user_id, metric_name, unit, day
SETTINGS max_bytes_before_external_group_by = 500000000;

CREATE MATERIALIZED VIEW metrics_1d_view TO metrics_1d
AS SELECT
    user_id,
    metric_name,
    unit,
    toStartOfDay(quarter) AS day,
    sum(metrics_15m.total_value) AS total_value,
    sum(metrics_15m.event_count) AS event_count,
    min(metrics_15m.min_value) AS min_value,
    max(metrics_15m.max_value) AS max_value,
    quantilesTDigestMergeState(0.5, 0.9, 0.95, 0.99)(metrics_15m.value_quantiles) AS value_quantiles
FROM metrics_15m
GROUP BY user_id, metric_name, unit, day;

-- +goose Down
DROP VIEW IF EXISTS metrics_1d_view SYNC;

DROP TABLE IF EXISTS metrics_1d SYNC;
