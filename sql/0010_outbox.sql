-- A mail waits for whoever carries it: claimed for a while, tried again later, sent once.

ALTER TABLE outbox
    ADD COLUMN month         text        NOT NULL DEFAULT '', -- which it is about; '' of a mail about none
    ADD COLUMN kind          text        NOT NULL DEFAULT 'progress'
        CHECK (kind IN ('outcome', 'failed', 'progress', 'overdue', 'outage')),
    ADD COLUMN attempts      integer     NOT NULL DEFAULT 0,
    ADD COLUMN last_error    text,        -- of the newest attempt that failed
    ADD COLUMN next_try_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN claimed_until timestamptz; -- whoever carries it has until then to say what became of it
ALTER TABLE outbox ALTER COLUMN kind DROP DEFAULT, ALTER COLUMN month DROP DEFAULT;

-- What was queued before is told by its subject.
UPDATE outbox
SET month = coalesce(substring(message ->> 'subject' FROM '^Theta (\d{4}-\d{2}):'), ''),
    kind  = CASE WHEN message ->> 'subject' ~ '^Theta \d{4}-\d{2}: failed$' THEN 'failed'
                 WHEN message ->> 'subject' ~ '^Theta \d{4}-\d{2}: [a-z]+$' THEN 'outcome'
                 ELSE 'progress' END;

-- At most one mail a run says what it came to, beside one that it failed; at most one says that a month is overdue.
CREATE UNIQUE INDEX outbox_one_outcome_a_run ON outbox (run_id, kind) WHERE kind IN ('outcome', 'failed');
CREATE UNIQUE INDEX outbox_one_alarm_a_month ON outbox (month) WHERE kind = 'overdue';
CREATE INDEX outbox_waiting ON outbox (queued_at) WHERE sent_at IS NULL;
