"""The tables `training_data`, which conversations a corpus took and from where, and `disliked_data`: those that its
rows leave out and that pairs of answers are read from (see `pairs`)."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from theta_ml.corpus.unit import REASONS, SPLITS, OpenUnit
from theta_ml.landing.database import connect, database_faults
from theta_ml.settings import Settings

_COLUMNS = ("corpus_key", "conversation_id", "source", "month", "split", "tokens")
_COPY = "COPY {} (corpus_key, conversation_id, source, month, split, tokens) FROM STDIN (FORMAT csv)"
DISLIKED = REASONS.index("disliked")


def record_taken(
    settings: Settings,
    corpus_key: str,
    months: Sequence[str],
    units: Sequence[OpenUnit],
    dropped: Sequence[NDArray[np.void]],
) -> list[dict[str, int]]:
    """Writes down what is learned from, in place of what an earlier attempt wrote; counts it by unit and split, but for
    what only pairs are read from.

    `months` is empty text where the unit is a dataset; `dropped` is the corpus' drop list.
    """
    learned = [taken(unit, drops["conversation"]) for unit, drops in zip(units, dropped, strict=True)]
    pairs = [disliked(unit, drops) for unit, drops in zip(units, dropped, strict=True)]
    with database_faults(), connect(settings) as connection, connection.cursor() as cursor:
        counts = _replace(cursor, "training_data", corpus_key, months, learned)
        _replace(cursor, "disliked_data", corpus_key, months, pairs)
    return counts


def taken(unit: OpenUnit, dropped: NDArray[np.uint32]) -> Iterator[pl.DataFrame]:
    """`spool.CONVERSATION_COLUMNS` of those that are learned from, some thousands at a time."""
    without = _marked(unit, np.concatenate([unit.dropped()["conversation"], dropped]))
    for numbers, table in _numbered(unit):
        yield table.filter(pl.Series(~without[numbers]) & table["split"].is_in(SPLITS))


def disliked(unit: OpenUnit, dropped: NDArray[np.void]) -> Iterator[pl.DataFrame]:
    """The same of those that `dropped` names for being disliked."""
    numbers_of_them = dropped["conversation"][dropped["reason"] == DISLIKED]
    named = _marked(unit, numbers_of_them)
    for numbers, table in _numbered(unit) if len(numbers_of_them) else ():
        yield table.filter(pl.Series(named[numbers]) & table["split"].is_in(SPLITS))


def _marked(unit: OpenUnit, numbers: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """(conversations,): true for these. Searched for anew by each batch, they would take time as their square."""
    marked = np.zeros(len(unit.signatures()), np.bool_)
    marked[numbers] = True
    return marked


def _numbered(unit: OpenUnit) -> Iterator[tuple[NDArray[np.int64], pl.DataFrame]]:
    number = 0
    for table in unit.some():
        yield np.arange(number, number + len(table)), table
        number += len(table)


def _replace(
    cursor: psycopg.Cursor, table: str, corpus_key: str, months: Sequence[str], units: list[Iterator[pl.DataFrame]]
) -> list[dict[str, int]]:
    name = sql.Identifier(table)
    cursor.execute(sql.SQL("DELETE FROM {} WHERE corpus_key = %s").format(name), [corpus_key])
    with cursor.copy(sql.SQL(_COPY).format(name)) as copy:
        return [_copy(copy, corpus_key, month, unit) for month, unit in zip(months, units, strict=True)]


def _copy(copy: psycopg.Copy, corpus_key: str, month: str, taken: Iterator[pl.DataFrame]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for conversations in taken:
        rows = conversations.with_columns(corpus_key=pl.lit(corpus_key), month=pl.lit(month))
        copy.write(rows.select(_COLUMNS).write_csv(include_header=False, quote_style="non_numeric"))
        counts.update(conversations["split"].to_list())
    return {split: counts[split] for split in SPLITS}
