-- Months in numbers, for dashboards: what each holds, and how far it is from the ones before. Keyed by the artifact that
-- says the same, so that a rerun changes nothing; the views show the newest word on each month.

CREATE TABLE month_profiles (
    profile_key   text        PRIMARY KEY,
    month         text        NOT NULL CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    run_id        text        NOT NULL,
    conversations bigint      NOT NULL,
    messages      bigint      NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON month_profiles (month, recorded_at);
CREATE INDEX ON month_profiles (recorded_at);

CREATE TABLE month_statistics (
    profile_key text             NOT NULL REFERENCES month_profiles ON DELETE CASCADE,
    name        text             NOT NULL,
    kind        text             NOT NULL CHECK (kind IN ('statistic', 'indicator')),
    value       double precision NOT NULL,
    PRIMARY KEY (profile_key, name)
);

-- How many conversations (of lengths and hours: in each bar).
CREATE TABLE month_categories (
    profile_key   text   NOT NULL REFERENCES month_profiles ON DELETE CASCADE,
    kind          text   NOT NULL, -- topic, language, source
    name          text   NOT NULL,
    conversations bigint NOT NULL,
    PRIMARY KEY (profile_key, kind, name)
);

CREATE TABLE month_histograms (
    profile_key text             NOT NULL REFERENCES month_profiles ON DELETE CASCADE,
    name        text             NOT NULL,
    bin         integer          NOT NULL,
    low         double precision NOT NULL,
    high        double precision NOT NULL,
    rows        bigint           NOT NULL,
    PRIMARY KEY (profile_key, name, bin)
);

CREATE TABLE month_drifts (
    drift_key       text        PRIMARY KEY,
    month           text        NOT NULL CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    run_id          text        NOT NULL,
    reference_month text,
    outcome         text        NOT NULL CHECK (outcome IN ('stable', 'drifted', 'broken', 'no_reference')),
    sentence        text        NOT NULL,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON month_drifts (month, recorded_at);
CREATE INDEX ON month_drifts (recorded_at);

CREATE TABLE month_drift_columns (
    drift_key       text             NOT NULL REFERENCES month_drifts ON DELETE CASCADE,
    reference_month text             NOT NULL,
    name            text             NOT NULL,
    method          text             NOT NULL,
    score           double precision NOT NULL,
    threshold       double precision NOT NULL,
    drifted         boolean          NOT NULL,
    PRIMARY KEY (drift_key, reference_month, name)
);

CREATE VIEW newest_profiles AS
    SELECT DISTINCT ON (month) * FROM month_profiles ORDER BY month, recorded_at DESC, profile_key;
CREATE VIEW newest_drifts AS
    SELECT DISTINCT ON (month) * FROM month_drifts ORDER BY month, recorded_at DESC, drift_key;
