-- When the newest retraining began that trained, or may have: it took a snapshot (a tuning does as well, and trains) of
-- the month or a later one; or when the monitor asked for one.
SELECT greatest(
    (SELECT max(taken_at) FROM snapshots WHERE month >= %(month)s),
    (SELECT max(looked_at) FROM monitor WHERE outcome = 'retrain')
)
