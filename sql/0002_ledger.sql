-- The ledger says what was champion when, why, and on whose word. Append-only: the database refuses anything else.

CREATE TABLE ledger (
    entry_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id            text        NOT NULL,
    month             text        NOT NULL CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    decision          text        NOT NULL CHECK (decision IN (
        'bootstrap', 'promoted', 'rejected', 'blocked', 'failed', 'manual', 'rolled_back', 'evaluated')),
    sentence          text        NOT NULL,
    candidate_version integer,
    champion_before   integer,
    champion_after    integer,
    actor             text        NOT NULL,
    numbers           jsonb       NOT NULL,
    decided_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON ledger (decided_at);
CREATE INDEX ON ledger (month);
-- A run decides once. A failure is no decision: the run may be mended and decide after all.
CREATE UNIQUE INDEX ledger_one_decision_a_run ON ledger (run_id) WHERE decision <> 'failed';
CREATE UNIQUE INDEX ledger_one_failure_a_run ON ledger (run_id) WHERE decision = 'failed';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- One row a run: what it came to.
CREATE VIEW decisions AS
    SELECT DISTINCT ON (run_id) * FROM ledger ORDER BY run_id, decided_at DESC, entry_id DESC;

-- Mails that must leave: written together with the decision, sent by whoever carries the mail, marked when gone.
CREATE TABLE outbox (
    message_id text        PRIMARY KEY, -- the mail's own Message-ID: the same message is never queued twice
    run_id     text        NOT NULL,
    message    jsonb       NOT NULL,
    queued_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at    timestamptz
);
CREATE INDEX ON outbox (queued_at);
CREATE INDEX ON outbox (sent_at);
