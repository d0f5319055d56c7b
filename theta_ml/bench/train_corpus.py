"""The corpus that training is measured on: real conversations, cleaned, packed and held out by our own corpus code."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from theta_ml.bench.landing import FILES, FOLDER
from theta_ml.corpus.rows import PLAN, Rows, UnitRows
from theta_ml.corpus.tokenizer import ChatTokenizer, Message

if TYPE_CHECKING:
    from theta_ml.corpus.batch import Batch
    from theta_ml.corpus.sources import Reading

TOKENIZER, UNIT = "tokenizer", "unit"


class Document(NamedTuple):
    """A packed piece as a list: what a peer that packs or pads by itself is given."""

    tokens: NDArray[np.uint16]
    learned: NDArray[np.bool_]


@dataclass(frozen=True)
class BenchCorpus:
    """A folder of tokenizer and packed rows."""

    folder: Path
    max_length: int

    def tokenizer(self) -> ChatTokenizer:
        return ChatTokenizer.load(self.folder / TOKENIZER)

    def rows(self, split: str) -> Rows:
        """All rows of a split, in their order; conversations that people disliked too."""
        from theta_ml.corpus.feedback import TIERS
        from theta_ml.corpus.unit import group_of

        tokenizer = self.tokenizer()
        unit = UnitRows.open(self.folder / UNIT, np.zeros(0, np.uint32))
        chosen = np.flatnonzero(np.isin(unit.shard.groups, [group_of(split, tier) for tier in range(len(TIERS))]))
        plan = np.zeros(len(chosen), PLAN)
        plan["row"] = chosen
        return Rows(plan, [unit], self.max_length, tokenizer.begin, tokenizer.pad)

    def documents(self, split: str) -> list[Document]:
        """The pieces of these very rows."""
        rows = self.rows(split)
        shard = rows.units[0].shard
        pieces = shard.pieces[np.isin(shard.pieces["row"], rows.plan["row"])]
        found = []
        for row, start, length in zip(*(pieces[name].tolist() for name in ("row", "start", "length")), strict=True):
            span = slice(start, start + length)
            found.append(Document(shard.tokens[row, span], shard.learned[row, span]))
        return found


def pack_corpus(folder: Path, vocabulary: int, max_length: int, every: int = 1) -> BenchCorpus:
    """Packs every so-manieth conversation of the real files. A tokenizer is trained on those of the train split."""
    from theta_ml.corpus.cleaning import Rules, clean
    from theta_ml.corpus.encoder import Encoder
    from theta_ml.corpus.sources import Reading
    from theta_ml.corpus.tokenizer import train_tokenizer
    from theta_ml.corpus.unit import Terms, pack

    readings = [Reading(_every(reading.batch, every), reading.rejected) for reading in _readings()]
    batches = (clean(reading.batch, Rules(samples=0)).batch for reading in readings)
    kept = (batch.keep(batch.conversations["split"] == "train").messages["content"] for batch in batches)
    tokenizer = train_tokenizer((text for contents in kept for text in contents), vocabulary)
    tokenizer.save(folder / TOKENIZER, max_length)
    (folder / UNIT).mkdir()
    pack("bench", "bench", readings, Terms(Encoder(tokenizer), max_length), folder / UNIT)
    return BenchCorpus(folder, max_length)


def held_out(most: int) -> list[list[Message]]:
    """Test conversations, drawn evenly from all files: the packed corpus holds none of them."""
    found = [messages for reading in _readings() for messages in _conversations(reading.batch, "test")]
    return found[:: max(1, len(found) // most)][:most]


def _every(batch: "Batch", every: int) -> "Batch":
    import polars as pl

    return batch.keep(pl.Series(np.arange(len(batch.conversations)) % every == 0))


def _conversations(batch: "Batch", split: str) -> Iterator[list[Message]]:
    import polars as pl

    wanted = np.flatnonzero((batch.conversations["split"] == split).to_numpy())
    chosen = batch.messages.filter(pl.col("conversation").is_in(wanted))
    for _, messages in chosen.group_by("conversation", maintain_order=True):
        yield [Message(role=role, content=content) for role, content in messages.select("role", "content").rows()]


def _readings() -> "Iterator[Reading]":
    from theta_ml.corpus.catalog import Dataset
    from theta_ml.corpus.sources import read
    from theta_ml.settings import Settings

    for file in FILES:
        path = FOLDER / f"{file}.jsonl.gz"
        if not path.exists():
            raise click.ClickException(f"needs the real conversations {path}")
        entry = Dataset(id=file, category="bench", licence="CC-BY-4.0", source="file", path=str(path))
        yield from read(entry, Settings(), redact=False)
