-- Up to where the month's conversations have been trained on: the newest watermark of a run of that month that came to
-- a candidate. Runs of the months before saw none of them.
SELECT max(watermark)
FROM snapshots
JOIN ledger USING (run_id, month)
WHERE month = %(month)s
  AND candidate_version IS NOT NULL
