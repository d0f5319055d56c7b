-- Months before this one whose data was judged unfit when last decided on: nothing trains on them.
SELECT month
FROM (
    SELECT DISTINCT ON (month) month, decision
    FROM ledger
    WHERE decision IN ('bootstrap', 'promoted', 'rejected', 'blocked', 'evaluated')
      AND month < %(month)s
    ORDER BY month, decided_at DESC, entry_id DESC
) AS latest
WHERE decision = 'blocked'
ORDER BY month
