-- The landing zone by month. `conversations` and `messages` are partitioned by when a conversation occurred, a month (UTC,
-- half-open) a partition: a query touches the months that it names and no other, and a month leaves as a whole. There is
-- no default partition: a row of a month that nobody made is refused rather than swallowed.
--
-- The rows of a database from before are moved here, in this one transaction: until it is over the disk holds them twice;
-- docs/months.md says how long it takes, and what of a team's own the tables lose.

-- Said before hours of copying, not after: what a team has built upon the tables cannot move with them.
DO $$
DECLARE
    ours CONSTANT oid[] := ARRAY['conversations'::regclass, 'messages'::regclass];
    built text;
BEGIN
    SELECT string_agg(DISTINCT pg_describe_object(classid, objid, 0), '; ')
    INTO built
    FROM pg_depend
    WHERE (deptype = 'n' OR classid IN ('pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_publication_rel'::regclass))
      AND (
          (refclassid = 'pg_class'::regclass AND refobjid = ANY(ours))
          OR (refclassid = 'pg_type'::regclass AND refobjid IN (SELECT reltype FROM pg_class WHERE oid = ANY(ours)))
      )
      AND (classid, objid) NOT IN (
          SELECT 'pg_constraint'::regclass, oid
          FROM pg_constraint
          WHERE conrelid IN ('messages'::regclass, 'model_feedback'::regclass, 'quarantine'::regclass)
      );
    IF built IS NOT NULL THEN
        RAISE EXCEPTION 'conversations and messages are made anew, and these are built upon them: %', built
            USING HINT = 'Keep their definitions, drop them, migrate, and make them again.';
    END IF;
    SELECT string_agg(format('%s.%s', attrelid::regclass, attname), ', ')
    INTO built
    FROM pg_attribute
    WHERE attrelid = ANY(ours)
      AND attnum > 0
      AND NOT attisdropped
      AND attname NOT IN (
          'conversation_id', 'source', 'language', 'topics', 'user_id', 'rating', 'model_version', 'occurred_at',
          'landed_at', 'batch_id', 'position', 'role', 'content', 'author', 'created_at'
      );
    IF built IS NOT NULL THEN
        RAISE EXCEPTION 'these columns are none of ours and would be lost: %', built
            USING HINT = 'Move them to a table of your own, by conversation_id, drop them, and migrate.';
    END IF;
END $$;

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
    batch_id        bigint       -- of import_batches
) PARTITION BY RANGE (occurred_at);

-- A conversation's messages lie in its month. Each month's table has, of its own, the primary key (conversation_id,
-- position) and the reference to the conversations of the same month: made by `key_month`, kept when it is detached.
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

-- Keys of the month's messages.
CREATE FUNCTION key_month(named text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    suffix text := replace(named, '-', '_');
BEGIN
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
        PERFORM attach_month(named);
        PERFORM key_month(named);
    END IF;
END $$;

DO $$
DECLARE
    named text;
BEGIN
    FOR named IN
        SELECT DISTINCT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM') FROM before_months.conversations ORDER BY 1
    LOOP
        INSERT INTO landing_months (month) VALUES (named);
        PERFORM lay_month(named);
        PERFORM attach_month(named);
    END LOOP;
END $$;

INSERT INTO conversations (
    conversation_id, source, language, topics, user_id, rating, model_version, occurred_at, landed_at, batch_id
)
SELECT conversation_id, source, language, topics, user_id, rating, model_version, occurred_at, landed_at, batch_id
FROM before_months.conversations;

INSERT INTO messages (conversation_id, occurred_at, position, role, content, author, rating, created_at)
SELECT conversation_id, occurred_at, position, role, content, author, messages.rating, created_at
FROM before_months.messages
JOIN before_months.conversations USING (conversation_id);

INSERT INTO landed_ids SELECT conversation_id FROM before_months.conversations;

-- Keys and indexes when the rows are there: built at once rather than row by row.
ALTER TABLE conversations ADD PRIMARY KEY (conversation_id, occurred_at);
CREATE INDEX ON conversations (occurred_at);
CREATE INDEX ON conversations (landed_at);
CREATE INDEX ON messages (created_at);
SELECT key_month(month) FROM landing_months;

DO $$
DECLARE
    held record;
BEGIN
    IF (SELECT count(*) FROM conversations) <> (SELECT count(*) FROM before_months.conversations)
        OR (SELECT count(*) FROM messages) <> (SELECT count(*) FROM before_months.messages) THEN
        RAISE EXCEPTION 'not every row found its month';
    END IF;
    FOR held IN
        SELECT
            relname,
            privilege_type,
            CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee,
            CASE WHEN is_grantable THEN 'WITH GRANT OPTION' ELSE '' END AS option
        FROM pg_class, aclexplode(relacl)
        WHERE relnamespace = 'before_months'::regnamespace AND relkind = 'r' AND grantee <> relowner
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s %s', held.privilege_type, held.relname, held.grantee, held.option);
    END LOOP;
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

-- Of the rejected lines those that were sound, but of a conversation that was erased or a month that is detached: no fault
-- of the feed, by which a month is not judged.
ALTER TABLE import_batches ADD COLUMN turned_away bigint NOT NULL DEFAULT 0;

UPDATE import_batches SET turned_away = lines
FROM (SELECT batch_id, count(*) AS lines FROM rejected_rows WHERE reason = 'erased' GROUP BY batch_id) AS away
WHERE away.batch_id = import_batches.batch_id;

-- The newest stamp of a batch's rows: the next stamp is later, and no month is asked for it.
ALTER TABLE import_batches ADD COLUMN landed_at timestamptz;
UPDATE import_batches SET landed_at = newest
FROM (SELECT batch_id, max(landed_at) AS newest FROM conversations GROUP BY batch_id) AS landed
WHERE landed.batch_id = import_batches.batch_id;
CREATE INDEX ON import_batches (landed_at);
