"""What can be told of a text without reading it: regular expressions of Rust's kind.

`sql/queries/messages_features.sql` asks the same of messages in Postgres, in its dialect: an edit belongs in both.
"""

# What the bytes 0x80-0xBF, UTF-8's continuation bytes, look like where they were read as Latin-1 or as Windows-1252.
_BYTE = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"

_LETTER = "A-Za-zÀ-ÖØ-öø-ʯͰ-ӿ"
"""Of the scripts that have small letters."""

PATTERNS = {
    # UTF-8 read as Latin-1 or Windows-1252: "Ã©" for "é", "â€™" for an apostrophe, "ðŸ˜€" for an emoji
    "mojibake": f"[ÂÃ][{_BYTE}]|[âð][{_BYTE}]{{2}}|ï»¿|(?:[ÐÑ][{_BYTE}]){{2}}",
    # characters that a conversion could not read (U+FFFD) or could not write ("caf?s": a question mark inside a word)
    "lost_characters": f"\ufffd|[{_LETTER}]\\?[a-zß-öø-ÿα-ώа-я][{_LETTER}]",
    # C0 and C1 controls but for tab and line ends, private-use characters, byte-order marks in the middle
    "control_characters": "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x84\\x86-\\x9f\\x{e000}-\\x{f8ff}\\x{feff}]",
    # a page or an object where a person or a model should speak
    "machine_output": r"(?i)<(?:!doctype|html|head|body|div|script|span|table|br|p)\b[^>]*>|^\s*[\[{]\s*\"",
    # what servers say when they have nothing to say
    "error_message": (
        r"(?i)^\W*(?:\d{3}\W+)?(?:an? )?(?:(?:internal|unexpected|unknown) (?:server )?error|bad gateway|"
        r"gateway time-?out|service (?:is )?(?:temporarily )?unavailable|error occurred|error[ :]+\d{3}"
        r"|http(?:/\d\S*)? [45]\d\d|request (?:timed out|failed)|too many requests|rate limit|traceback \(most recent"
        r"|upstream (?:connect|request) )|^\s*(?:null|none|nan|undefined|\[object object\])\s*$"
        r"|^\s*<(?:!doctype|html)\b"
    ),
    # base64, hexadecimal or one key held down: 60 letters and digits in a row (addresses have dots and hyphens)
    "unbroken_run": "[A-Za-z0-9+/=]{60}",
}
LETTER_OR_DIGIT = r"[\pL\pN]"
