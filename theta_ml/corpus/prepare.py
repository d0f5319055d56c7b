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
from theta_ml.corpus.cleaning import Rules, clean
from theta_ml.corpus.contamination import Contamination
from theta_ml.corpus.drops import Limits, drop_lists
from theta_ml.corpus.encoder import Encoder
from theta_ml.corpus.epoch import Epoch, Part, epoch
from theta_ml.corpus.mixture import Source, sources
from theta_ml.corpus.rows import Rows, UnitRows
from theta_ml.corpus.shapes import corpus_shape
from theta_ml.corpus.shard import Shard
from theta_ml.corpus.sources import Reading
from theta_ml.corpus.spec import PrepareSpec, resolve
from theta_ml.corpus.taken import record_taken
from theta_ml.corpus.tokenizer import ChatTokenizer, train_tokenizer
from theta_ml.corpus.unit import SPLITS, OpenUnit, Terms, find_or_pack
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.landing.erased import erased_ids
from theta_ml.pretrained import context_of, find_model
from theta_ml.stage import Inputs, Stage, StageFailed, StageSkipped, Work
from theta_ml.store import Artifact, Store

DROPS = "dropped.npy"
DROP_OF = np.dtype([("unit", "<u4"), ("conversation", "<u4"), ("reason", "u1")])
"""An entry of the drop list: the unit as a place in `units`, the conversation's number in it, an index into REASONS."""
TOKENIZER_BYTES = 64 << 20
"""A tokenizer learns from so much text at most: more changes little, and its memory grows with it."""


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
    _stop_where_data_is_unfit(inputs)
    from_where = sources(spec, inputs, work.settings)
    tokenizer = _tokenizer(spec, from_where, work)
    max_length = _row_length(spec, work)
    tokenizer.save(work.path / "tokenizer", max_length)
    items = Contamination.load(Path(spec.benchmarks)) if spec.benchmarks else None
    units = _units(from_where, Terms(Encoder(tokenizer), max_length, Rules(), items), work)
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


def _stop_where_data_is_unfit(inputs: Inputs) -> None:
    """Reads the documents, not the nouns: quality is a room above this one."""
    validation = inputs.artifact("validate").document["value"]
    if not validation["passed"]:
        raise StageSkipped(f"not training: {validation['sentence']}")
    drift = inputs.artifact("drift").document["value"]
    if drift["outcome"] == "broken":
        raise StageSkipped(f"not training: {drift['sentence']}")


def _tokenizer(spec: PrepareSpec, from_where: Sequence[Source], work: Work) -> ChatTokenizer:
    """The champion's, a base model's, or a new one: descendants keep their tokenizer, their embeddings hang on it."""
    if spec.base:
        tokenizer = _of_base(spec.base, work)
        work.events.log(f"taking the tokenizer of {spec.base}: {tokenizer.vocabulary} tokens with the control tokens")
        return tokenizer
    if spec.champion and spec.tokenizer == "champion":
        work.events.log(f"keeping the tokenizer of champion v{spec.champion.version}")
        return ChatTokenizer.load(work.store.open(spec.champion.uri).path / "model")
    tokenizer = train_tokenizer(_texts(from_where), corpus_shape(spec.preset).vocabulary)
    work.events.log(f"trained a tokenizer of {tokenizer.vocabulary} tokens")
    return tokenizer


def _of_base(base: str, work: Work) -> ChatTokenizer:
    try:
        return ChatTokenizer.from_base(find_model(base, work.settings, weights=False))
    except ValueError as error:
        raise StageFailed(f"base model {base}: {error}; choose another `base` in the recipe") from None


def _row_length(spec: PrepareSpec, work: Work) -> int:
    """As the preset has it, and no more than the model reads that training will start from."""
    length = corpus_shape(spec.preset).max_length
    if spec.base:
        return min(length, context_of(find_model(spec.base, work.settings, weights=False)))
    if spec.champion and spec.tokenizer == "champion":
        champion = work.store.open(spec.champion.uri)
        if champion.document["value"]["preset"] == spec.preset:  # of another preset, a new model is trained
            return min(length, context_of(champion.path / "model"))
    return length


def _texts(from_where: Sequence[Source]) -> Iterator[str]:
    """What a tokenizer learns from: cleaned messages of train conversations, what is shown most often first."""
    left = TOKENIZER_BYTES
    for source in sorted(from_where, key=lambda source: -source.weight):
        for reading in source.read() if source.weight else ():
            batch = clean(reading.batch, Rules(samples=0)).batch
            batch = batch.keep(batch.conversations["split"] == "train")
            left -= batch.text_bytes
            yield from batch.messages["content"]
            if left <= 0:
                return


def _units(from_where: Sequence[Source], terms: Terms, work: Work) -> list[OpenUnit]:
    units, packed = [], []
    for number, source in enumerate(from_where, 1):
        unit, found = find_or_pack(work.store, source.name, source.content, _watched(source, work), terms)
        units.append(unit)
        packed += [] if found else [source.name]
        work.events.progress(number, len(from_where), "units", source.name)
    work.events.log(f"packed {', '.join(packed) or 'nothing'}; found {len(units) - len(packed)} packed before")
    return units


def _watched(source: Source, work: Work) -> Iterator[Reading]:
    """The source's batches, with the progress of a month, which may be long."""
    done = 0
    for reading in source.read():
        yield reading
        done += len(reading.batch.conversations)
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


STAGE = Stage("prepare", 4, PrepareSpec, prepare, resolve)
