-- Rows of `quarantine`, for conversations that are still there; locked, so that none is erased in between. Their ids are
-- in one table, whatever the month.
INSERT INTO quarantine (snapshot_key, conversation_id, month, rule, reason, run_id)
SELECT %(snapshot_key)s, conversation_id, %(month)s, rule, reason, %(run_id)s
FROM unnest(%(ids)s::text[], %(rules)s::text[], %(reasons)s::text[]) AS broken (conversation_id, rule, reason)
JOIN (
    SELECT conversation_id FROM landed_ids WHERE conversation_id = ANY (%(ids)s) FOR KEY SHARE
) AS there USING (conversation_id)
ON CONFLICT DO NOTHING
