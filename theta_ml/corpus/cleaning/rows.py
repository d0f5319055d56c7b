"""Working on those rows of a series that need it."""

from collections.abc import Callable

import polars as pl


def put(series: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    """A new series with `values` at `rows` (numbers); polars' own scatter changes the series it is called on."""
    return series.clone().scatter(rows, values)


def where(rows: pl.Series, change: Callable[[pl.Series], pl.Series], texts: pl.Series) -> pl.Series:
    """The texts with `change` made at `rows` (one boolean a text)."""
    return put(texts, rows.arg_true(), change(texts.filter(rows))) if rows.any() else texts


def each(change: Callable[[str], str]) -> Callable[[pl.Series], pl.Series]:
    """A change of one text, as one of many: in Python, so for the few that need it."""
    return lambda texts: pl.Series(texts.name, [change(text) for text in texts], dtype=pl.String)
