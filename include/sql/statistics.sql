-- What `make db-query` prints without a query: what is stored, and how new it is. Times are UTC.
SET TIME ZONE 'UTC';
\pset footer off
\pset null '-'

\echo Clicks
SELECT count(*) AS clicks, min("timestamp")::timestamp(0) AS oldest, max("timestamp")::timestamp(0) AS newest,
       count(*) FILTER (WHERE "timestamp" > now() - interval '1 hour') AS last_hour,
       pg_size_pretty(pg_total_relation_size('clickstream_events')) AS size
FROM clickstream_events;

\echo Clicks by geo and platform
SELECT geo, platform, count(*) AS clicks, round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS percent,
       count(*) FILTER (WHERE "timestamp" > now() - interval '1 hour') AS last_hour,
       max("timestamp")::timestamp(0) AS newest
FROM clickstream_events GROUP BY geo, platform ORDER BY clicks DESC, geo, platform;

\echo Windows
SELECT 'computed' AS windows, count(*), min(window_end)::timestamp(0) AS oldest, max(window_end)::timestamp(0) AS newest,
       count(*) FILTER (WHERE window_end > now() - interval '1 hour') AS last_hour FROM feature_aggregates
UNION ALL
SELECT 'scored', count(*), min(window_end)::timestamp(0), max(window_end)::timestamp(0),
       count(*) FILTER (WHERE window_end > now() - interval '1 hour') FROM anomaly_results
UNION ALL
SELECT 'anomalous', count(*), min(window_end)::timestamp(0), max(window_end)::timestamp(0),
       count(*) FILTER (WHERE window_end > now() - interval '1 hour') FROM anomaly_results WHERE is_anomaly;

\echo Incidents
SELECT status, kind, count(*) AS incidents, max(last_seen)::timestamp(0) AS newest, round(sum(money_at_risk)::numeric, 2) AS money_at_risk
FROM incidents GROUP BY status, kind ORDER BY newest DESC;
