-- Workloads that were active within seven days.

-- +goose Up
CREATE VIEW IF NOT EXISTS recent_workloads AS
SELECT
    workload_id,
    user_id,
    max(timestamp) AS last_seen,
    count() AS event_count,
    uniqExact(event_type) AS unique_event_types
FROM workload_events
WHERE timestamp > now() - INTERVAL 7 DAY
GROUP BY workload_id, user_id;

-- +goose Down
DROP VIEW IF EXISTS recent_workloads SYNC;
