-- aggregated_metrics by thread, too: the thread that an event names in dimensions['thread_id'].
--
-- A sorting key cannot grow in place by a column that is computed from events, so the table is filled anew beside the old one and takes its
-- name in one step: hours that workload_events still has in full from there, older ones as they were, without threads.
--
-- The view gives a row for each measurement and leaves adding up to merges: among many workloads and threads nearly every measurement has a key of
-- its own, and grouping them took most of the time of an insert. A sketch of one value is written down as ClickHouse stores it (one centroid: its mean
-- and its weight), which spares making and compressing a sketch for each row: that took as long as everything else together. Names and units are few
-- and sort faster by their place in a dictionary.
--
-- Everything can be repeated, wherever it stopped. Events that are written meanwhile are missing from the aggregates: writers wait until
-- the migration is over.

-- +goose Up
DROP VIEW IF EXISTS aggregated_metrics_view SYNC;

DROP TABLE IF EXISTS aggregated_metrics_new SYNC;

CREATE TABLE aggregated_metrics_new (
    hour DateTime('UTC'),
    user_id UInt32,
    workload_id String,
    metric_name LowCardinality(String),
    unit LowCardinality(String),
    thread_id String,
    total_value SimpleAggregateFunction(sum, Float64),
    event_count SimpleAggregateFunction(sum, UInt64),
    min_value SimpleAggregateFunction(min, Float64),
    max_value SimpleAggregateFunction(max, Float64),
    value_quantiles AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Float64),
    avg_value Float64 ALIAS total_value / event_count,
    INDEX idx_thread_id thread_id TYPE bloom_filter GRANULARITY 1
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(hour)
ORDER BY (user_id, workload_id, hour, metric_name, unit, thread_id)
TTL hour + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 1000;

INSERT INTO aggregated_metrics_new (hour, user_id, workload_id, metric_name, unit, thread_id, total_value, event_count, min_value, max_value, value_quantiles)
SELECT
    toStartOfHour(timestamp) AS hour,
    user_id,
    workload_id,
    metric.name AS metric_name,
    metric.unit AS unit,
    dimensions['thread_id'] AS thread_id,
    sum(metric.value),
    count(),
    min(metric.value),
    max(metric.value),
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(metric.value)
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value) AND timestamp >= toStartOfHour(now('UTC') - INTERVAL 90 DAY) + INTERVAL 1 HOUR
GROUP BY hour, user_id, workload_id, metric_name, unit, thread_id
UNION ALL
SELECT hour, user_id, workload_id, metric_name, unit, '', total_value, event_count, min_value, max_value, value_quantiles
FROM aggregated_metrics
WHERE hour < toStartOfHour(now('UTC') - INTERVAL 90 DAY) + INTERVAL 1 HOUR
SETTINGS max_bytes_before_external_group_by = 500000000;

EXCHANGE TABLES aggregated_metrics AND aggregated_metrics_new;

DROP TABLE aggregated_metrics_new SYNC;

CREATE MATERIALIZED VIEW aggregated_metrics_view TO aggregated_metrics
AS SELECT
    toStartOfHour(timestamp) AS hour,
    user_id,
    workload_id,
    toLowCardinality(metric.name) AS metric_name,
    toLowCardinality(metric.unit) AS unit,
    dimensions['thread_id'] AS thread_id,
    metric.value AS total_value,
    toUInt64(1) AS event_count,
    metric.value AS min_value,
    metric.value AS max_value,
    CAST(concat(char(1), reinterpretAsFixedString(toFloat32(metric.value)), reinterpretAsFixedString(toFloat32(1)))
        AS AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Float64)) AS value_quantiles
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value);

-- +goose Down
DROP VIEW IF EXISTS aggregated_metrics_view SYNC;

DROP TABLE IF EXISTS aggregated_metrics_old SYNC;

CREATE TABLE aggregated_metrics_old (
    hour DateTime('UTC'),
    user_id UInt32,
    workload_id String,
    metric_name String,
    unit String,
    total_value SimpleAggregateFunction(sum, Float64),
    event_count SimpleAggregateFunction(sum, UInt64),
    min_value SimpleAggregateFunction(min, Float64),
    max_value SimpleAggregateFunction(max, Float64),
    value_quantiles AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Float64),
    avg_value Float64 ALIAS total_value / event_count
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(hour)
ORDER BY (user_id, workload_id, hour, metric_name, unit)
TTL hour + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 1000;

INSERT INTO aggregated_metrics_old (hour, user_id, workload_id, metric_name, unit, total_value, event_count, min_value, max_value, value_quantiles)
SELECT hour, user_id, workload_id, metric_name, unit, total_value, event_count, min_value, max_value, value_quantiles
FROM aggregated_metrics;

EXCHANGE TABLES aggregated_metrics AND aggregated_metrics_old;

DROP TABLE aggregated_metrics_old SYNC;

CREATE MATERIALIZED VIEW aggregated_metrics_view TO aggregated_metrics
AS SELECT
    toStartOfHour(timestamp) AS hour,
    user_id,
    workload_id,
    metric.name AS metric_name,
    metric.unit AS unit,
    sum(metric.value) AS total_value,
    count() AS event_count,
    min(metric.value) AS min_value,
    max(metric.value) AS max_value,
    quantilesTDigestState(0.5, 0.9, 0.95, 0.99)(metric.value) AS value_quantiles
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value)
GROUP BY hour, user_id, workload_id, metric_name, unit;
