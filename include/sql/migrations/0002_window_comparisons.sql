CREATE TABLE window_comparisons (
    day      date PRIMARY KEY,
    outcome  text NOT NULL CHECK (outcome IN ('equal', 'differs', 'skipped')),
    compared bigint NOT NULL DEFAULT 0,
    reason   text NOT NULL DEFAULT '',
    at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE window_comparisons IS 'Windows of the stream against those of the batch, one UTC day a row';
COMMENT ON COLUMN window_comparisons.compared IS 'Windows that stream or batch have, outside generated history';
