"""A unit: one month of the landing zone, or one dataset of the catalog, cleaned, encoded and packed once.

Its key is made of its content, the tokenizer and the rules. A later corpus finds it and packs only what is new; what
later months, caps or erasures take out of it stands in that corpus' drop list, and the unit stays as it is.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter

from theta_ml.corpus import cleaning, duplicates, feedback, minhash, shingles
from theta_ml.corpus.arrays import open_array
from theta_ml.corpus.batch import Batch
from theta_ml.corpus.cleaning import Rules, Sample, clean, fewest
from theta_ml.corpus.contamination import Contamination
from theta_ml.corpus.cutting import Pieces, cut_batch
from theta_ml.corpus.encoder import Encoder
from theta_ml.corpus.shard import Shard, write_shard
from theta_ml.corpus.sources import Reading
from theta_ml.corpus.spool import (
    CONVERSATIONS,
    FINGERPRINTS,
    SIGNATURES,
    Spool,
    SpooledPart,
    SpooledPieces,
    held_benchmark,
    remove_spool,
)
from theta_ml.privacy import redaction
from theta_ml.store import DOCUMENT, Artifact, Store

STAGE = "pack"
"""Units lie in the store beside the stages' outputs, under this name."""
VERSION = 2
"""Raised when the same content would be packed differently."""
SPLITS = ("train", "validation")
DROPPED = "dropped.npy"
DROP = np.dtype([("conversation", "<u4"), ("reason", "u1")])
"""A conversation that was packed for nothing or never: its number in the unit, and an index into REASONS."""
REASONS = (*duplicates.REASONS, "benchmark", "share of one user", "disliked", "erased", "not shown")
_BENCHMARK = REASONS.index("benchmark")
VERSIONS = (VERSION, cleaning.VERSION, minhash.VERSION, redaction.VERSION)
"""Of all code that a unit's bytes hang on: cleaning redacts what it brings to light."""


@dataclass(frozen=True)
class Terms:
    """What units are packed with."""

    encoder: Encoder
    max_length: int
    rules: Rules = field(default_factory=Rules)
    contamination: Contamination | None = None
    """Benchmark items whose copies must not be learned."""

    def key(self, content: str) -> str:
        """Content key of a unit: equal where the same content would be packed to the same bytes."""
        identity = [
            [*VERSIONS, content, self.encoder.tokenizer.key(), self.max_length],
            asdict(self.rules),
            self.contamination.fingerprint() if self.contamination else None,
        ]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class PackedUnit:
    """What became of a source's conversations. `read` is the sum of rejected, dropped, held_out and kept."""

    name: str
    """YYYY-MM, or the dataset's id."""
    content: str
    read: int
    rejected: dict[str, int]
    """Unreadable or unfit, by reason."""
    dropped: dict[str, int]
    """Copies within the unit, by reason."""
    held_out: int
    """Test conversations."""
    kept: dict[str, int]
    """By split."""
    rows: dict[str, int]
    """By split."""
    tokens: dict[str, int]
    """Without padding, by split."""
    loss_tokens: dict[str, int]
    text_bytes: int
    """Of what was read."""
    changed: dict[str, int]
    """What the steps of the cleaning mended."""
    samples: list[Sample]


