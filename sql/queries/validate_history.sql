-- Of each month before: the median of the replies' lengths, and the share of the user with most conversations.
SELECT month, median_reply, coalesce(busiest::float8 / conversations, 0) AS busiest_share
FROM (
    SELECT
        to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY reply_chars) AS median_reply
    FROM {past}
    GROUP BY month
) AS lengths
LEFT JOIN (
    SELECT month, sum(conversations) AS conversations, max(conversations) FILTER (WHERE user_id IS NOT NULL) AS busiest
    FROM (
        SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month, user_id, count(*) AS conversations
        FROM conversations
        WHERE {past_conversations}
          AND landed_at <= %(watermark)s
        GROUP BY month, user_id
    ) AS users
    GROUP BY month
) AS shares USING (month)
ORDER BY month
