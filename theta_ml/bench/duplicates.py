"""Rows of `theta bench corpus` about copies: recall and precision on planted ones, speed against datasketch, memory.

The documents are real conversations that differ: of all that share half of their word 2-grams or more, by exact
counting, one is taken. So whatever is reported beside the planted copies is a false alarm, and not a copy that was
there before. A planted copy has up to a tenth of its words replaced, deleted, inserted or swapped. Half of the copies
stand in another month than what they copy.
"""

import gzip
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from theta_ml.bench import row
from theta_ml.bench.landing import FILES, FOLDER, own_folder
from theta_ml.corpus.batch import CONVERSATIONS, MESSAGES, Batch

DOCUMENTS = 6_000
"""Real conversations, before those that resemble each other are left out."""
EDITED = 0.1
"""Share of a copy's words that is edited, at most."""
FOUND, TRUE = 0.95, 0.95
"""Targets for recall and precision."""
ITEMS = (125_000, 1_250_000)
GROWTH = 1.2
"""Peak memory may grow by so much where there are ten times the items."""
REPEATS = 3
_FEWEST_WORDS = 10
"""A shorter conversation has no tenth to edit."""

Conversation = list[str]
"""Contents of messages."""


class Planted(NamedTuple):
    """Documents of which some copy others."""

    documents: list[Conversation]
    unit: list[int]
    """Month in which each stands."""
    copies: set[tuple[int, int]]
    """Pairs of a document and the copy of it, by number."""

    def batch(self, unit: int | None = None) -> Batch:
        """Those of a month, or all."""
        there = [each for each, its in zip(self.documents, self.unit, strict=True) if unit in (None, its)]
        return batch_of(there)


def duplicate_rows() -> list[dict[str, Any]]:
    """Rows for `theta bench corpus`. Raises FileNotFoundError where the real conversations are absent."""
    ours, peers = [], []
    for _ in range(REPEATS):
        ours.append(_measure("ours"))
        peers.append(_measure("datasketch"))
    return [*_quality_rows(ours[0], peers[0]), _speed_row(ours, peers), *_memory_rows()]


def _quality_rows(ours: dict[str, Any], peer: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, target in (("recall", FOUND), ("precision", TRUE)):
        described = f"near copies, {name}"
        ok = ours[name] >= target
        mine, theirs = ours[name], peer[name]
        rows.append(row(described, mine, "", peer="datasketch", peer_value=theirs, target=target, ok=ok))
    return rows


def _speed_row(ours: list[dict[str, Any]], peers: list[dict[str, Any]]) -> dict[str, Any]:
    mine, theirs = (statistics.median(each["documents"] / each["seconds"] for each in runs) for runs in (ours, peers))
    return row("near copies", mine, "conversations/s", peer="datasketch", peer_value=theirs, ratio=mine / theirs)


def _memory_rows() -> list[dict[str, Any]]:
    small, large = (_measure("memory", str(items)) for items in ITEMS)
    grown = large["peak"] / small["peak"]
    return [
        row("near copies, peak memory", small["peak"] / 2**20, "MiB"),
        row(
            "near copies, ten times the data",
            large["peak"] / 2**20,
            "MiB",
            ratio=grown,
            target=GROWTH,
            ok=grown <= GROWTH,
        ),
        row("near copies, 1.25 M conversations", large["seconds"], "s"),
    ]


def _measure(what: str, *arguments: str) -> dict[str, Any]:
    """In a process of its own, on one core."""
    one = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "theta_ml.bench.duplicates", what, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **one})
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def planted(count: int = DOCUMENTS, seed: int = 0) -> Planted:
    """Documents in twelve months, half of them with a copy."""
    draw = np.random.default_rng(seed)
    documents = distinct(_sample(count, draw))
    words = sorted({word for document in documents for content in document for word in content.split()})
    months = draw.integers(0, 12, len(documents)).tolist()
    copies = set()
    for number in range(0, len(documents), 2):
        copies.add((number, len(documents)))
        elsewhere = (months[number] + int(draw.integers(1, 12))) % 12
        months.append(months[number] if number % 4 else elsewhere)
        documents.append(edited(documents[number], float(draw.uniform(0, EDITED)), words, draw))
    return Planted(documents, months, copies)


