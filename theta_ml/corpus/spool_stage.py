"""Stage `spool`: a shard of a corpus' work, done beforehand: conversations cleaned, encoded and signed, not yet packed.

`prepare` copies all shards together, in the order of one machine, finds copies over all of them, and packs. Whole row
groups of the snapshot are shared out, so that every batch is what it would be on one machine.
"""

from dataclasses import dataclass

from theta_ml.corpus.mixture import sources
from theta_ml.corpus.prepare import STAGE as PREPARE
from theta_ml.corpus.prepare import stop_where_data_is_unfit
from theta_ml.corpus.spec import PrepareSpec, resolve
from theta_ml.corpus.spooled import SPOOL, SPOOL_VERSION, share, write_spool
from theta_ml.corpus.terms import TOKENIZER, terms_of
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.stage import Inputs, Stage, StageSkipped, Work, is_made


@dataclass(frozen=True)
class SpoolSpec(PrepareSpec):
    """Which conversations of the corpus."""

    shard: int = 0
    """Number of this shard, from 0 on."""
    shards: int = 1
    """How many there are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.shard < self.shards:
            raise ValueError(f"shard {self.shard} of {self.shards}: shards are numbered from 0 to {self.shards - 1}")


@dataclass(frozen=True)
class Spooled:
    """A shard of a corpus' units."""

    month: str
    shard: int
    shards: int
    units: dict[str, int]
    """Conversations that were read, by the name of their unit; of units that had not been packed before."""


def spool(spec: SpoolSpec, inputs: Inputs, work: Work) -> Spooled:
    """Raises StageSkipped where the corpus is there."""
    stop_where_data_is_unfit(inputs)
    if is_made(PREPARE, spec, inputs, work):
        raise StageSkipped("the corpus was made before, of the same conversations")
    from_where = sources(spec, inputs, work.settings)
    terms, units = terms_of(spec, from_where, work), {}
    for number, source in enumerate(from_where, 1):
        key, parts = terms.key(source.content), share(source, spec.shard, spec.shards)
        if parts and not work.store.has(UNIT, key):
            (work.path / key).mkdir(exist_ok=True)
            units[source.name] = write_spool(work.path / key, source.read(parts), terms)
        work.events.progress(number, len(from_where), "units", source.name)
    return Spooled(spec.month, spec.shard, spec.shards, units)


STAGE = Stage(SPOOL, SPOOL_VERSION, SpoolSpec, spool, resolve, parts=(TOKENIZER,))
