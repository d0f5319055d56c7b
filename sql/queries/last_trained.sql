-- The newest month, up to this one, that came to a candidate, whatever became of it, and up to where it was seen: of
-- several runs of the month, by the one that saw most.
SELECT month, watermark
FROM snapshots
JOIN ledger USING (run_id, month)
WHERE month <= %(month)s
  AND candidate_version IS NOT NULL
ORDER BY month DESC, watermark DESC
LIMIT 1
