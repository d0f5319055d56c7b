"""Blanks that nobody sees: at the ends of lines and of texts, and runs of empty lines."""

import polars as pl

# Spaces that only set type; the ideographic space is a character of its script and stays.
_SPACES = r"[\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}]"
_LINE_TAIL = r"[ \t]+\n"
_EMPTY_LINES = r"\n{3,}"
_FIRST_LINES = r"\A(?:[ \t]*\n)+"
UNTIDY = r"[ \t]\n|\n\n\n"
"""What a text of several lines, no blank at its ends, all ASCII, must hold to be changed here."""


def without_needless_blanks(texts: pl.Series) -> pl.Series:
    """Indentation stays, that of a first line too where more lines follow; at most one empty line in a row."""
    texts = texts.str.replace_all(_SPACES, " ").str.replace_all(_LINE_TAIL, "\n").str.replace(_FIRST_LINES, "")
    texts = texts.str.replace_all(_EMPTY_LINES, "\n\n").str.strip_chars_end()
    single = ~texts.str.contains("\n", literal=True)
    return (
        texts.to_frame("text")
        .select(pl.when(single).then(pl.col("text").str.strip_chars_start()).otherwise("text"))
        .to_series()
    )
