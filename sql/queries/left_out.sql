-- Months before this one that nothing trains on: their data was judged unfit when last decided on, or they lie in the
-- window, which begins with the month `first`, and are detached.
SELECT month
FROM (
    SELECT DISTINCT ON (month) month, decision
    FROM ledger
    WHERE decision IN ('bootstrap', 'promoted', 'rejected', 'blocked', 'evaluated')
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
