"""Messages of many megabytes become messages."""

import polars as pl

from theta_ml.corpus.cleaning.rows import each, where

_BOUNDARIES = ("\n\n", "\n", ". ", " ")


def within(texts: pl.Series, limit: int) -> pl.Series:
    """Texts of at most `limit` characters; a longer one ends at a boundary in the last quarter before the limit.

    The best boundary wins: paragraph, line, sentence, word; where there is none, the text ends at the limit.
    """
    cut = each(lambda text: _cut(text, limit))
    return where(texts.str.len_bytes() > limit, lambda long: cut(long.str.head(limit + 1)), texts)


def _cut(text: str, limit: int) -> str:
    """`text` is a text's first `limit + 1` characters."""
    if len(text) <= limit:
        return text
    for boundary in _BOUNDARIES:
        at = text.rfind(boundary, limit * 3 // 4, limit)
        if at >= 0:
            return text[: at + len(boundary)].rstrip()
    return text[:limit]
