"""Shards of a snapshot: conversations by a hash of their id, redacted on several machines, merged to the same bytes.

What is dear, fetching and redacting, is done to each shard by itself. Merging reads the shards side by side, each in
the order of conversation ids, and cuts the same row groups as a snapshot that was taken by one process.

The bytes are the same by construction where rules alone redact. A model (`THETA_RECOGNISER`) gets the texts of a shard
in other batches than those of the whole, and rounds otherwise in another batch: a token for which it has two labels
that are as likely to the last digits may be judged otherwise.
"""

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from theta_ml.landing.arrow import groups, said_bytes
from theta_ml.landing.parquet import GROUP_ROWS, SCHEMA, Totals, month_writer, table_of
from theta_ml.landing.quarantine import Faults
from theta_ml.privacy.recogniser import Recogniser
from theta_ml.store import Artifact

EXTRACT = "extract"
"""Stage that makes a shard."""
SAID = "said_bytes"
"""Column beside those of SCHEMA: bytes of a conversation before it was redacted, by which row groups are cut."""
EXTRACTED = SCHEMA.append(pa.field(SAID, pa.int64(), nullable=False))


class Shard(NamedTuple):
    """One of `of` parts of all conversations."""

    number: int
    of: int

    @property
    def arguments(self) -> dict[str, int]:
        """Of the queries of the landing zone that can be told to read a shard alone."""
        return {"shard": self.number, "shards": self.of}


WHOLE = Shard(0, 1)


def file_name(month: str) -> str:
    return f"extract-{month}.arrow"


def write_shard(
    folder: Path,
    month: str,
    batches: Iterator[pa.RecordBatch],
    key: bytes,
    faults: Faults,
    recogniser: Recogniser | None,
) -> Totals:
    """Writes the rows of `sql/queries/snapshot.sql` as EXTRACTED."""
    totals = Totals()
    with pa.ipc.new_stream(folder / file_name(month), EXTRACTED) as writer:
        for group in groups(batches, GROUP_ROWS):
            table, redacted = table_of(month, group, key, faults, recogniser)
            totals.add(table)
            totals.redacted.update(redacted)
            writer.write_table(table.append_column(EXTRACTED.field(SAID), pa.array(said_bytes(group), pa.int64())))
    return totals


def whole(parts: Sequence[Artifact]) -> list[Artifact]:
    """All shards of one splitting, in their order; none where one is missing."""
    splittings: dict[int, dict[int, Artifact]] = {}
    for part in parts:
        spec = part.document["spec"]
        splittings.setdefault(spec["shards"], {})[spec["shard"]] = part
    complete = (found for of, found in splittings.items() if len(found) == of)
    return [artifact for _, artifact in sorted(next(complete, {}).items())]


def merge(shards: Sequence[Artifact], folder: Path) -> dict[str, Totals]:
    """Writes each month as `parquet.write_month` does."""
    counted = [shard.document["value"]["months"] for shard in shards]
    months = {
        month: reduce(Totals.__add__, (Totals.read(of_shard[month]) for of_shard in counted))
        for month in sorted(counted[0])
    }
    for month in months:
        _merge_month(folder, month, [shard.path for shard in shards])
    return months


def _merge_month(folder: Path, month: str, shards: Sequence[Path]) -> None:
    with month_writer(folder, month) as writer:
        for group in groups(_merged([shard / file_name(month) for shard in shards]), GROUP_ROWS, _said):
            writer.write_table(group.drop_columns([SAID]))


def _said(batch: pa.RecordBatch) -> np.ndarray:
    return np.asarray(batch.column(SAID).to_numpy())


def _merged(files: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """All rows by conversation id, as each file has its own. About a row group of each file is held at a time."""
    runs = [run for file in files if (run := _Run(file)).rest is not None]
    while runs:
        last = min(run.last for run in runs)
        rows = pa.Table.from_batches([run.up_to(last) for run in runs]).combine_chunks()
        yield from rows.take(pc.sort_indices(rows["conversation_id"])).to_batches()
        runs = [run for run in runs if run.rest is not None]


class _Run:
    """A file's rows, from the first that was not taken."""

    def __init__(self, file: Path) -> None:
        self._batches = _batches(file)
        self.rest = next(self._batches, None)
        """Of the batch that was read last; None at the end of the file."""

    @property
    def last(self) -> str:
        """Id of the last row that is in memory. Text compares as its UTF-8 bytes do, by which Postgres sorted."""
        assert self.rest is not None
        return str(self.rest["conversation_id"][-1].as_py())

    def up_to(self, last: str) -> pa.RecordBatch:
        """Takes the rows in memory whose ids are not beyond `last`."""
        assert self.rest is not None
        count = pc.sum(pc.less_equal(self.rest["conversation_id"], last)).as_py()
        taken, rest = self.rest.slice(0, count), self.rest.slice(count)
        self.rest = rest if len(rest) else next(self._batches, None)
        return taken


def _batches(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as opened, pa.ipc.open_stream(opened) as stream:  # not mapped: pages would stay resident
        yield from (batch for batch in stream if len(batch))
