-- Conversations that a corpus leaves out of its rows because people disliked them. Training that learns from preferences
-- reads them all the same, as the worse of two answers; what other training takes is in `training_data`.

CREATE TABLE disliked_data (
    corpus_key      text        NOT NULL,
    conversation_id text        NOT NULL,
    source          text        NOT NULL,
    month           text        NOT NULL, -- '' of a dataset
    split           text        NOT NULL CHECK (split IN ('train', 'validation')),
    tokens          integer     NOT NULL,
    taken_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (corpus_key, conversation_id)
);
CREATE INDEX ON disliked_data (conversation_id);
CREATE INDEX ON disliked_data (taken_at);
