-- What the daily monitor saw, one row a run of its own: it says `retrain` once, and then not again for a while.

CREATE TABLE monitor (
    run_id    text        NOT NULL,
    month     text        NOT NULL CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    outcome   text        NOT NULL CHECK (outcome IN ('quiet', 'retrain')),
    sentence  text        NOT NULL,
    numbers   jsonb       NOT NULL,
    looked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, month)
);
CREATE INDEX ON monitor (looked_at);
