-- The landing zone by month. `conversations` and `messages` are partitioned by when a conversation occurred, a month (UTC,
-- half-open) a partition: a query touches the months that it names and no other, and a month leaves as a whole. There is
-- no default partition: a row of a month that nobody made is refused rather than swallowed.
--
-- The rows of a database from before are moved here, month by month, in this one transaction: until it is over the disk
-- holds them twice; docs/months.md says how long it takes.

-- Months there are or were. Whoever lands rows makes their months first (`make_month`).
CREATE TABLE landing_months (
    month       text        PRIMARY KEY CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    detached_at timestamptz, -- from then on it is out of the pipeline's sight, and nothing of it lands
    dropped_at  timestamptz CHECK (dropped_at IS NULL OR detached_at IS NOT NULL)
);

-- Where the tables of detached months lie.
CREATE SCHEMA detached;

CREATE SCHEMA before_months;
ALTER TABLE messages SET SCHEMA before_months;
ALTER TABLE conversations SET SCHEMA before_months;

-- batch_id refers to no table any more: batches are never removed, and a reference would make whoever makes or detaches a
-- month wait for every import under way.
CREATE TABLE conversations (
    conversation_id text        NOT NULL,
    source          text        NOT NULL,
    language        text,
    topics          text[]      NOT NULL DEFAULT '{}',
    user_id         text,
    rating          real,
    model_version   text,        -- who answered, where it was a version of ours
    occurred_at     timestamptz NOT NULL,
    landed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    batch_id        bigint,      -- of import_batches
    PRIMARY KEY (conversation_id, occurred_at)
) PARTITION BY RANGE (occurred_at);
CREATE INDEX ON conversations (occurred_at);
CREATE INDEX ON conversations (landed_at);

-- A conversation's messages lie in its month. Each month's table has, of its own, the primary key (conversation_id,
-- position) and the reference to the conversations of the same month: made by `bind_month`, kept when it is detached.
CREATE TABLE messages (
    conversation_id text        NOT NULL,
    occurred_at     timestamptz NOT NULL, -- of the conversation
    position        integer     NOT NULL CHECK (position >= 0),
    role            text        NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
    content         text        NOT NULL,
    author          text,
    rating          real,
    created_at      timestamptz
) PARTITION BY RANGE (occurred_at);
CREATE INDEX ON messages (created_at);

-- Every id that has landed, in whatever month, attached or detached: an id is taken once. A plain table, for a lookup in
-- one index is cheaper than one in a sixteenth of it behind a choice of partition.
CREATE TABLE landed_ids (
    conversation_id text NOT NULL
);

CREATE FUNCTION month_start(named text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT make_timestamptz(left(named, 4)::integer, right(named, 2)::integer, 1, 0, 0, 0, 'UTC')
$$;
CREATE FUNCTION month_end(named text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT (month_start(named) AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'
$$;

-- A month's two tables, bare: without indexes, and not yet partitions.
CREATE FUNCTION lay_month(named text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kind text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['conversations', 'messages'] LOOP
        EXECUTE format(
            'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', kind || '_' || replace(named, '-', '_'), kind
        );
    END LOOP;
END $$;

-- Makes the month's tables partitions. ATTACH lets others read and write the other months meanwhile; CREATE TABLE …
-- PARTITION OF would not.
CREATE FUNCTION attach_month(named text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    kind text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['conversations', 'messages'] LOOP
        EXECUTE format(
            'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            kind,
            kind || '_' || replace(named, '-', '_'),
            month_start(named),
            month_end(named)
        );
    END LOOP;
END $$;

-- Attaches what `lay_month` made, with its keys.
CREATE FUNCTION bind_month(named text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    suffix text := replace(named, '-', '_');
BEGIN
    PERFORM attach_month(named);
    EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (conversation_id, position)', 'messages_' || suffix);
    EXECUTE format(
        'ALTER TABLE %I ADD FOREIGN KEY (conversation_id, occurred_at) REFERENCES %I ON DELETE CASCADE',
        'messages_' || suffix,
        'conversations_' || suffix
    );
END $$;

-- Makes a month, `YYYY-MM`, unless it was made before. Who makes the same month at the same time waits for the first; call
-- it in a transaction of its own.
CREATE FUNCTION make_month(named text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO landing_months (month) VALUES (named) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM lay_month(named);
        PERFORM bind_month(named);
    END IF;
END $$;

DO $$
DECLARE
    named text;
    suffix text;
BEGIN
    FOR named IN
        SELECT DISTINCT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM') FROM before_months.conversations ORDER BY 1
    LOOP
        suffix := replace(named, '-', '_');
        INSERT INTO landing_months (month) VALUES (named);
        PERFORM lay_month(named);
        EXECUTE format(
            'INSERT INTO %I SELECT conversation_id, source, language, topics, user_id, rating, model_version, occurred_at,'
            ' landed_at, batch_id FROM before_months.conversations WHERE occurred_at >= %L AND occurred_at < %L',
            'conversations_' || suffix,
            month_start(named),
            month_end(named)
        );
        EXECUTE format('ANALYZE %I', 'conversations_' || suffix); -- a month is little of all, or most: the join should know
        EXECUTE format(
            'INSERT INTO %I SELECT conversation_id, occurred_at, position, role, content, author, messages.rating, created_at'
            ' FROM %I JOIN before_months.messages USING (conversation_id)',
            'messages_' || suffix,
            'conversations_' || suffix
        );
        PERFORM bind_month(named);
    END LOOP;
    INSERT INTO landed_ids SELECT conversation_id FROM before_months.conversations;
    IF (SELECT count(*) FROM conversations) <> (SELECT count(*) FROM before_months.conversations)
        OR (SELECT count(*) FROM messages) <> (SELECT count(*) FROM before_months.messages) THEN
        RAISE EXCEPTION 'not every row found its month';
    END IF;
END $$;

ALTER TABLE landed_ids ADD PRIMARY KEY (conversation_id);
ALTER TABLE model_feedback
    DROP CONSTRAINT model_feedback_conversation_id_fkey,
    ADD FOREIGN KEY (conversation_id) REFERENCES landed_ids ON DELETE CASCADE;
ALTER TABLE quarantine
    DROP CONSTRAINT quarantine_conversation_id_fkey,
    ADD FOREIGN KEY (conversation_id) REFERENCES landed_ids ON DELETE CASCADE;
DROP TABLE before_months.messages, before_months.conversations;
DROP SCHEMA before_months;

-- Whoever inserts a conversation takes its id: a second one of that id, in any month, is refused. In the order of ids, as
-- in all that takes several: two that take the same wait for each other rather than deadlock.
CREATE FUNCTION take_ids() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO landed_ids (conversation_id) SELECT conversation_id FROM fresh ORDER BY conversation_id;
    RETURN NULL;
END $$;
CREATE TRIGGER take_ids AFTER INSERT ON conversations
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION take_ids();

-- Whoever deletes gives it back; feedback and quarantine go with it.
CREATE FUNCTION give_ids_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM landed_ids USING gone WHERE landed_ids.conversation_id = gone.conversation_id;
    RETURN NULL;
END $$;
CREATE TRIGGER give_ids_back AFTER DELETE ON conversations
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION give_ids_back();

-- The newest stamp of a batch's rows: the next stamp is later, and no month is asked for it.
ALTER TABLE import_batches ADD COLUMN landed_at timestamptz;
UPDATE import_batches SET landed_at = newest
FROM (SELECT batch_id, max(landed_at) AS newest FROM conversations GROUP BY batch_id) AS landed
WHERE landed.batch_id = import_batches.batch_id;
CREATE INDEX ON import_batches (landed_at);
