"""What can be told of a text without reading it: Arrow predicates over a column, at the speed of RE2.

Nothing here keeps a text; what leaves are lengths, yes-or-no answers and hashes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What the bytes 0x80-0xBF, UTF-8's continuation bytes, look like where they were read as Latin-1 or as Windows-1252.
_BYTE = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"

PATTERNS = {
    # UTF-8 read as Latin-1 or Windows-1252: "Ã©" for "é", "â€™" for an apostrophe, "ðŸ˜€" for an emoji
    "mojibake": f"[ÂÃ][{_BYTE}]|[âð][{_BYTE}]{{2}}|ï»¿|(?:[ÐÑ][{_BYTE}]){{2}}",
    # characters that a conversion could not read (U+FFFD) or could not write ("caf?s": a question mark inside a word)
    "lost_characters": "\ufffd|\\pL\\?\\p{Ll}\\pL",
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
    ),
    # base64, hexadecimal or one key held down: 60 letters and digits in a row (addresses have dots and hyphens)
    "unbroken_run": "[A-Za-z0-9+/=]{60}",
}
LETTER_OR_DIGIT = r"[\pL\pN]"


def matches(texts: Any, pattern: str) -> "NDArray[np.bool_]":
    """Whether each text matches an RE2 pattern; texts: arrow strings (n,), result (n,)."""
    import pyarrow.compute as pc

    return _numpy(pc.match_substring_regex(texts, pattern=pattern), False)


def lengths(texts: Any) -> "NDArray[np.int64]":
    """Characters of each text."""
    import pyarrow.compute as pc

    return _numpy(pc.utf8_length(texts), 0).astype("int64")


def word_counts(texts: Any) -> "NDArray[np.int64]":
    """Runs of non-blanks in each text."""
    import pyarrow.compute as pc

    return _numpy(pc.count_substring_regex(texts, pattern=r"\S+"), 0).astype("int64")


def normalised(texts: Any) -> Any:
    """Lower case, blanks collapsed: two texts that a reader would call the same."""
    import pyarrow.compute as pc

    return pc.utf8_lower(pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), pattern=r"\s+", replacement=" "))


def masked(texts: Any) -> Any:
    """Normalised, with numbers and hexadecimal identifiers as `0`: an error page repeats but for its request id."""
    import pyarrow.compute as pc

    return pc.replace_substring_regex(normalised(texts), pattern=r"\b[0-9a-f-]*[0-9][0-9a-f-]*\b", replacement="0")


def hashes(texts: Any) -> "NDArray[np.uint64]":
    """A 64-bit hash of each text, the same in every process."""
    import pandas as pd

    return pd.util.hash_array(texts.to_numpy(zero_copy_only=False).astype(object))


def _numpy(array: Any, missing: Any) -> "NDArray[Any]":
    return array.fill_null(missing).to_numpy(zero_copy_only=False)
