-- What can be told of a message without its text: a row a message of the span, nobody's words in it. Each pattern is
-- looked for only where a cheaper test has not ruled it out already; classes of letters are written as ranges, for what
-- [[:alpha:]] means depends on the database's locale. theta_ml/quality/text.py asks the same of snapshots: an edit belongs
-- in both.
SELECT
    conversation_id,
    position,
    role,
    messages.rating,
    created_at,
    date_part('epoch', created_at - conversations.occurred_at) AS seconds_in,
    char_length(content) AS chars,
    (
        content !~ '[A-Za-z0-9]'
        AND (
            octet_length(content) = char_length(content)
            OR content !~ '[ªµºÀ-ÖØ-öø-ˁͰ-῿Ⰰ-ⷿ々-〇〱-퟿\uF900-ﴽﵐ-﷿ﹰ-ﻼ０-９Ａ-Ｚａ-ｚｦ-ￜ\U00010000-\U0001BFFF\U00020000-\U0003FFFF]'
        )
    )::int AS blank,
    -- UTF-8 read as Latin-1 or Windows-1252: "Ã©" for "é", "â€™" for an apostrophe, "ðŸ˜€" for an emoji
    (
        octet_length(content) <> char_length(content)
        AND content ~ '[ÂÃ][\u0080-\u00BF€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|[âð][\u0080-\u00BF€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ][\u0080-\u00BF€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|ï»¿|[ÐÑ][\u0080-\u00BF€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ][ÐÑ][\u0080-\u00BF€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]'
    )::int AS mojibake,
    -- a character that could not be read
    (octet_length(content) <> char_length(content) AND strpos(content, U&'\FFFD') > 0)::int AS unreadable,
    -- characters that could not be written: a question mark inside a word, as in "caf?s"
    (strpos(content, '?') > 0 AND content ~ '[A-Za-zÀ-ÖØ-öø-ʯͰ-ӿ]\?[a-zß-öø-ÿα-ώа-я][A-Za-zÀ-ÖØ-öø-ʯͰ-ӿ]')::int AS lost_characters,
    -- C0 and C1 controls but for tab and line ends, private-use characters, byte-order marks in the middle
    (
        content ~ '[\x01-\x08\x0B\x0C\x0E-\x1F\x7F]'
        OR (
            octet_length(content) <> char_length(content)
            AND content ~ '[\u0080-\u0084\u0086-\u009F\uE000-\uF8FF\uFEFF]'
        )
    )::int AS control_characters,
    -- a page or an object where a person or a model should speak
    (
        (
            strpos(content, '<') > 0
            AND content ~* '<(!doctype|html|head|body|div|script|span|table|br|p)\y[^>]*>'
        )
        OR (strpos(content, '"') > 0 AND content ~ '^\s*[\[{]\s*"')
    )::int AS machine_output,
    -- base64, hexadecimal or one key held down: 60 letters and digits in a row (addresses have dots and hyphens)
    (char_length(content) >= 60 AND content ~ '[A-Za-z0-9+/=]{60}')::int AS unbroken_run,
    -- what servers say when they have nothing to say; missing on what is no reply
    CASE
        WHEN role = 'assistant'
        THEN (
            content ~* '^\W*(\d{3}\W+)?(an? )?((internal|unexpected|unknown) (server )?error|bad gateway|gateway time-?out|service (is )?(temporarily )?unavailable|error occurred|error[ :]+\d{3}|http(/\d\S*)? [45]\d\d|request (timed out|failed)|too many requests|rate limit|traceback \(most recent|upstream (connect|request) )'
            OR content ~* '^\s*(null|none|nan|undefined|\[object object\])\s*$'
            OR content ~* '^\s*<(!doctype|html)\y'
        )::int
    END AS error_reply,
    -- equal where the same was said, and almost only there
    hashtextextended(content, 0) AS text_hash,
    -- equal where the same was said but for numbers, hexadecimal identifiers and blanks, as in an error page
    CASE
        WHEN content ~ '[0-9]'
        THEN hashtextextended(translate(lower(left(content, 300)), E'0123456789abcdef- \t\r\n', ''), 0)
        ELSE hashtextextended(content, 0)
    END AS template_hash
FROM conversations
JOIN messages USING (conversation_id)
WHERE conversations.occurred_at >= %(start)s
  AND conversations.occurred_at < %(end)s
  AND messages.occurred_at >= %(start)s
  AND messages.occurred_at < %(end)s
  AND landed_at <= %(watermark)s
  AND NOT EXISTS (
      SELECT FROM erased_conversations AS erased WHERE erased.conversation_id = conversations.conversation_id
  )
  AND (
      %(shards)s = 1
      OR CASE mod(hashtextextended(conversation_id, 0) & 9223372036854775807, %(shards)s)
          WHEN %(shard)s THEN true ELSE false
      END
  )
