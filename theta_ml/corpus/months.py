"""A month of a snapshot as batches."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from theta_ml.corpus.batch import CONVERSATIONS, MESSAGES, Batch
from theta_ml.corpus.sources import REJECTED, Reading
from theta_ml.landing.parquet import file_name, sound

ROWS = 4096
"""Conversations in a batch; fewer where the snapshot's row groups, which are bounded in bytes, hold fewer."""


def read_month(snapshot: Path, month: str, parts: Iterable[int] | None = None) -> Iterator[Reading]:
    """The month's conversations in the order of their ids, without those that were set aside; of these row groups
    only, where given. What landed was readable: nothing is rejected here."""
    with pq.ParquetFile(snapshot / file_name(month)) as file:
        columns = [*CONVERSATIONS.names(), "messages", "faults"]
        for group in range(file.num_row_groups) if parts is None else parts:
            for rows in file.iter_batches(ROWS, [group], columns):  # never across groups: they are what is bounded
                yield Reading(_batch(sound(pa.Table.from_batches([rows]))), pl.DataFrame(schema=REJECTED), group)


def parts_of(snapshot: Path, month: str) -> int:
    """Row groups of the month."""
    return int(pq.read_metadata(snapshot / file_name(month)).num_row_groups)


def _batch(rows: pa.Table) -> Batch:
    table = pl.DataFrame(rows)
    numbers = pl.arange(len(table), dtype=pl.UInt32, eager=True).alias("conversation")
    spoken = table.select(numbers, "messages").explode("messages").drop_nulls("messages").unnest("messages")
    return Batch(table.select(CONVERSATIONS.names()), spoken.select(MESSAGES.names()))
