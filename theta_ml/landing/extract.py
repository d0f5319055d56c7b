"""Stage `extract`: a shard of a snapshot, made beforehand. The stage `snapshot` merges all of them (see `shards`)."""

from dataclasses import dataclass
from typing import Any

from theta_ml.landing.shards import EXTRACT, Shard, write_shard
from theta_ml.landing.snapshot import STAGE as SNAPSHOT
from theta_ml.landing.snapshot import SnapshotSpec, look, resolve
from theta_ml.stage import Inputs, Stage, StageSkipped, Work, is_made


@dataclass(frozen=True)
class ExtractSpec(SnapshotSpec):
    """Which conversations of the snapshot."""

    shard: int = 0
    """Number of this shard, from 0 on."""
    shards: int = 1
    """How many there are; a conversation is in one of them, by a hash of its id."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.shard < self.shards:
            raise ValueError(f"shard {self.shard} of {self.shards}: shards are numbered from 0 to {self.shards - 1}")


@dataclass(frozen=True)
class Extract:
    """A shard of a snapshot."""

    month: str
    watermark: str
    shard: int
    shards: int
    conversations: int
    """Of the whole window, those that were set aside among them."""
    months: dict[str, dict[str, Any]]
    """For each month the fields of `parquet.Totals`."""


def extract(spec: ExtractSpec, inputs: Inputs, work: Work) -> Extract:
    """Writes `extract-YYYY-MM.arrow` for each month of the window. Raises StageSkipped where the snapshot is there."""
    if is_made(SNAPSHOT, spec, inputs, work):
        raise StageSkipped("the snapshot was made before, from the same conversations")
    of_shard = look(spec, Shard(spec.shard, spec.shards), work)
    months = {seen.month: write_shard(work.path, *seen) for seen in of_shard}
    count = sum(totals.conversations + totals.quarantined for totals in months.values())
    written = {month: totals.written() for month, totals in months.items()}
    return Extract(spec.month, spec.watermark, spec.shard, spec.shards, count, written)


STAGE = Stage(EXTRACT, SNAPSHOT.version, ExtractSpec, extract, resolve)
