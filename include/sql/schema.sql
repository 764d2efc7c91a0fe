-- The tables of Adnomaly. Safe to run again. Columns of features are added from the feature list (adnomaly.features).

CREATE TABLE IF NOT EXISTS clickstream_events (
    {click_columns},
    ingested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id)
);
CREATE INDEX IF NOT EXISTS clickstream_events_timestamp ON clickstream_events USING brin ("timestamp");
COMMENT ON TABLE clickstream_events IS 'Every valid click once, in the order of arrival';
COMMENT ON COLUMN clickstream_events.ingested_at IS 'When the row was written, UTC';

CREATE TABLE IF NOT EXISTS feature_aggregates (
    window_start timestamptz NOT NULL,
    window_end   timestamptz NOT NULL,
    geo          text NOT NULL,
    platform     text NOT NULL,
    computed_at  timestamptz NOT NULL,
    PRIMARY KEY (geo, platform, window_end)
);
CREATE INDEX IF NOT EXISTS feature_aggregates_window_end ON feature_aggregates (window_end);
COMMENT ON TABLE feature_aggregates IS 'Every window as the stream computed it';
COMMENT ON COLUMN feature_aggregates.window_start IS 'First moment of the window, UTC';
COMMENT ON COLUMN feature_aggregates.window_end IS 'First moment after the window, UTC';
COMMENT ON COLUMN feature_aggregates.computed_at IS 'When the stream emitted the window, UTC';

CREATE TABLE IF NOT EXISTS anomaly_results (
    window_start  timestamptz NOT NULL,
    window_end    timestamptz NOT NULL,
    geo           text NOT NULL,
    platform      text NOT NULL,
    anomaly_score double precision,
    threshold     double precision NOT NULL,
    is_anomaly    boolean NOT NULL,
    model_version text NOT NULL,
    alert_id      text,
    incident_id   text,
    explanation   jsonb,
    scored_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (geo, platform, window_end, model_version)
);
ALTER TABLE anomaly_results ALTER COLUMN anomaly_score DROP NOT NULL, ADD COLUMN IF NOT EXISTS incident_id text;
CREATE INDEX IF NOT EXISTS anomaly_results_window_end ON anomaly_results (window_end);
CREATE INDEX IF NOT EXISTS anomaly_results_alerts ON anomaly_results (window_end) WHERE is_anomaly;
COMMENT ON TABLE anomaly_results IS 'Every scored window, once per model version';
COMMENT ON COLUMN anomaly_results.anomaly_score IS 'Higher is more anomalous; null while the entity warms up';
COMMENT ON COLUMN anomaly_results.is_anomaly IS 'anomaly_score >= threshold';
COMMENT ON COLUMN anomaly_results.alert_id IS 'Hash of model version, geo, platform and window_end, when an alert was sent';
COMMENT ON COLUMN anomaly_results.incident_id IS 'Of anomalous windows: entity and end of the first window; at most 30 minutes apart is one incident';
COMMENT ON COLUMN anomaly_results.explanation IS 'Expected value, robust z and share per feature, and one sentence';

CREATE TABLE IF NOT EXISTS sink_offsets (
    sink        text NOT NULL,
    topic       text NOT NULL,
    topic_id    text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch       bigint NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic_id, partition)
);
COMMENT ON TABLE sink_offsets IS 'How far each sink has read; written in the transaction that stores the data';
COMMENT ON COLUMN sink_offsets.topic_id IS 'Kafka''s id of the topic: a topic of the same name made anew is another one';
COMMENT ON COLUMN sink_offsets.epoch IS 'Number of the claim; a writer with an older one is refused';

CREATE TABLE IF NOT EXISTS lake_objects (
    object_key   text PRIMARY KEY,
    source       text NOT NULL CHECK (source IN ('stream', 'history')),
    topic_id     text NOT NULL,
    partition    integer NOT NULL,
    first_offset bigint NOT NULL,
    last_offset  bigint NOT NULL,
    row_count    bigint NOT NULL,
    sha256       text NOT NULL,
    hour         timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS lake_objects_hour ON lake_objects (hour);
COMMENT ON TABLE lake_objects IS 'The manifest of the lake: an object that is not named here does not exist for readers';
COMMENT ON COLUMN lake_objects.topic_id IS 'Kafka''s id of the topic, or the name of a generated history';
COMMENT ON COLUMN lake_objects.first_offset IS 'Offset of its first row; rows of other hours may lie between first and last';
COMMENT ON COLUMN lake_objects.hour IS 'Hour of event time, UTC';