def _sample(count: int, draw: np.random.Generator) -> list[Conversation]:
    found = []
    for name in FILES:
        with gzip.open(FOLDER / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            found += [[message["content"] for message in json.loads(line)["messages"]] for line in lines]
    return [found[number] for number in draw.choice(len(found), count, replace=False)]


def distinct(documents: list[Conversation]) -> list[Conversation]:
    """Those of enough words that share less than half of their 2-grams with any before, by exact counting."""
    from scipy.sparse import csr_array

    documents = [each for each in documents if len(_words(each)) >= _FEWEST_WORDS]
    sets = [set(pairwise(_words(each))) for each in documents]
    numbers: dict[tuple[str, str], int] = {}
    columns = [numbers.setdefault(gram, len(numbers)) for grams in sets for gram in grams]
    sizes = np.array([len(grams) for grams in sets])
    starts = np.concatenate(([0], np.cumsum(sizes)))
    held = csr_array((np.ones(len(columns), np.int32), columns, starts), (len(sets), len(numbers)))
    kept = np.ones(len(sets), np.bool_)
    for begin in range(0, len(sets), 500):
        shared = (held[begin : begin + 500] @ held.T).tocoo()
        one, other = shared.row + begin, shared.col
        alike = (other < one) & (shared.data >= 0.5 * (sizes[one] + sizes[other] - shared.data))
        kept[one[alike]] = False
    return [documents[number] for number in np.flatnonzero(kept)]


def _words(document: Conversation) -> list[str]:
    return re.findall(r"\w+", " ".join(document).lower())


def edited(document: Conversation, share: float, words: list[str], draw: np.random.Generator) -> Conversation:
    """A copy with `share` of its words replaced, deleted, inserted, or swapped with the next."""
    said = [(number, word) for number, content in enumerate(document) for word in content.split()]
    for _ in range(int(share * len(said))):
        place = int(draw.integers(len(said)))
        message = said[place][0]
        new = (message, words[int(draw.integers(len(words)))])
        match int(draw.integers(4)):
            case 0:
                said[place] = new
            case 1:
                said[place : place + 1] = []
            case 2:
                said.insert(place, new)
            case _:
                said[place : place + 2] = [(message, second) for _, second in said[place + 1 : place + 2]] + [
                    said[place]
                ]
    return [" ".join(word for number, word in said if number == message) for message in range(len(document))]


def batch_of(documents: list[Conversation]) -> Batch:
    """As train conversations, whose ids are their numbers; user and assistant take turns."""
    count = len(documents)
    described = {"conversation_id": [str(number) for number in range(count)], "source": ["bench"] * count}
    empty = {name: pl.Series([None] * count, dtype=CONVERSATIONS[name]) for name in ("language", "user_id", "rating")}
    messages = [
        (number, ("user", "assistant")[place % 2], content, None)
        for number, document in enumerate(documents)
        for place, content in enumerate(document)
    ]
    conversations = pl.DataFrame({**described, **empty, "split": ["train"] * count}, schema=CONVERSATIONS)
    return Batch(conversations, pl.DataFrame(messages, schema=MESSAGES, orient="row"))


def judge(work: Planted, found: set[tuple[int, int]]) -> dict[str, float]:
    """Recall and precision of pairs of an original and what was taken for its copy."""
    both = {(min(pair), max(pair)) for pair in found}
    right = len(both & work.copies)
    return {"recall": right / len(work.copies), "precision": right / max(1, len(both))}


def _ours(work: Planted) -> Iterator[Any]:
    """Yields once it is ready, then the pairs found."""
    from theta_ml.corpus.duplicates import TRAIN, Items, find
    from theta_ml.corpus.minhash import marks

    batches = [work.batch(unit) for unit in range(12)]
    number = np.argsort(np.array(work.unit), kind="stable")
    yield None
    marked = [marks(batch) for batch in batches]
    count = len(work.documents)
    items = Items(
        [each.signatures for each in marked],
        [each.fingerprints for each in marked],
        np.full(count, TRAIN, np.uint8),
        number.astype(np.uint32),
    )
    copies = find(items)
    yield set(zip(number[copies.original].tolist(), number[copies.item].tolist(), strict=True))


def _datasketch(work: Planted) -> Iterator[Any]:
    """The usual way, with our parameters: a set of 2-grams, a signature, a query for each document."""
    from datasketch import MinHash, MinHashLSH

    from theta_ml.corpus.bands import BANDS
    from theta_ml.corpus.duplicates import THRESHOLD
    from theta_ml.corpus.minhash import PERMUTATIONS

    yield None
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, PERMUTATIONS // BANDS))
    signed: list[Any] = []
    pairs = set()
    for number, document in enumerate(work.documents):
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([" ".join(gram).encode() for gram in set(pairwise(_words(document)))])
        signed.append(signature)
        alike = [other for other in index.query(signature) if signed[other].jaccard(signature) >= THRESHOLD]
        if alike:
            pairs.add((min(alike), number))
        else:
            index.insert(number, signature)
    yield pairs


def _quality(who: str) -> dict[str, Any]:
    work = planted()
    way = (_ours if who == "ours" else _datasketch)(work)
    next(way)
    started = perf_counter()
    found = next(way)
    return {"seconds": perf_counter() - started, "documents": len(work.documents), **judge(work, found)}


def _memory(count: int) -> dict[str, Any]:
    """`find` among so many signatures in files, of which three tenths resemble others."""
    from theta_ml.bench.landing_work import peak_bytes
    from theta_ml.corpus.duplicates import Items, find

    with own_folder() as folder:
        draw = np.random.default_rng(0)
        signatures, fingerprints = _synthetic(folder, count, draw)
        split = draw.integers(0, 3, count, np.uint8)
        rank = draw.permutation(np.arange(count, dtype=np.uint32))
        started = perf_counter()
        found = find(Items([signatures], [fingerprints], split, rank), folder)
        assert len(found.item) > count / 10, "the copies were not found"
        return {"seconds": perf_counter() - started, "peak": peak_bytes()}


def _synthetic(folder: Path, count: int, draw: np.random.Generator) -> tuple[Any, Any]:
    from theta_ml.corpus.minhash import PERMUTATIONS

    size = 1 << 13
    with (folder / "signatures").open("wb") as signed, (folder / "fingerprints").open("wb") as marked:
        for begin in range(0, count, size):
            rows = min(size, count - begin)
            numbers = draw.integers(0, 1 << 32, (rows, PERMUTATIONS), np.uint32)
            copies = numbers[: rows * 3 // 10]
            originals = numbers[-len(copies) :] if len(copies) else copies
            kept = draw.random(copies.shape, np.float32) < 0.8
            copies[kept] = originals[kept]
            numbers.tofile(signed)
            draw.integers(0, 1 << 63, (rows, 2), np.uint64).tofile(marked)
    signatures = np.memmap(folder / "signatures", np.uint32, "r", shape=(count, PERMUTATIONS))
    return signatures, np.memmap(folder / "fingerprints", np.uint64, "r", shape=(count, 2))


def _main(what: str, *arguments: str) -> None:
    measured = _memory(int(arguments[0])) if what == "memory" else _quality(what)
    print(json.dumps(measured))  # noqa: T201


if __name__ == "__main__":
    _main(*sys.argv[1:])
