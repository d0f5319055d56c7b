"""Replies that say what an assistant should not."""

from collections.abc import Sequence

import polars as pl

from theta_ml.corpus.cleaning import toxicity


def toxic(replies: Sequence[str]) -> int:
    """How many hold a slur or a profane word, by the lexicon that cleans the training text.

    One is enough: in training text it takes two, for there a person may swear once, but nobody speaks here.
    """
    found = toxicity.count(pl.Series(list(replies), dtype=pl.String))
    return int(((found["slurs"] + found["profane"]) > 0).sum())
