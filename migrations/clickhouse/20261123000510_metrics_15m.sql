-- Metrics by user and quarter of an hour (UTC), which is what any zone's hours and days are made of. User 0 is everybody: the view adds the users'
-- rows up to them (ROLLUP leaves out the key's last column first, whose place has 0 then; what leaves out more is not wanted). An event that is
-- itself of user 0 is only everybody's.
--
-- Few rows matter to a question and their sketches are large, hence the small granules: a question for one user reads little beside its rows.
--
-- A repetition begins with an empty table. Hours that workload_events no longer has in full come from aggregated_metrics and count in
-- their first quarter. Events that are written meanwhile are missing: writers wait
-- until the migration is over.

-- +goose Up
DROP VIEW IF EXISTS metrics_15m_view SYNC;

CREATE TABLE IF NOT EXISTS metrics_15m (
    user_id UInt32,
    metric_name LowCardinality(String),
    unit LowCardinality(String),
    quarter DateTime('UTC'),
    total_value SimpleAggregateFunction(sum, Float64),
    event_count SimpleAggregateFunction(sum, UInt64),
    min_value SimpleAggregateFunction(min, Float64),
    max_value SimpleAggregateFunction(max, Float64),
    value_quantiles AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Float64)
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(quarter)
ORDER BY (user_id, metric_name, unit, quarter)
TTL quarter + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024;

TRUNCATE TABLE metrics_15m SYNC;

INSERT INTO metrics_15m (user_id, metric_name, unit, quarter, total_value, event_count, min_value, max_value, value_quantiles)
SELECT
    user_id,
    metric.name AS metric_name,
    metric.unit AS unit,
    toStartOfFifteenMinutes(timestamp) AS quarter,
    sum(metric.value) AS total_value,
    count() AS event_count,
    min(metric.value) AS min_value,
    max(metric.value) AS max_value,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(metric.value) AS value_quantiles
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value) AND user_id != 0 AND timestamp >= toStartOfHour(now('UTC') - INTERVAL 90 DAY) + INTERVAL 1 HOUR
GROUP BY user_id, metric_name, unit, quarter
UNION ALL
SELECT user_id, metric_name, unit, hour, total_value, event_count, min_value, max_value, value_quantiles
FROM aggregated_metrics
WHERE hour < toStartOfHour(now('UTC') - INTERVAL 90 DAY) + INTERVAL 1 HOUR AND user_id != 0
SETTINGS max_bytes_before_external_group_by = 500000000;

INSERT INTO metrics_15m (user_id, metric_name, unit, quarter, total_value, event_count, min_value, max_value, value_quantiles)
SELECT
    toUInt32(0) AS user_id,
    metric.name AS metric_name,
    metric.unit AS unit,
    toStartOfFifteenMinutes(timestamp) AS quarter,
    sum(metric.value) AS total_value,
    count() AS event_count,
    min(metric.value) AS min_value,
    max(metric.value) AS max_value,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(metric.value) AS value_quantiles
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value) AND timestamp >= toStartOfHour(now('UTC') - INTERVAL 90 DAY) + INTERVAL 1 HOUR
GROUP BY metric_name, unit, quarter
UNION ALL
SELECT toUInt32(0), metric_name, unit, hour, total_value, event_count, min_value, max_value, value_quantiles
FROM aggregated_metrics
WHERE hour < toStartOfHour(now('UTC') - INTERVAL 90 DAY) + INTERVAL 1 HOUR
SETTINGS max_bytes_before_external_group_by = 500000000;

CREATE MATERIALIZED VIEW metrics_15m_view TO metrics_15m
AS SELECT
    user_id,
    toLowCardinality(metric.name) AS metric_name,
    toLowCardinality(metric.unit) AS unit,
    toStartOfFifteenMinutes(timestamp) AS quarter,
    sum(metric.value) AS total_value,
    count() AS event_count,
    min(metric.value) AS min_value,
    max(metric.value) AS max_value,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(metric.value) AS value_quantiles
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value)
GROUP BY metric_name, unit, quarter, user_id WITH ROLLUP
HAVING grouping(quarter) = 0 AND (user_id != 0 OR grouping(user_id) = 1);

-- +goose Down
DROP VIEW IF EXISTS metrics_15m_view SYNC;

DROP TABLE IF EXISTS metrics_15m SYNC;
