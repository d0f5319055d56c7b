-- What the suite `conversations` judges: a row a conversation of the month, beside the months before.
CREATE UNLOGGED TABLE {conversations} AS
WITH busiest AS (
    SELECT user_hash
    FROM ({conversations_features}) AS features
    WHERE user_hash IS NOT NULL
    GROUP BY user_hash
    ORDER BY count(*) DESC, 1
    LIMIT 1
),
known AS (
    SELECT DISTINCT language
    FROM conversations
    WHERE {past_conversations}
      AND landed_at <= %(watermark)s
      AND language IS NOT NULL
),
imported AS (
    -- a line turned away, for it was erased or its month is detached, is no fault of the feed
    SELECT sum(rejected - turned_away) / greatest(sum(conversations + duplicates + rejected - turned_away), 1) AS rejected
    FROM import_batches
    WHERE batch_id IN (
        SELECT batch_id
        FROM conversations
        WHERE occurred_at >= %(start)s
          AND occurred_at < %(end)s
          AND landed_at <= %(watermark)s
    )
),
said AS (
    SELECT
        conversation,
        bit_xor(hashint8extended(text_hash, position)) AS fingerprint,
        avg(reply_chars)::float8 AS reply_chars
    FROM {messages}
    GROUP BY conversation
)
SELECT
    conversation,
    source,
    language,
    topic,
    rating,
    occurred_at,
    turns,
    chars,
    has_words,
    has_reply,
    starts_with_user,
    seconds_a_turn,
    lowest_feedback,
    highest_feedback,
    reply_chars,
    coalesce((SELECT rejected FROM imported), 0)::float8 AS rejected,
    coalesce(user_hash = (SELECT user_hash FROM busiest), false)::int AS of_busiest_user,
    -- where the months before name none, the feed has begun to name its languages, and none of them is new
    (EXISTS (SELECT FROM known) AND language IS NOT NULL AND language NOT IN (SELECT language FROM known))::int
        AS new_language,
    (row_number() OVER (PARTITION BY fingerprint ORDER BY conversation) > 1)::int AS duplicate,
    (fingerprint IN (SELECT fingerprint FROM {past}))::int AS seen_before
FROM ({conversations_features}) AS features
JOIN LATERAL (SELECT hashtextextended(conversation_id, 0) AS conversation) AS named ON true
LEFT JOIN said USING (conversation)
