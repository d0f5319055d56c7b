-- Conversations of the months before, to compare with: what each says, as a hash, and how long its replies are.
CREATE UNLOGGED TABLE {past} AS
SELECT
    min(occurred_at) AS occurred_at,
    bit_xor(hashint8extended(hashtextextended(content, 0), position)) AS fingerprint,
    avg(char_length(content)) FILTER (WHERE role = 'assistant')::float8 AS reply_chars
FROM conversations
JOIN messages USING (conversation_id)
WHERE occurred_at >= %(past_start)s
  AND occurred_at < %(start)s
  AND landed_at <= %(watermark)s
  AND to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM') = ANY (%(past)s)
GROUP BY conversation_id
