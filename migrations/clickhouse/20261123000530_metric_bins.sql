-- How many values of a metric lie where, by user and hour (UTC), for histograms. User 0 is everybody.
--
-- Bins are 2 % wide: bin 10000 + k holds values from 1.02^k to below 1.02^(k+1), bin 0 zeros, and bin -10000 - k values from -1.02^k to below
-- -1.02^(k-1). Values nearer to zero than 1.02^-9999 or beyond 1.02^22767 are counted in the last bin on their side.
--
-- A repetition begins with an empty table. Events that are written meanwhile are missing: writers wait
-- until the migration is over.

-- +goose Up
DROP VIEW IF EXISTS metric_bins_view SYNC;

CREATE TABLE IF NOT EXISTS metric_bins (
    user_id UInt32,
    metric_name LowCardinality(String),
    unit LowCardinality(String),
    hour DateTime('UTC'),
    bin Int16,
    event_count SimpleAggregateFunction(sum, UInt64)
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(hour)
ORDER BY (user_id, metric_name, unit, hour, bin)
TTL hour + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

TRUNCATE TABLE metric_bins SYNC;

INSERT INTO metric_bins (user_id, metric_name, unit, hour, bin, event_count)
SELECT
    user_id,
    toLowCardinality(metric.name) AS metric_name,
    toLowCardinality(metric.unit) AS unit,
    toStartOfHour(timestamp) AS hour,
    toInt16(multiIf(
        metric.value > 0, 10000 + least(greatest(floor(log(metric.value) / log(1.02)), -9999), 22767),
        metric.value < 0, -10000 - least(greatest(ceil(log(-metric.value) / log(1.02)), -9999), 22767),
        0)) AS bin,
    count() AS event_count
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value) AND user_id != 0
GROUP BY user_id, metric_name, unit, hour, bin
SETTINGS max_bytes_before_external_group_by = 500000000;

INSERT INTO metric_bins (user_id, metric_name, unit, hour, bin, event_count)
SELECT
    toUInt32(0) AS user_id,
    toLowCardinality(metric.name) AS metric_name,
    toLowCardinality(metric.unit) AS unit,
    toStartOfHour(timestamp) AS hour,
    toInt16(multiIf(
        metric.value > 0, 10000 + least(greatest(floor(log(metric.value) / log(1.02)), -9999), 22767),
        metric.value < 0, -10000 - least(greatest(ceil(log(-metric.value) / log(1.02)), -9999), 22767),
        0)) AS bin,
    count() AS event_count
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value)
GROUP BY metric_name, unit, hour, bin
SETTINGS max_bytes_before_external_group_by = 500000000;

CREATE MATERIALIZED VIEW metric_bins_view TO metric_bins
AS SELECT
    user_id,
    toLowCardinality(metric.name) AS metric_name,
    toLowCardinality(metric.unit) AS unit,
    toStartOfHour(timestamp) AS hour,
    toInt16(multiIf(
        metric.value > 0, 10000 + least(greatest(floor(log(metric.value) / log(1.02)), -9999), 22767),
        metric.value < 0, -10000 - least(greatest(ceil(log(-metric.value) / log(1.02)), -9999), 22767),
        0)) AS bin,
    count() AS event_count
FROM workload_events
ARRAY JOIN metrics AS metric
WHERE event_type = 'metric' AND isFinite(metric.value)
GROUP BY metric_name, unit, hour, bin, user_id WITH ROLLUP
HAVING grouping(bin) = 0 AND (user_id != 0 OR grouping(user_id) = 1);

-- +goose Down
DROP VIEW IF EXISTS metric_bins_view SYNC;

DROP TABLE IF EXISTS metric_bins SYNC;
