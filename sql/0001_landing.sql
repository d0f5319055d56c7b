-- The landing zone. Append-only but for erasure; landed_at is the database's own clock.

CREATE TABLE import_batches (
    batch_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    file          text        NOT NULL,
    source        text,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz,
    conversations bigint      NOT NULL DEFAULT 0,
    messages      bigint      NOT NULL DEFAULT 0,
    duplicates    bigint      NOT NULL DEFAULT 0,
    rejected      bigint      NOT NULL DEFAULT 0
);
CREATE INDEX ON import_batches (started_at);

CREATE TABLE conversations (
    conversation_id text        PRIMARY KEY,
    source          text        NOT NULL,
    language        text,
    topics          text[]      NOT NULL DEFAULT '{}',
    user_id         text,
    rating          real,
    model_version   text,       -- who answered, where it was a version of ours
    occurred_at     timestamptz NOT NULL,
    landed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    batch_id        bigint      REFERENCES import_batches
);
CREATE INDEX ON conversations (occurred_at);
CREATE INDEX ON conversations (landed_at);

CREATE TABLE messages (
    conversation_id text        NOT NULL REFERENCES conversations ON DELETE CASCADE,
    position        integer     NOT NULL CHECK (position >= 0),
    role            text        NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
    content         text        NOT NULL,
    author          text,
    rating          real,
    created_at      timestamptz,
    PRIMARY KEY (conversation_id, position)
);
CREATE INDEX ON messages (created_at);

CREATE TABLE model_feedback (
    feedback_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation_id text        NOT NULL REFERENCES conversations ON DELETE CASCADE,
    position        integer,    -- the message judged; null where the whole conversation is
    rating          real        NOT NULL,
    comment         text,
    given_at        timestamptz,
    landed_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON model_feedback (conversation_id);
CREATE INDEX ON model_feedback (given_at);
CREATE INDEX ON model_feedback (landed_at);

CREATE TABLE rejected_rows (
    rejected_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id    bigint      NOT NULL REFERENCES import_batches,
    file        text        NOT NULL,
    line        bigint      NOT NULL,
    reason      text        NOT NULL,
    raw         bytea       NOT NULL, -- the line as it was, cut at 64 KiB: it may hold bytes that no text column takes
    rejected_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON rejected_rows (batch_id);
CREATE INDEX ON rejected_rows (rejected_at);

-- What a run sees of the landing zone, frozen: a retry of the same run finds the same watermark here.
CREATE TABLE snapshots (
    run_id    text        NOT NULL,
    month     text        NOT NULL CHECK (month ~ '^\d{4}-(0[1-9]|1[0-2])$'),
    watermark timestamptz NOT NULL,
    without   text[]      NOT NULL, -- months before, left out because their data was blocked
    taken_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, month)
);
CREATE INDEX ON snapshots (taken_at);
CREATE INDEX ON snapshots (watermark);

-- Users leave the landing zone under a pseudonym: a hash with this key, which stays here.
CREATE TABLE pseudonym_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key      bytea   NOT NULL
);
INSERT INTO pseudonym_key (key) VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

-- What was taken into a training corpus, from where.
CREATE TABLE training_data (
    corpus_key      text        NOT NULL,
    conversation_id text        NOT NULL,
    source          text        NOT NULL,
    month           text        NOT NULL,
    split           text        NOT NULL CHECK (split IN ('train', 'validation', 'test')),
    tokens          integer     NOT NULL,
    taken_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (corpus_key, conversation_id)
);
CREATE INDEX ON training_data (conversation_id);
CREATE INDEX ON training_data (taken_at);

-- One row an epoch of each training attempt.
CREATE TABLE training_metrics (
    run_id            text             NOT NULL,
    model_key         text             NOT NULL,
    epoch             integer          NOT NULL,
    step              bigint           NOT NULL,
    train_loss        double precision NOT NULL,
    validation_loss   double precision NOT NULL,
    learning_rate     double precision NOT NULL,
    tokens_per_second double precision NOT NULL,
    device            text             NOT NULL,
    gpu_utilisation   real,             -- percent
    gpu_memory_bytes  bigint,
    temperature_c     real,
    power_w           real,
    recorded_at       timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, model_key, epoch)
);
CREATE INDEX ON training_metrics (recorded_at);
