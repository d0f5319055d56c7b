-- Months of the window, which begins with the month `first`, that nothing trains on: before this one, and their data was
-- judged unfit when last decided on, or they are detached.
SELECT month
FROM (
    SELECT DISTINCT ON (month) month, decision
    FROM ledger
    WHERE decision IN ('bootstrap', 'promoted', 'rejected', 'blocked', 'evaluated')
      AND month >= %(first)s
      AND month < %(month)s
    ORDER BY month, decided_at DESC, entry_id DESC
) AS latest
WHERE decision = 'blocked'
UNION
SELECT month
FROM landing_months
WHERE detached_at IS NOT NULL
  AND month >= %(first)s
  AND month < %(month)s
ORDER BY month
