-- Metrics by user, hour (UTC) and the dimensions that people ask for, a row for each combination that occurs: rows for each dimension by itself
-- would be many more to write. User 0 is everybody. A dimension that an event lacks is empty.
--
-- A combination stands in the key as its hash, and names are grouped by theirs: sorting and grouping by so many texts took most of the time of
-- an insert.
--
-- A repetition begins with an empty table. Events that are written meanwhile are missing: writers wait
-- until the migration is over.

-- +goose Up
DROP VIEW IF EXISTS metric_dimensions_view SYNC;

CREATE TABLE IF NOT EXISTS metric_dimensions (
    user_id UInt32,
    metric_name LowCardinality(String),
    unit LowCardinality(String),
    hour DateTime('UTC'),
    combination UInt64,
    model SimpleAggregateFunction(any, LowCardinality(String)),
    tool SimpleAggregateFunction(any, LowCardinality(String)),
    agent_type SimpleAggregateFunction(any, LowCardinality(String)),
    status SimpleAggregateFunction(any, LowCardinality(String)),
    environment SimpleAggregateFunction(any, LowCardinality(String)),
    total_value SimpleAggregateFunction(sum, Float64),
    event_count SimpleAggregateFunction(sum, UInt64),
    min_value SimpleAggregateFunction(min, Float64),
    max_value SimpleAggregateFunction(max, Float64)
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(hour)
ORDER BY (user_id, metric_name, unit, hour, combination)
TTL hour + INTERVAL 1 YEAR
SETTINGS non_replicated_deduplication_window = 10000;

TRUNCATE TABLE metric_dimensions SYNC;

INSERT INTO metric_dimensions (user_id, metric_name, unit, hour, combination, model, tool, agent_type, status, environment, total_value, event_count, min_value, max_value)
SELECT
    user_id,
    any(metric.name) AS metric_name,
    any(metric.unit) AS unit,
    hour,
    combination,
    any(event.model) AS model,
    any(event.tool) AS tool,
    any(event.agent_type) AS agent_type,
    any(event.status) AS status,
    any(event.environment) AS environment,
    sum(metric.value) AS total_value,
    count() AS event_count,
    min(metric.value) AS min_value,
    max(metric.value) AS max_value
FROM (
    SELECT
        user_id,
        toStartOfHour(timestamp) AS hour,
        toLowCardinality(dimensions['model']) AS model,
        toLowCardinality(dimensions['tool']) AS tool,
        toLowCardinality(dimensions['agent_type']) AS agent_type,
        toLowCardinality(dimensions['status']) AS status,
        toLowCardinality(dimensions['environment']) AS environment,
        cityHash64(model, tool, agent_type, status, environment) AS combination,
        metrics.name,
        metrics.value,
        metrics.unit
    FROM workload_events
    WHERE event_type = 'metric' AND user_id != 0
) AS event
ARRAY JOIN metrics.name AS `metric.name`, metrics.value AS `metric.value`, metrics.unit AS `metric.unit`
WHERE isFinite(metric.value)
GROUP BY user_id, hour, combination, cityHash64(metric.name, metric.unit)
SETTINGS max_bytes_before_external_group_by = 500000000;

INSERT INTO metric_dimensions (user_id, metric_name, unit, hour, combination, model, tool, agent_type, status, environment, total_value, event_count, min_value, max_value)
SELECT
    toUInt32(0) AS user_id,
    any(metric.name) AS metric_name,
    any(metric.unit) AS unit,
    hour,
    combination,
    any(event.model) AS model,
    any(event.tool) AS tool,
    any(event.agent_type) AS agent_type,
    any(event.status) AS status,
    any(event.environment) AS environment,
    sum(metric.value) AS total_value,
    count() AS event_count,
    min(metric.value) AS min_value,
    max(metric.value) AS max_value
FROM (
    SELECT
        user_id,
        toStartOfHour(timestamp) AS hour,
        toLowCardinality(dimensions['model']) AS model,
        toLowCardinality(dimensions['tool']) AS tool,
        toLowCardinality(dimensions['agent_type']) AS agent_type,
        toLowCardinality(dimensions['status']) AS status,
        toLowCardinality(dimensions['environment']) AS environment,
        cityHash64(model, tool, agent_type, status, environment) AS combination,
        metrics.name,
        metrics.value,
        metrics.unit
    FROM workload_events
    WHERE event_type = 'metric'
) AS event
ARRAY JOIN metrics.name AS `metric.name`, metrics.value AS `metric.value`, metrics.unit AS `metric.unit`
WHERE isFinite(metric.value)
GROUP BY hour, combination, cityHash64(metric.name, metric.unit)
SETTINGS max_bytes_before_external_group_by = 500000000;

CREATE MATERIALIZED VIEW metric_dimensions_view TO metric_dimensions
AS SELECT
    user_id,
    any(metric.name) AS metric_name,
    any(metric.unit) AS unit,
    hour,
    combination,
    any(event.model) AS model,
    any(event.tool) AS tool,
    any(event.agent_type) AS agent_type,
    any(event.status) AS status,
    any(event.environment) AS environment,
    sum(metric.value) AS total_value,
    count() AS event_count,
    min(metric.value) AS min_value,
    max(metric.value) AS max_value
FROM (
    SELECT
        user_id,
        toStartOfHour(timestamp) AS hour,
        toLowCardinality(dimensions['model']) AS model,
        toLowCardinality(dimensions['tool']) AS tool,
        toLowCardinality(dimensions['agent_type']) AS agent_type,
        toLowCardinality(dimensions['status']) AS status,
        toLowCardinality(dimensions['environment']) AS environment,
        cityHash64(model, tool, agent_type, status, environment) AS combination,
        metrics.name,
        metrics.value,
        metrics.unit
    FROM workload_events
    WHERE event_type = 'metric'
) AS event
ARRAY JOIN metrics.name AS `metric.name`, metrics.value AS `metric.value`, metrics.unit AS `metric.unit`
WHERE isFinite(metric.value)
GROUP BY hour, cityHash64(metric.name, metric.unit), combination, user_id WITH ROLLUP
HAVING grouping(combination) = 0 AND (user_id != 0 OR grouping(user_id) = 1);

-- +goose Down
DROP VIEW IF EXISTS metric_dimensions_view SYNC;

DROP TABLE IF EXISTS metric_dimensions SYNC;
