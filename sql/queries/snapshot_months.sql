-- Months of the window that hold conversations at the watermark, oldest first.
SELECT to_char(occurred_at AT TIME ZONE 'UTC', 'YYYY-MM') AS month, count(*) AS conversations
FROM conversations
WHERE occurred_at >= %(start)s
  AND occurred_at < %(end)s
  AND landed_at <= %(watermark)s
GROUP BY month
ORDER BY month
