-- Conversations of the months before, to compare with: what each says, as a hash, and how long its replies are.
CREATE UNLOGGED TABLE {past} AS
SELECT
    min(conversations.occurred_at) AS occurred_at,
    bit_xor(hashint8extended(hashtextextended(content, 0), position)) AS fingerprint,
    avg(char_length(content)) FILTER (WHERE role = 'assistant')::float8 AS reply_chars
FROM conversations
JOIN messages USING (conversation_id)
WHERE {past_conversations}
  AND {past_messages}
  AND landed_at <= %(watermark)s
GROUP BY conversation_id