@dataclass(frozen=True)
class OpenUnit:
    """A unit in the store."""

    artifact: Artifact
    unit: PackedUnit

    @property
    def path(self) -> Path:
        return self.artifact.path

    def conversations(self, columns: list[str] | None = None) -> pl.DataFrame:
        """`spool.CONVERSATION_COLUMNS`, or some of them; a conversation's number is its place here."""
        return pl.read_parquet(self.path / CONVERSATIONS, columns=columns)

    def some(self, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
        """The same, some thousands at a time."""
        with pq.ParquetFile(self.path / CONVERSATIONS) as file:
            for group in range(file.num_row_groups):
                yield pl.DataFrame(file.read_row_group(group, columns))
            if not file.num_row_groups:
                yield self.conversations(columns)

    def signatures(self) -> NDArray[np.uint32]:
        """(conversations, permutations), memory-mapped."""
        return open_array(self.path / SIGNATURES)

    def fingerprints(self) -> NDArray[np.uint64]:
        """(conversations, 2), memory-mapped."""
        return open_array(self.path / FINGERPRINTS)

    def dropped(self) -> NDArray[np.void]:
        """(conversations dropped within the unit,) of DROP."""
        return open_array(self.path / DROPPED)


def find_or_pack(
    store: Store, name: str, content: str, readings: "Iterable[Reading | Beforehand]", terms: Terms
) -> tuple[OpenUnit, bool]:
    """The unit, and whether it had been packed before. `readings` are only read where it had not."""
    key = terms.key(content)
    found = store.find(STAGE, key)
    if not found:
        with store.writing(STAGE, key) as path:
            unit = pack(name, content, readings, terms, path)
            document = {"stage": STAGE, "version": VERSION, "key": key, "noun": "PackedUnit", "value": asdict(unit)}
            (path / DOCUMENT).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    artifact = found or store.open(store.uri(STAGE, key))
    return OpenUnit(artifact, TypeAdapter(PackedUnit).validate_python(artifact.document["value"])), found is not None


@dataclass
class Seen:
    """What is counted while a source is read."""

    read: int = 0
    text_bytes: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    def update(self, other: "Seen", rules: Rules) -> None:
        """Counts what the other one counted: the same in any order."""
        self.read += other.read
        self.text_bytes += other.text_bytes
        self.rejected.update(other.rejected)
        self.changed.update(other.changed)
        self.samples = fewest([*self.samples, *other.samples], rules.samples)


class Beforehand(NamedTuple):
    """A part of a source that was cleaned and encoded before."""

    part: SpooledPart
    seen: Seen | None
    """What was counted in its spool, once for all parts of it."""

    @property
    def conversations(self) -> int:
        """How many are in it."""
        return int(self.part.end["conversations"]) - int(self.part.begin["conversations"])


def pack(name: str, content: str, readings: Iterable[Reading | Beforehand], terms: Terms, folder: Path) -> PackedUnit:
    """Writes the unit's files to `folder`. A source that holds nothing gives a unit that holds nothing."""
    seen = Seen()
    with Spool(folder, terms.encoder.token_type) as spool:
        for reading in readings:
            if isinstance(reading, Reading):
                add(reading, terms, spool, seen)
                continue
            spool.copy(reading.part)
            if reading.seen:
                seen.update(reading.seen, terms.rules)
    conversations = pl.read_parquet(folder / CONVERSATIONS, columns=["split", "tier", "tokens", "loss_tokens"])
    dropped = _dropped(folder, conversations)
    np.save(folder / DROPPED, dropped)
    spooled = SpooledPieces.open(folder, dropped["conversation"])
    groups = _groups(conversations)
    write_shard(folder, spooled, groups[spooled.conversation], terms.max_length, terms.encoder.tokenizer.pad)
    remove_spool(folder)
    return _describe(name, content, folder, conversations, dropped, seen)


def add(reading: Reading, terms: Terms, spool: Spool, seen: Seen) -> None:
    """Cleans, encodes and counts a batch."""
    cleaned = clean(reading.batch, terms.rules)
    counted = Seen(
        len(reading.batch.conversations) + len(reading.rejected), reading.batch.text_bytes, samples=cleaned.samples
    )
    counted.changed.update(cleaned.changed)
    for rejected in (reading.rejected, cleaned.rejected):
        spool.reject(rejected)
        counted.rejected.update(rejected["reason"].to_list())
    seen.update(counted, terms.rules)
    if len(cleaned.batch.conversations):
        _spool(cleaned.batch, terms, spool)


def _spool(batch: Batch, terms: Terms, spool: Spool) -> None:
    said = shingles.words(batch)
    held = np.zeros(len(batch.conversations), np.bool_)
    if terms.contamination:
        held = terms.contamination.check(batch, said).to_numpy()
    described = batch.conversations.with_columns(tier=pl.Series(feedback.tiers(batch)))
    spool.add(described, _pieces(batch, terms), minhash.marks(batch, said), held)


def _pieces(batch: Batch, terms: Terms) -> Pieces:
    """Of the train and validation conversations; what models are judged on is not even encoded."""
    taught = (batch.conversations["split"] != "test").to_numpy()
    messages = batch.messages.filter(pl.Series(taught[batch.messages["conversation"].to_numpy()]))
    encoded = terms.encoder.encode(Batch(batch.conversations, messages))
    return cut_batch(encoded, messages["conversation"].to_numpy(), terms.encoder.tokenizer.begin, terms.max_length)


def _dropped(folder: Path, conversations: pl.DataFrame) -> NDArray[np.void]:
    """Copies within the unit, and copies of benchmark items; none of them is packed."""
    count = len(conversations)
    items = duplicates.Items(
        [open_array(folder / SIGNATURES)],
        [open_array(folder / FINGERPRINTS)],
        split_codes(conversations["split"]),
        _rank(conversations["tier"]),
    )
    copies = duplicates.find(items, folder)
    reasons = np.full(count, len(REASONS), np.uint8)
    reasons[copies.item] = copies.reason
    reasons[held_benchmark(folder)] = _BENCHMARK
    reasons[(conversations["split"] == "test").to_numpy()] = len(REASONS)
    dropped = np.zeros(int((reasons < len(REASONS)).sum()), DROP)
    dropped["conversation"] = np.flatnonzero(reasons < len(REASONS))
    dropped["reason"] = reasons[dropped["conversation"]]
    return dropped


def _rank(tiers: pl.Series) -> NDArray[np.uint32]:
    """(conversations,): the order in which copies stay. One that people disliked may leave the corpus later, and must
    not have taken a better one with it."""
    rank = np.empty(len(tiers), np.uint32)
    rank[np.argsort((tiers == feedback.TIERS.index("disliked")).to_numpy(), kind="stable")] = np.arange(len(tiers))
    return rank


def split_codes(splits: pl.Series) -> NDArray[np.uint8]:
    """(conversations,): as `duplicates` counts splits."""
    return splits.replace_strict(
        {name: code for code, name in enumerate(duplicates.SPLITS)}, return_dtype=pl.UInt8
    ).to_numpy()


def group_of(split: str, tier: int) -> int:
    """The group of rows that a conversation stands in: weights differ by split and tier, within a unit."""
    return SPLITS.index(split) * len(feedback.TIERS) + tier


def _groups(conversations: pl.DataFrame) -> NDArray[np.uint8]:
    first = {split: group_of(split, 0) for split in SPLITS} | {"test": 0}  # of which nothing is packed
    return (conversations["split"].replace_strict(first, return_dtype=pl.UInt8) + conversations["tier"]).to_numpy()


def _describe(
    name: str, content: str, folder: Path, conversations: pl.DataFrame, dropped: NDArray[np.void], seen: Seen
) -> PackedUnit:
    shard = Shard.open(folder)
    gone = pl.Series(np.isin(np.arange(len(conversations)), dropped["conversation"]))
    kept = conversations.filter(~gone & (conversations["split"] != "test"))
    of_split = {split: kept.filter(pl.col("split") == split) for split in SPLITS}
    split_of_row = shard.groups // len(feedback.TIERS)
    return PackedUnit(
        name=name,
        content=content,
        read=seen.read,
        rejected=dict(sorted(seen.rejected.items())),
        dropped={reason: int((dropped["reason"] == code).sum()) for code, reason in enumerate(REASONS)},
        held_out=int((conversations["split"] == "test").sum()),
        kept={split: len(table) for split, table in of_split.items()},
        rows={split: int((split_of_row == code).sum()) for code, split in enumerate(SPLITS)},
        tokens={split: int(table["tokens"].sum()) for split, table in of_split.items()},
        loss_tokens={split: int(table["loss_tokens"].sum()) for split, table in of_split.items()},
        text_bytes=seen.text_bytes,
        changed=dict(sorted(seen.changed.items())),
        samples=seen.samples,
    )
