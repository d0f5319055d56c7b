-- Conversations of one month as a run sees them: what had landed at the watermark and was not erased. One row a
-- conversation, its messages as parallel arrays in their order. Sorted before the messages are fetched: what Postgres
-- sorts is then small, and the rows stream. The month's bounds stand beside both tables: Postgres opens no other month.
--
-- A shard, `shard` of `shards`, is a part of these by a hash of their ids. As a CASE, for of an equation that it cannot
-- know Postgres would expect one row in 200, and choose a plan for so few; of one shard it sees no condition at all.
SELECT
    conversation_id,
    source,
    language,
    topic,
    rating,
    user_id,
    occurred_at,
    roles,
    contents,
    created_ats,
    ratings
FROM (
    SELECT conversation_id, source, language, topics[1] AS topic, rating, user_id, occurred_at
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
    ORDER BY conversation_id COLLATE "C"
) AS seen
CROSS JOIN LATERAL (
    SELECT
        array_agg(role ORDER BY position) AS roles,
        array_agg(content ORDER BY position) AS contents,
        array_agg(created_at ORDER BY position) AS created_ats,
        array_agg(messages.rating ORDER BY position) AS ratings
    FROM messages
    WHERE messages.conversation_id = seen.conversation_id
      AND messages.occurred_at >= %(start)s
      AND messages.occurred_at < %(end)s
) AS talk
ORDER BY conversation_id COLLATE "C"
