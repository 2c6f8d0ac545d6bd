-- Metrics by user and day, hour and quarter of an hour (UTC), in one table in place of metrics_1d and metrics_15m. User 0 is everybody: the view adds
-- the users' rows up to them (ROLLUP leaves out the key's last column first, whose place has 0 then; what leaves out more is not wanted). An
-- event that is itself of user 0 is only everybody's.
--
-- A range is made of few rows so: whole days, hours of what is left, and quarters of what is left then. Each further table that a query reads costs it more
-- than the rows do, hence one for all.
--
-- Few rows matter to a question and their sketches are large: the sketches of a whole granule are made where one is wanted. Hence the small granules and
-- blocks, and the key, by which the days of all metrics of a user lie together. To find where a granule's block ends, ClickHouse walks through the granules
-- that share it: of a LowCardinality column all share the dictionary's, hence plain strings.
--
-- A repetition begins with an empty table, as long as there is metrics_15m to fill it from. Events that are written meanwhile are missing: writers wait
-- until the migration is over.

-- +goose Up
DROP VIEW IF EXISTS metric_sums_view SYNC;

CREATE TABLE IF NOT EXISTS metric_sums (
    user_id UInt32,
    metric_name String,
    unit String,
    grain Enum8('day' = 1, 'hour' = 2, 'quarter' = 3),
    start DateTime('UTC'),
    total_value SimpleAggregateFunction(sum, Float64),
    event_count SimpleAggregateFunction(sum, UInt64),
    min_value SimpleAggregateFunction(min, Float64),
    max_value SimpleAggregateFunction(max, Float64),
    value_quantiles AggregateFunction(quantilesTDigest(0.5, 0.9, 0.95, 0.99), Float64)
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(start)
ORDER BY (user_id, grain, metric_name, unit, start)
TTL start + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 16, min_compress_block_size = 4096;

TRUNCATE TABLE metric_sums SYNC;

INSERT INTO metric_sums (user_id, metric_name, unit, grain, start, total_value, event_count, min_value, max_value, value_quantiles)
SELECT user_id, metric_name, unit, grain, start, total_value, event_count, min_value, max_value, value_quantiles
FROM metrics_15m
ARRAY JOIN ['day', 'hour', 'quarter'] AS grain, [toStartOfDay(quarter), toStartOfHour(quarter), quarter] AS start
SETTINGS max_threads = 1, max_insert_threads = 1, max_block_size = 8192, min_insert_block_size_rows = 65536, min_insert_block_size_bytes = 100000000;

CREATE MATERIALIZED VIEW metric_sums_view TO metric_sums
AS SELECT user_id, metric_name, unit, grain, start, total_value, event_count, min_value, max_value, value_quantiles
FROM (
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
    WHERE event_type = 'metric' AND isFinite(metric.value)
    GROUP BY metric_name, unit, quarter, user_id WITH ROLLUP
    HAVING grouping(quarter) = 0 AND (user_id != 0 OR grouping(user_id) = 1)
) AS quarters
ARRAY JOIN ['day', 'hour', 'quarter'] AS grain, [toStartOfDay(quarter), toStartOfHour(quarter), quarter] AS start;

DROP VIEW IF EXISTS metrics_1d_view SYNC;

DROP VIEW IF EXISTS metrics_15m_view SYNC;

DROP TABLE IF EXISTS metrics_1d SYNC;

DROP TABLE IF EXISTS metrics_15m SYNC;

-- +goose Down
DROP VIEW IF EXISTS metric_sums_view SYNC;

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

TRUNCATE TABLE metrics_15m SYNC;

TRUNCATE TABLE metrics_1d SYNC;

INSERT INTO metrics_15m (user_id, metric_name, unit, quarter, total_value, event_count, min_value, max_value, value_quantiles)
SELECT user_id, metric_name, unit, start, total_value, event_count, min_value, max_value, value_quantiles
FROM metric_sums
WHERE grain = 'quarter'
SETTINGS max_threads = 1, max_insert_threads = 1, max_block_size = 8192, min_insert_block_size_rows = 65536, min_insert_block_size_bytes = 100000000;

INSERT INTO metrics_1d (user_id, metric_name, unit, day, total_value, event_count, min_value, max_value, value_quantiles)
SELECT user_id, metric_name, unit, start, total_value, event_count, min_value, max_value, value_quantiles
FROM metric_sums
WHERE grain = 'day'
SETTINGS max_threads = 1, max_insert_threads = 1, max_block_size = 8192, min_insert_block_size_rows = 65536, min_insert_block_size_bytes = 100000000;

CREATE MATERIALIZED VIEW IF NOT EXISTS metrics_15m_view TO metrics_15m
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

CREATE MATERIALIZED VIEW IF NOT EXISTS metrics_1d_view TO metrics_1d
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

DROP TABLE IF EXISTS metric_sums SYNC;
