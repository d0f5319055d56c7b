-- What the suite `messages` judges: a row a message of the month. Columns about replies are missing on everybody
-- else's messages, and so judge the replies alone.
CREATE UNLOGGED TABLE {messages} AS
WITH common_reply AS (
    SELECT template_hash FROM {said} WHERE role = 'assistant' GROUP BY template_hash ORDER BY count(*) DESC, 1 LIMIT 1
),
common_question AS (
    SELECT template_hash FROM {said} WHERE role = 'user' GROUP BY template_hash ORDER BY count(*) DESC, 1 LIMIT 1
),
-- shorter replies share their length by nature ("ok", "thanks"), longer ones where something cuts them
common_length AS (
    SELECT chars FROM {said} WHERE role = 'assistant' AND chars >= 20 GROUP BY chars ORDER BY count(*) DESC, 1 LIMIT 1
)
SELECT
    conversation,
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
    text_hash,
    (role = lag(role) OVER talk)::int AS same_speaker,
    CASE WHEN role = 'assistant' THEN chars END AS reply_chars,
    CASE WHEN role = 'assistant' THEN blank END AS blank_reply,
    error_reply,
    CASE WHEN role = 'assistant' THEN coalesce(text_hash = lag(text_hash) OVER talk, false)::int END AS echo,
    CASE WHEN role = 'assistant' THEN (template_hash = (SELECT template_hash FROM common_reply))::int END
        AS repeated_reply,
    CASE WHEN role = 'user' THEN (template_hash = (SELECT template_hash FROM common_question))::int END
        AS repeated_user,
    CASE WHEN role = 'assistant' THEN coalesce(chars = (SELECT chars FROM common_length), false)::int END
        AS same_length
FROM {said}
WINDOW talk AS (PARTITION BY conversation ORDER BY position)
