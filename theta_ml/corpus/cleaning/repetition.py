"""Replies that say the same thing over and over."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus.cleaning.text_bytes import LINE_ENDS, TextBytes

_MIN_TURNS = 5
_MIN_LINES = 10
_MIN_WORDS = 50
_PHRASE = 4
"""Words in a phrase."""
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64)
"""Odd numbers with mixed bits, one for each place in a phrase, so that the order of words counts."""


def repeated_replies(replies: pl.DataFrame) -> pl.DataFrame:
    """conversation, share: of its replies that are the same as an earlier one; conversations of few turns left out."""
    counted = replies.group_by("conversation").agg(turns=pl.len(), different=pl.col("content").n_unique())
    return counted.filter(pl.col("turns") >= _MIN_TURNS).select(
        "conversation", share=1 - pl.col("different") / pl.col("turns")
    )


def repeated_lines(replies: pl.DataFrame, texts: TextBytes) -> pl.DataFrame:
    """conversation, share: of a reply's bytes in lines seen earlier in it, blank ones aside; short replies left out."""
    long = pl.Series(texts.count(LINE_ENDS) >= _MIN_LINES - 1)
    lines = (
        replies.filter(long)
        .with_row_index("reply")
        .select("reply", "conversation", line=pl.col("content").str.split("\n"))
        .explode("line")
        .with_columns(pl.col("line").str.strip_chars())
        .with_columns(size=pl.col("line").str.len_bytes(), first=pl.struct("reply", "line").is_first_distinct())
    )
    again = pl.col("size").filter(~pl.col("first")).sum() / pl.col("size").sum()
    return lines.group_by("reply", "conversation").agg(share=again).select("conversation", "share")


def repeated_phrases(replies: pl.DataFrame, texts: TextBytes) -> pl.DataFrame:
    """conversation, share: of a reply's phrases that occurred earlier in it; short replies left out."""
    long = pl.Series(texts.words() >= _MIN_WORDS)
    chosen = replies.filter(long)
    words = chosen.select(words=pl.col("content").str.to_lowercase().str.extract_all(r"\S+"))["words"]
    of = np.repeat(np.arange(len(chosen), dtype=np.uint64), words.list.len().to_numpy())
    phrases, owner = _phrases(words.explode().hash(0).to_numpy(), of)
    _, first = np.unique(phrases, return_index=True)
    total = np.bincount(owner.astype(np.int64), minlength=len(chosen))
    different = np.bincount(owner[first].astype(np.int64), minlength=len(chosen))
    return chosen.select("conversation").with_columns(share=pl.Series(1 - different / np.maximum(total, 1)))


def _phrases(words: NDArray[np.uint64], of: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hashes of all runs of _PHRASE words within a reply, each mixed with its reply's number; and those numbers."""
    count = max(len(words) - _PHRASE + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for place, factor in enumerate(_FACTORS):
        hashes += words[place : place + count] * factor
    within = of[:count] == of[len(of) - count :]
    owner = of[:count][within]
    return hashes[within] ^ (owner * _FACTORS[0]), owner
