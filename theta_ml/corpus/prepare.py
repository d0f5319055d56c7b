"""Stage `prepare`: the snapshot and the catalog's datasets as the rows that training reads.

Each month and each dataset is packed once for each tokenizer, as a unit of its own; the corpus says which units it is
made of, which of their conversations it leaves out, and how often each row is shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus import report
from theta_ml.corpus.accounts import accounting
from theta_ml.corpus.drops import Limits, drop_lists
from theta_ml.corpus.epoch import Epoch, Part, epoch
from theta_ml.corpus.mixture import Source, sources
from theta_ml.corpus.rows import Rows, UnitRows
from theta_ml.corpus.shard import Shard
from theta_ml.corpus.sources import Reading
from theta_ml.corpus.spec import PrepareSpec, resolve
from theta_ml.corpus.spooled import SPOOL, spools_of, with_spools
from theta_ml.corpus.taken import record_taken
from theta_ml.corpus.terms import TOKENIZER, terms_of
from theta_ml.corpus.unit import SPLITS, Beforehand, OpenUnit, Terms, find_or_pack
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.landing.erased import erased_ids
from theta_ml.stage import Inputs, Stage, StageFailed, StageSkipped, Work
from theta_ml.store import Artifact, Store

DROPS = "dropped.npy"
DROP_OF = np.dtype([("unit", "<u4"), ("conversation", "<u4"), ("reason", "u1")])
"""An entry of the drop list: the unit as a place in `units`, the conversation's number in it, an index into REASONS."""


@dataclass(frozen=True)
class UsedUnit:
    """A unit of a corpus."""

    name: str
    """YYYY-MM, or a dataset's id."""
    key: str
    """In the store, under `pack`."""
    weight: float


@dataclass(frozen=True)
class PackedCorpus:
    """What training reads. Counts are of an epoch, by split, train and validation."""

    month: str
    vocabulary: int
    tokenizer_key: str
    max_length: int
    begin: int
    """Control token that every piece begins with."""
    pad: int
    units: list[UsedUnit]
    sequences: dict[str, int]
    """Rows of max_length tokens."""
    tokens: dict[str, int]
    """Without padding and what was dropped."""
    loss_tokens: dict[str, int]
    """Those that bear loss."""
    documents: dict[str, int]
    """Conversations, each counted once."""


def prepare(spec: PrepareSpec, inputs: Inputs, work: Work) -> PackedCorpus:
    stop_where_data_is_unfit(inputs)
    from_where = sources(spec, inputs, work.settings)
    terms = terms_of(spec, from_where, work)
    tokenizer, max_length = terms.encoder.tokenizer, terms.max_length
    tokenizer.save(work.path / "tokenizer", max_length)
    units = _units(from_where, terms, work)
    unshown = [number for number, source in enumerate(from_where) if not source.weight]
    limits = Limits(spec.user_share, spec.disliked_weight > 0, frozenset(erased_ids(work.settings)), unshown)
    dropped = drop_lists(units, limits, work.path)
    _save_drops(dropped, work.path)
    epochs = {split: _epoch(spec, from_where, units, dropped, split, work.path) for split in SPLITS}
    months = ["" if source.name in {each.id for each in spec.mixture} else source.name for source in from_where]
    learned = record_taken(work.settings, work.key, months, units, dropped)
    books = accounting(spec.month, from_where, units, dropped, learned, epochs["train"])
    report.write(work.path, books)
    work.events.log(books.sentence)
    return PackedCorpus(
        month=spec.month,
        vocabulary=tokenizer.vocabulary,
        tokenizer_key=tokenizer.key(),
        max_length=max_length,
        begin=tokenizer.begin,
        pad=tokenizer.pad,
        units=[UsedUnit(s.name, u.artifact.key, s.weight) for s, u in zip(from_where, units, strict=True)],
        sequences={split: len(epochs[split].plan) for split in SPLITS},
        tokens={split: epochs[split].tokens for split in SPLITS},
        loss_tokens={split: epochs[split].loss_tokens for split in SPLITS},
        documents={split: sum(each[split] for each in learned) for split in SPLITS},
    )


def open_rows(corpus: Artifact, split: str, store: Store) -> Rows:
    """A split's rows, memory-mapped. Raises ArtifactMissing where a unit of the corpus is gone."""
    value = corpus.document["value"]
    dropped = np.load(corpus.path / DROPS)
    units = [
        UnitRows.open(store.open(store.uri(UNIT, unit["key"])).path, dropped["conversation"][dropped["unit"] == number])
        for number, unit in enumerate(value["units"])
    ]
    plan = np.load(corpus.path / f"{split}.npy")
    return Rows(plan, units, value["max_length"], value["begin"], value["pad"])


def stop_where_data_is_unfit(inputs: Inputs) -> None:
    """Reads the documents, not the nouns: quality is a room above this one."""
    validation = inputs.artifact("validate").document["value"]
    if not validation["passed"]:
        raise StageSkipped(f"not training: {validation['sentence']}")
    drift = inputs.artifact("drift").document["value"]
    if drift["outcome"] == "broken":
        raise StageSkipped(f"not training: {drift['sentence']}")


def _units(from_where: Sequence[Source], terms: Terms, work: Work) -> list[OpenUnit]:
    units, packed = [], []
    for number, source in enumerate(from_where, 1):
        readings = _watched(source, spools_of(work, terms.key(source.content)), work)
        unit, found = find_or_pack(work.store, source.name, source.content, readings, terms)
        units.append(unit)
        packed += [] if found else [source.name]
        work.events.progress(number, len(from_where), "units", source.name)
    work.events.log(f"packed {', '.join(packed) or 'nothing'}; found {len(units) - len(packed)} packed before")
    return units


def _watched(source: Source, spools: Iterator[Path], work: Work) -> Iterator[Reading | Beforehand]:
    """The source's batches, with the progress of a month, which may be long."""
    done = 0
    for reading in with_spools(source, spools):
        yield reading
        done += reading.conversations
        if source.size:
            work.events.progress(done, source.size, "conversations", source.name)


def _save_drops(dropped: Sequence[NDArray[np.void]], folder: Path) -> None:
    entries = np.zeros(sum(map(len, dropped)), DROP_OF)
    entries["unit"] = np.repeat(np.arange(len(dropped)), [len(each) for each in dropped])
    for name in ("conversation", "reason"):
        entries[name] = np.concatenate([each[name] for each in dropped])
    np.save(folder / DROPS, entries)


def _epoch(
    spec: PrepareSpec,
    from_where: Sequence[Source],
    units: Sequence[OpenUnit],
    dropped: Sequence[NDArray[np.void]],
    split: str,
    folder: Path,
) -> Epoch:
    """The split's rows, also written to `folder`. A split of which nothing is left ends the stage."""
    parts = [
        Part(source.name, _weight(source, split), Shard.open(unit.path), drops["conversation"])
        for source, unit, drops in zip(from_where, units, dropped, strict=True)
    ]
    result = epoch(parts, split, (1.0, spec.liked_weight, spec.disliked_weight), spec.seed)
    if not len(result.plan):
        raise StageFailed(
            f"no {split} conversation in the window up to {spec.month} has anything to learn from: import more of them "
            f"(about 80 of 100 conversations are train, 10 validation and 10 test)"
        )
    np.save(folder / f"{split}.npy", result.plan)
    return result


def _weight(source: Source, split: str) -> float:
    """Validation measures: it shows once what training shows at all."""
    return source.weight if split == "train" else float(source.weight > 0)


STAGE = Stage("prepare", 4, PrepareSpec, prepare, resolve, parts=(TOKENIZER, SPOOL))
