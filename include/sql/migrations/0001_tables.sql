-- The first tables. IF NOT EXISTS: databases of versions without numbered migrations have them.
-- Columns of features are added from the feature list (adnomaly.features).

CREATE TABLE IF NOT EXISTS clickstream_events (
    {click_columns},
    ingested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id)
);
CREATE INDEX IF NOT EXISTS clickstream_events_timestamp ON clickstream_events USING brin ("timestamp") WITH (autosummarize = on);
ALTER INDEX clickstream_events_timestamp SET (autosummarize = on);
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
COMMENT ON COLUMN anomaly_results.explanation IS 'Expected value, usual band, robust z and share per feature, and one sentence';
CREATE INDEX IF NOT EXISTS anomaly_results_incident ON anomaly_results (incident_id) WHERE incident_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS incidents (
    incident_id   text PRIMARY KEY,
    kind          text NOT NULL,
    geo           text,
    platform      text,
    began         timestamptz NOT NULL,
    last_seen     timestamptz NOT NULL,
    windows       integer NOT NULL DEFAULT 0,
    peak_score    double precision,
    model_version text,
    summary       text NOT NULL,
    clicks        bigint NOT NULL DEFAULT 0,
    suspect_clicks double precision NOT NULL DEFAULT 0,
    money_at_risk double precision NOT NULL DEFAULT 0,
    evidence      jsonb,
    status        text NOT NULL DEFAULT 'open'
                  CHECK (status IN ('open', 'acknowledged', 'confirmed', 'false_alarm', 'snoozed', 'resolved')),
    fraud_kind    text,
    snoozed_until timestamptz,
    snoozed_score double precision,
    snoozed_money double precision,
    revision      integer NOT NULL DEFAULT 0,
    opened_at     timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS incidents_last_seen ON incidents (last_seen);
COMMENT ON TABLE incidents IS 'What people decide about: anomalous windows of one entity in a row, a silence, or something that does not run';
COMMENT ON COLUMN incidents.kind IS 'anomaly, silence, platform outage or operations';
COMMENT ON COLUMN incidents.began IS 'Begin of its first window, UTC';
COMMENT ON COLUMN incidents.last_seen IS 'End of its newest window, or when it was last seen, UTC';
COMMENT ON COLUMN incidents.suspect_clicks IS 'Estimate: clicks beyond what is usual, in all or of single campaigns, ads, agents and users';
COMMENT ON COLUMN incidents.money_at_risk IS 'suspect_clicks times their mean CPC, in the currency of CPC';
COMMENT ON COLUMN incidents.evidence IS 'What it touches, against the usual shares of the entity';
COMMENT ON COLUMN incidents.snoozed_score IS 'Peak score at the time of the snooze; far beyond it the incident speaks again';
COMMENT ON COLUMN incidents.revision IS 'Number of its newest decision: a decision that was made on an older one is refused';

CREATE TABLE IF NOT EXISTS decisions (
    incident_id text NOT NULL REFERENCES incidents,
    revision    integer NOT NULL,
    action      text NOT NULL,
    fraud_kind  text,
    until       timestamptz,
    comment     text NOT NULL DEFAULT '',
    author      text NOT NULL,
    decided_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (incident_id, revision)
);
COMMENT ON TABLE decisions IS 'Everything that was decided about incidents; rows are only ever added';
COMMENT ON COLUMN decisions.author IS 'User of the Airflow login, or adnomaly itself';

CREATE TABLE IF NOT EXISTS notifications (
    incident_id text NOT NULL REFERENCES incidents,
    revision    integer NOT NULL,
    reason      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    sent_at     timestamptz,
    PRIMARY KEY (incident_id, revision)
);
CREATE INDEX IF NOT EXISTS notifications_unsent ON notifications (created_at) WHERE sent_at IS NULL;
COMMENT ON TABLE notifications IS 'What people are to be told, once per incident and each time it speaks again';

CREATE TABLE IF NOT EXISTS stream_health (
    at          timestamptz NOT NULL,
    stage       text NOT NULL,
    state       text NOT NULL CHECK (state IN ('green', 'amber', 'red', 'grey')),
    reason      text NOT NULL,
    total       bigint,
    rate        double precision,
    lag         bigint,
    freshness_s double precision,
    PRIMARY KEY (at, stage)
);
COMMENT ON TABLE stream_health IS 'Each stage of the path of a click, once a minute, as watch_streams saw it';

CREATE TABLE IF NOT EXISTS ledger (
    account text PRIMARY KEY,
    clicks  bigint NOT NULL,
    up_to   bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE ledger IS 'Running counts of clicks that the stores do not keep: windowed, late, before the first window';
COMMENT ON COLUMN ledger.up_to IS 'How far is counted: an offset of the topic of late clicks, or the end of a window in Unix seconds';

CREATE TABLE IF NOT EXISTS replays (
    topic_id    text NOT NULL,
    partition   integer NOT NULL,
    dead_offset bigint NOT NULL,
    author      text NOT NULL,
    begun_at    timestamptz NOT NULL DEFAULT now(),
    sent_at     timestamptz,
    PRIMARY KEY (topic_id, partition, dead_offset)
);
COMMENT ON TABLE replays IS 'Dead letters that somebody has sent into the stream again';

CREATE TABLE IF NOT EXISTS model_health (
    at            timestamptz NOT NULL,
    model_version text NOT NULL,
    measure       text NOT NULL,
    subject       text NOT NULL,
    value         double precision,
    most          double precision NOT NULL,
    PRIMARY KEY (model_version, at, measure, subject)
);
COMMENT ON TABLE model_health IS 'Drift of inputs and scores against training, and alert volume against its budget, as watch_model saw them';
COMMENT ON COLUMN model_health.most IS 'The largest value that calls for nothing';

CREATE TABLE IF NOT EXISTS deployments (
    deployed_at   timestamptz NOT NULL DEFAULT now(),
    model_version text NOT NULL,
    run_id        text NOT NULL DEFAULT '',
    PRIMARY KEY (deployed_at, model_version)
);
COMMENT ON TABLE deployments IS 'Which bundle was live from when on';

CREATE TABLE IF NOT EXISTS sink_offsets (
    sink        text NOT NULL,
    topic       text NOT NULL,
    topic_id    text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch       bigint NOT NULL DEFAULT 0,
    records     bigint NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic_id, partition)
);
COMMENT ON TABLE sink_offsets IS 'How far each sink has read; written in the transaction that stores the data';
ALTER TABLE sink_offsets ADD COLUMN IF NOT EXISTS records bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN sink_offsets.records IS 'Messages stored so far';
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
CREATE TABLE IF NOT EXISTS lake_readers (
    reader text PRIMARY KEY,
    until  timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS lake_replaced (
    object_key text PRIMARY KEY
);
COMMENT ON TABLE lake_readers IS 'Who reads whole hours of the lake now: nothing is rewritten meanwhile';
COMMENT ON TABLE lake_replaced IS 'Objects that left the manifest and are to be deleted';
COMMENT ON TABLE lake_objects IS 'The manifest of the lake: an object that is not named here does not exist for readers';
COMMENT ON COLUMN lake_objects.topic_id IS 'Kafka''s id of the topic, or the name of a generated history';
COMMENT ON COLUMN lake_objects.first_offset IS 'Offset of its first row; rows of other hours may lie between first and last';
COMMENT ON COLUMN lake_objects.hour IS 'Hour of event time, UTC';
