-- What can be told of a conversation without its text: a row a conversation of the span, nobody's words in it. The
-- span's bounds stand beside each table that is kept by month: Postgres opens no other month. Ids alone
-- are joined: of two columns that must be equal Postgres expects next to no rows, and chooses a plan for so few. Shards
-- are those of snapshot.sql.
SELECT
    conversation_id,
    source,
    language,
    topic,
    rating,
    user_hash,
    occurred_at,
    coalesce(turns, 0) AS turns,
    coalesce(chars, 0) AS chars,
    coalesce(has_words, 0) AS has_words,
    coalesce(replies > 0, false)::int AS has_reply,
    coalesce(first_user < coalesce(first_reply, first_user + 1), false)::int AS starts_with_user,
    seconds_a_turn,
    lowest_feedback,
    highest_feedback
FROM (
    SELECT
        conversation_id,
        source,
        language,
        topics[1] AS topic,
        rating,
        occurred_at,
        hashtextextended(user_id, 0) AS user_hash
    FROM conversations
    WHERE occurred_at >= %(start)s
      AND occurred_at < %(end)s
      AND landed_at <= %(watermark)s
      AND NOT EXISTS (
          SELECT FROM erased_conversations AS erased WHERE erased.conversation_id = conversations.conversation_id
      )
      AND (
          %(shards)s = 1
          OR CASE mod(hashtextextended(conversation_id, 0) & 9223372036854775807, %(shards)s)
              WHEN %(shard)s THEN true ELSE false
          END
      )
) AS seen
LEFT JOIN (
    SELECT
        conversation_id,
        count(*) AS turns,
        sum(char_length(content)) AS chars,
        -- a letter or digit anywhere, as in `blank` of a message
        max((
            content ~ '[A-Za-z0-9]'
            OR (octet_length(content) <> char_length(content) AND content ~ '[ªµºÀ-ÖØ-öø-ˁͰ-῿Ⰰ-ⷿ々-〇〱-퟿\uF900-ﴽﵐ-﷿ﹰ-ﻼ０-９Ａ-Ｚａ-ｚｦ-ￜ\U00010000-\U0001BFFF\U00020000-\U0003FFFF]')
        )::int) AS has_words,
        count(*) FILTER (WHERE role = 'assistant') AS replies,
        min(position) FILTER (WHERE role = 'user') AS first_user,
        min(position) FILTER (WHERE role = 'assistant') AS first_reply,
        -- the slope of time over position: below zero where the messages' times run backwards; in small numbers and to
        -- the microsecond, else the rounding of equal times falls on either side of zero
        round(regr_slope(date_part('epoch', created_at - conversations.occurred_at), position)::numeric, 6)::float8 AS seconds_a_turn
    FROM messages
    JOIN conversations USING (conversation_id)
    WHERE conversations.occurred_at >= %(start)s
      AND conversations.occurred_at < %(end)s
      AND messages.occurred_at >= %(start)s
      AND messages.occurred_at < %(end)s
      AND landed_at <= %(watermark)s
      AND (
          %(shards)s = 1
          OR CASE mod(hashtextextended(conversation_id, 0) & 9223372036854775807, %(shards)s)
              WHEN %(shard)s THEN true ELSE false
          END
      )
    GROUP BY conversation_id
) AS said USING (conversation_id)
LEFT JOIN (
    SELECT conversation_id, min(model_feedback.rating) AS lowest_feedback, max(model_feedback.rating) AS highest_feedback
    FROM model_feedback
    JOIN conversations USING (conversation_id)
    WHERE occurred_at >= %(start)s
      AND occurred_at < %(end)s
      AND model_feedback.landed_at <= %(watermark)s
    GROUP BY conversation_id
) AS judged USING (conversation_id)
