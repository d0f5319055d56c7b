-- A person's word in the ledger, and what retention took away.

ALTER TABLE ledger
    ADD COLUMN reason     text NOT NULL DEFAULT '', -- in a person's words, where a person decided
    ADD COLUMN expires_at timestamptz;              -- until then no run replaces the champion that a person put in
-- NOT VALID: rows from before stand as they are.
ALTER TABLE ledger
    ADD CONSTRAINT ledger_by_hand CHECK (
        decision NOT IN ('manual', 'rolled_back')
        OR (reason <> '' AND actor <> '' AND champion_after IS NOT NULL AND expires_at IS NOT NULL)) NOT VALID;

-- For whoever owns the table too, and under session_replication_role = replica.
ALTER TABLE ledger ENABLE ALWAYS TRIGGER ledger_append_only;

-- Rows are written under the champion's lock, one after the other: their number is their order, whatever the clock did.
CREATE OR REPLACE VIEW decisions AS
    SELECT DISTINCT ON (run_id) * FROM ledger ORDER BY run_id, entry_id DESC;

-- Versions whose files retention removed. Written before anything goes; finished_at says that all is gone, so that what
-- was broken off is finished by the next attempt. A version is never un-retired.
CREATE TABLE retired_versions (
    version      integer     PRIMARY KEY,
    training_key text        NOT NULL, -- its training in the store
    source       text        NOT NULL, -- its files in MLflow
    retired_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
CREATE INDEX ON retired_versions (training_key);
