-- Metrics by user, workload, hour (UTC), name and unit: values in different units are never added up.
--
-- The specification's SummingMergeTree adds up min_value, max_value and avg_value when parts merge, and its metrics.name[1] drops
-- every metric but the first. Here each column merges by its own function and the view unfolds all metrics of an event.
-- Rows of one key stay apart until a merge, so reads aggregate again:
--   SELECT sum(total_value) / sum(event_count), min(min_value), quantilesTDigestMerge(0.5, 0.95)(value_quantiles) … GROUP BY …
-- avg_value is the average of one row, right over the whole table only with FINAL; never average it.
--
-- event_count counts measurements: an event that names a metric twice counts twice. NaN and infinities are left out: one would spoil
-- the hour's sum for ever.

-- +goose Up
CREATE TABLE IF NOT EXISTS aggregated_metrics (
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

CREATE MATERIALIZED VIEW IF NOT EXISTS aggregated_metrics_view TO aggregated_metrics
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

-- +goose Down
DROP VIEW IF EXISTS aggregated_metrics_view SYNC;
DROP TABLE IF EXISTS aggregated_metrics SYNC;
