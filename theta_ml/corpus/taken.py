"""The table `training_data`: which conversations a corpus took, from where."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import psycopg
from numpy.typing import NDArray

from theta_ml.corpus.unit import SPLITS, OpenUnit
from theta_ml.landing.database import connect, database_faults
from theta_ml.settings import Settings

_COLUMNS = ("corpus_key", "conversation_id", "source", "month", "split", "tokens")
_COPY = "COPY training_data (corpus_key, conversation_id, source, month, split, tokens) FROM STDIN (FORMAT csv)"


def record_taken(
    settings: Settings,
    corpus_key: str,
    months: Sequence[str],
    units: Sequence[OpenUnit],
    dropped: Sequence[NDArray[np.void]],
) -> list[dict[str, int]]:
    """Writes down what is learned from, in place of what an earlier attempt wrote; counts it by unit and split.

    `months` is empty text where the unit is a dataset; `dropped` is the corpus' drop list.
    """
    counts = []
    with database_faults(), connect(settings) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM training_data WHERE corpus_key = %s", [corpus_key])
        with cursor.copy(_COPY) as copy:
            for month, unit, drops in zip(months, units, dropped, strict=True):
                counts.append(_copy(copy, corpus_key, month, taken(unit, drops["conversation"])))
    return counts


def taken(unit: OpenUnit, dropped: NDArray[np.uint32]) -> Iterator[pl.DataFrame]:
    """`spool.CONVERSATION_COLUMNS` of those that are learned from, some thousands at a time."""
    without = np.concatenate([unit.dropped()["conversation"], dropped])
    number = 0
    for table in unit.some():
        gone = pl.Series(np.isin(np.arange(number, number + len(table)), without))
        yield table.filter(~gone & table["split"].is_in(SPLITS))
        number += len(table)


def _copy(copy: psycopg.Copy, corpus_key: str, month: str, taken: Iterator[pl.DataFrame]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for conversations in taken:
        rows = conversations.with_columns(corpus_key=pl.lit(corpus_key), month=pl.lit(month))
        copy.write(rows.select(_COLUMNS).write_csv(include_header=False, quote_style="non_numeric"))
        counts.update(conversations["split"].to_list())
    return {split: counts[split] for split in SPLITS}
