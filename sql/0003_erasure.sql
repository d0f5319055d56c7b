-- What was erased, on whose word, and what became of it: the audit stays when the conversation is gone.

CREATE TABLE erasures (
    erasure_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope       text        NOT NULL CHECK (scope IN ('conversation', 'user')),
    subject     text        NOT NULL,
    reason      text        NOT NULL DEFAULT '',
    actor       text        NOT NULL,
    asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    report      jsonb
);
CREATE INDEX ON erasures (asked_at);
CREATE INDEX ON erasures (scope, subject);

-- Conversations that must never come back: the import turns them away.
CREATE TABLE erased_conversations (
    conversation_id text        PRIMARY KEY,
    erasure_id      bigint      NOT NULL REFERENCES erasures,
    erased_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON erased_conversations (erasure_id);
CREATE INDEX ON erased_conversations (erased_at);
