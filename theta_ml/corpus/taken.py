"""The table `training_data`: which conversations a corpus took, from where."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus.unit import SPLITS, OpenUnit
from theta_ml.landing.database import connect, database_faults
from theta_ml.settings import Settings

_COLUMNS = ("corpus_key", "conversation_id", "source", "month", "split", "tokens")
_COPY = "COPY training_data (corpus_key, conversation_id, source, month, split, tokens) FROM STDIN (FORMAT csv)"


def taken(unit: OpenUnit, dropped: NDArray[np.uint32]) -> pl.DataFrame:
    """`spool.CONVERSATION_COLUMNS` of the conversations that are learned from: not those `dropped` by the corpus."""
    without = np.concatenate([unit.dropped()["conversation"], dropped])
    conversations = unit.conversations().with_row_index("number")
    kept = pl.col("split").is_in(SPLITS) & ~pl.col("number").is_in(without)
    return conversations.filter(kept)


def record_taken(settings: Settings, corpus_key: str, months: Sequence[str], taken: Sequence[pl.DataFrame]) -> None:
    """Writes them down, in place of what an earlier attempt wrote; `months` is empty text for a dataset."""
    with database_faults(), connect(settings) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM training_data WHERE corpus_key = %s", [corpus_key])
        with cursor.copy(_COPY) as copy:
            for month, conversations in zip(months, taken, strict=True):
                rows = conversations.with_columns(corpus_key=pl.lit(corpus_key), month=pl.lit(month))
                text = rows.select(_COLUMNS).write_csv(include_header=False, quote_style="non_numeric")
                copy.write(text)
