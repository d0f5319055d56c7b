-- What the newest snapshot of each month set aside, of those that set any aside.
CREATE VIEW newest_quarantine AS
    SELECT quarantine.*
    FROM quarantine
    JOIN (
        SELECT DISTINCT ON (month) month, snapshot_key FROM quarantine ORDER BY month, quarantined_at DESC, snapshot_key
    ) AS newest USING (month, snapshot_key);
