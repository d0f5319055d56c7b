-- Conversations that a snapshot sets aside, and why: a row for each rule that one breaks, no word of it. What is erased
-- goes from here with it.

CREATE TABLE quarantine (
    snapshot_key    text        NOT NULL,
    conversation_id text        NOT NULL REFERENCES conversations ON DELETE CASCADE,
    month           text        NOT NULL CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    rule            text        NOT NULL, -- the expectation's name
    reason          text        NOT NULL,
    run_id          text        NOT NULL, -- the run that first saw it
    quarantined_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (snapshot_key, conversation_id, rule)
);
CREATE INDEX ON quarantine (conversation_id);
CREATE INDEX ON quarantine (month, rule);
CREATE INDEX ON quarantine (quarantined_at);

-- Tables of features, of the validations under way; each drops its own, and what killed ones left.
CREATE SCHEMA validation;
