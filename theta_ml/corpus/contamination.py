"""Copies of the evaluation benchmarks' items: what a model is examined on must not be learned by heart.

A conversation holds an item where it holds half of the item's word 8-grams or more: containment, for an item is a small
part of a conversation and their Jaccard similarity says nothing. Runs of 8 words or more as evidence of contamination
are common practice (Llama 2 takes 10 tokens, PaLM 8-grams; Brown and others 2020 take 13 words).
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.corpus import shingles
from theta_ml.corpus.batch import Batch
from theta_ml.corpus.packing import ranges
from theta_ml.corpus.shingles import Words, words, words_of
from theta_ml.stage import StageFailed

VERSION = 1
"""Raised when the same items would find other conversations."""
GRAM = 8
CONTAINED = 0.5
"""Share of an item's 8-grams that make a copy."""
FEWEST_WORDS = 4
"""Items of fewer words are common sayings. From here to GRAM words, a whole message must be the item."""
FIELDS = ("question", "prompt", "problem", "instruction", "input", "text")
"""Where an item's text stands in a JSON object: in the first of these that is there."""
_ENDINGS = (".jsonl", ".jsonl.gz", ".txt", ".txt.gz")
_FILTER_BITS = 24


class BenchmarksAtFault(StageFailed):
    """The folder holds no item, or one that cannot be read; the message names file and line, and no text."""


@dataclass(frozen=True)
class Contamination:
    """Items as an index from hashed word runs to the items that hold them."""

    grams: NDArray[np.uint64]
    """(entries,), ascending: an 8-gram of an item."""
    items: NDArray[np.int32]
    """(entries,): the item."""
    needed: NDArray[np.int32]
    """(items,): how many different 8-grams make a copy."""
    short: NDArray[np.uint64]
    """(short items,), ascending: the hash of all words of an item that has no 8-gram."""
    seen: NDArray[np.bool_]
    """(2^24,): false where no 8-gram begins with these bits: most of what people say ends here."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Every .jsonl, .jsonl.gz, .txt and .txt.gz file of `folder` and below; a .txt holds an item a line.

        Raises BenchmarksAtFault where there is none, or for a line that is no item.
        """
        files = sorted(path for path in folder.rglob("*") if path.name.endswith(_ENDINGS) and path.is_file())
        if not files:
            raise BenchmarksAtFault(
                f"no {', '.join(_ENDINGS)} file in {folder}: name the folder of the benchmarks' items "
                "(THETA_BENCHMARKS, or the parameter `benchmarks`)"
            )
        return cls.of(pl.Series([text for path in files for text in _texts(path)], dtype=pl.String))

    @classmethod
    def of(cls, texts: pl.Series) -> Self:
        """An index of items, given as texts."""
        said = words_of(texts.unique(maintain_order=True))
        lengths = np.diff(said.starts)
        runs, starts = said.grams(GRAM)
        owner = np.repeat(np.arange(len(lengths), dtype=np.int32), np.diff(starts))
        entries = pl.DataFrame({"gram": runs, "item": owner}).filter(pl.Series(lengths[owner] >= GRAM))
        entries = entries.unique().sort("gram", "item")
        grams, items = entries["gram"].to_numpy(), entries["item"].to_numpy()
        needed = np.ceil(np.bincount(items, minlength=len(lengths)) * CONTAINED).astype(np.int32)
        brief = (lengths >= FEWEST_WORDS) & (lengths < GRAM)
        seen = np.zeros(1 << _FILTER_BITS, np.bool_)
        seen[_leading(grams)] = True
        return cls(grams, items, needed, np.unique(runs[starts[:-1][brief]]), seen)

    def check(self, batch: Batch, said: Words | None = None) -> pl.Series:
        """(conversations,) boolean: which hold an item. `said` are the batch's words, where they are known already."""
        said = said or words(batch)
        held = np.zeros(len(batch.conversations), np.bool_)
        runs, starts = said.grams(GRAM)
        places = np.flatnonzero(self.seen[_leading(runs)])
        held[self._holding(runs[places], np.searchsorted(starts, places, side="right") - 1)] = True
        held[batch.messages["conversation"].to_numpy()[self._short_ones(said)]] = True
        return pl.Series("contaminated", held)

    def fingerprint(self) -> str:
        """Differs where other conversations may be found."""
        digest = hashlib.sha256(repr((VERSION, shingles.VERSION, GRAM, CONTAINED, FEWEST_WORDS)).encode())
        for array in (self.grams, self.items, self.short):
            digest.update(array.tobytes())
        return digest.hexdigest()[:32]

    def _holding(self, runs: NDArray[np.uint64], conversation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Conversations that hold enough of some item; `runs` are their 8-grams that may be an item's as well."""
        first, end = (np.searchsorted(self.grams, runs, side=side) for side in ("left", "right"))
        pairs = pl.DataFrame(
            {
                "conversation": np.repeat(conversation, end - first),
                "gram": np.repeat(runs, end - first),
                "item": self.items[ranges(first, end - first)],
            }
        )
        found = pairs.unique().group_by("conversation", "item").len()
        enough = found["len"].to_numpy() >= self.needed[found["item"].to_numpy()]
        return np.unique(found["conversation"].to_numpy()[enough])

    def _short_ones(self, said: Words) -> NDArray[np.int64]:
        """Messages that are a short item and nothing else."""
        lengths = np.diff(said.messages)
        brief = np.flatnonzero((lengths >= FEWEST_WORDS) & (lengths < GRAM))
        return brief[np.isin(said.whole(said.messages[brief], lengths[brief]), self.short)]


def _leading(grams: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return grams >> np.uint64(64 - _FILTER_BITS)


def _texts(path: Path) -> Iterator[str]:
    read: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with read(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _item(line, f"{path}, line {number}") if ".jsonl" in path.suffixes else line
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise BenchmarksAtFault(f"{path} cannot be read ({why}): fetch it again") from None


def _item(line: str, where: str) -> str:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise BenchmarksAtFault(f"{where}: not JSON: {error.msg}") from None
    for field in FIELDS:
        if isinstance(item, dict) and isinstance(item.get(field), str):
            return str(item[field])
    raise BenchmarksAtFault(f"{where}: an item needs one of the fields {', '.join(FIELDS)}")
