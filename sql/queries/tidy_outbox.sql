-- What a training told on its way, long since read. What said how a run ended stays: it says that the mail was sent.
DELETE FROM outbox
WHERE kind IN ('progress', 'outage')
  AND sent_at < clock_timestamp() - interval '90 days'
