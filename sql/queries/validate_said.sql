-- The messages' features, as a table of the validation's own: computed once, by several workers. No ids, no words.
CREATE UNLOGGED TABLE {said} AS
SELECT
    hashtextextended(conversation_id, 0) AS conversation,
    position,
    role,
    rating,
    created_at,
    seconds_in,
    chars,
    blank,
    mojibake,
    unreadable,
    lost_characters,
    control_characters,
    machine_output,
    unbroken_run,
    error_reply,
    text_hash,
    template_hash
FROM ({messages_features}) AS features
