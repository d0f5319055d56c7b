-- Conversations of a span of time, oldest first, with all that an import takes. One row a conversation, its messages as
-- parallel arrays in their order. Sorted before the messages are fetched: what Postgres sorts is then small.
SELECT
    conversation_id,
    source,
    language,
    topics,
    user_id,
    rating,
    model_version,
    occurred_at,
    roles,
    contents,
    authors,
    ratings,
    created_ats
FROM (
    SELECT conversation_id, source, language, topics, user_id, rating, model_version, occurred_at
    FROM conversations
    WHERE occurred_at >= %(start)s
      AND occurred_at < %(end)s
    ORDER BY occurred_at, conversation_id COLLATE "C"
) AS span
CROSS JOIN LATERAL (
    SELECT
        array_agg(role ORDER BY position) AS roles,
        array_agg(content ORDER BY position) AS contents,
        array_agg(author ORDER BY position) AS authors,
        array_agg(messages.rating ORDER BY position) AS ratings,
        array_agg(created_at ORDER BY position) AS created_ats
    FROM messages
    WHERE messages.conversation_id = span.conversation_id
      AND messages.occurred_at = span.occurred_at -- of all months, the one to look in
      AND messages.occurred_at >= %(start)s
      AND messages.occurred_at < %(end)s
) AS talk
ORDER BY occurred_at, conversation_id COLLATE "C"
