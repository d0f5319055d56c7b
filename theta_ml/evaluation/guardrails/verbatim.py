"""The longest run of words that a generated reply copies from the training text.

What many conversations say is nobody's: a greeting, a house rule, a template. Counted is what few say, in the sense of
k-eidetic memorisation (Carlini et al. 2021, "Extracting Training Data from Large Language Models", definition 2): each
window of WINDOW tokens in the run stands in at most FEW conversations. What the prompt itself holds does not count.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.feedback import TIERS
from theta_ml.corpus.prepare import DROPS
from theta_ml.corpus.shard import Shard
from theta_ml.corpus.shingles import mix
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.corpus.unit import SPLITS
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.store import Artifact, Store

if TYPE_CHECKING:
    from theta_ml.corpus.tokenizer import Message

WINDOW = 8
"""Tokens; shorter runs are everybody's. A power of two."""
FEW = 4
"""Conversations that may share a window, and it is still somebody's own words."""
_CHUNK_TOKENS = 1 << 20
_BASE = np.uint64(0x9E3779B97F4A7C15)
_BITS = 20
"""Of a hash, that settle at once that a window of the training text is none of the replies'."""

HIT = np.dtype([("window", "<u4"), ("unit", "<u4"), ("conversation", "<u4"), ("row", "<u4"), ("column", "<u4")])
"""A window of a reply, by its number, found in the training text."""


@dataclass(frozen=True)
class Copied:
    """A reply, and the prompt that it may well repeat."""

    prompt: "Sequence[Message]"
    reply: str


class _Place(NamedTuple):
    """Where a window stands in the replies."""

    reply: int
    at: int


def longest_copy(replies: Sequence[Copied], corpus: Artifact, store: Store) -> int:
    """Words of that run; 0 where no reply copies WINDOW tokens that few conversations hold.

    Raises ArtifactMissing where a part of the corpus is gone. Reads the training text once, a million tokens at a time.
    """
    tokenizer = ChatTokenizer.load(corpus.path / "tokenizer")
    tokens = [_encode(tokenizer, copied.reply) for copied in replies]
    places = _places(tokens, [_prompt_windows(tokenizer, copied.prompt) for copied in replies])
    hits = _search(np.array(sorted(places), np.uint64), corpus, store)
    runs = _runs(hits, [places[window] for window in sorted(places)])
    return max((_words(tokenizer, tokens[reply][at:end]) for reply, at, end in runs), default=0)


def _encode(tokenizer: ChatTokenizer, text: str) -> NDArray[np.uint64]:
    return np.array(tokenizer.tokenizer.encode(text, add_special_tokens=False).ids, np.uint64)


def _words(tokenizer: ChatTokenizer, tokens: NDArray[np.uint64]) -> int:
    return len(str(tokenizer.tokenizer.decode(tokens.tolist())).split())


def _prompt_windows(tokenizer: ChatTokenizer, prompt: "Sequence[Message]") -> set[int]:
    """Also as they are where a space stands before them, for a reply may begin elsewhere than a message does."""
    said = [before + message["content"].strip() for message in prompt for before in ("", " ")]
    return {window for text in said for window in _windows(_encode(tokenizer, text)).tolist()}


def _places(replies: Sequence[NDArray[np.uint64]], told: Sequence[set[int]]) -> dict[int, list[_Place]]:
    """Where each window stands, by its hash; without those that the reply's own prompt holds."""
    places: dict[int, list[_Place]] = defaultdict(list)
    for number, tokens in enumerate(replies):
        for at, window in enumerate(_windows(tokens).tolist()):
            if window not in told[number]:
                places[window].append(_Place(number, at))
    return places


def _windows(tokens: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """(…, length − WINDOW + 1): a hash of each WINDOW tokens in a row, along the last axis; of 2 made from 1, and so on
    (Karp and Rabin 1987)."""
    hashes, span = mix(tokens + np.uint64(1)), 1
    while span < WINDOW:
        hashes = mix(hashes[..., :-span] * _BASE + hashes[..., span:]) if hashes.shape[-1] > span else hashes[..., :0]
        span *= 2
    return hashes


def _search(known: NDArray[np.uint64], corpus: Artifact, store: Store) -> NDArray[np.void]:
    """(hits,) of HIT, of windows that at most FEW conversations hold; `known` (windows,) are sorted."""
    hits = np.zeros(0, HIT)
    if not len(known):
        return hits
    common = np.zeros(len(known), np.bool_)
    for found in _hits(known, common, corpus, store):
        hits = np.concatenate([hits, found])
        pairs = np.unique(hits[["window", "unit", "conversation"]])
        common |= np.bincount(pairs["window"], minlength=len(known)) > FEW
        hits = hits[~common[hits["window"]]]
    return hits


def _hits(
    known: NDArray[np.uint64], common: NDArray[np.bool_], corpus: Artifact, store: Store
) -> Iterator[NDArray[np.void]]:
    """(hits,) of HIT, a part of the training text after the other; windows in `common` are no longer looked for."""
    maybe = np.zeros(1 << _BITS, np.bool_)
    maybe[known >> np.uint64(64 - _BITS)] = True
    for number, shard, dropped in _units(corpus, store):
        taught = shard.groups < (SPLITS.index("train") + 1) * len(TIERS)
        for rows in _chunks(np.flatnonzero(taught), shard.tokens.shape[1]):
            windows = _windows(shard.tokens[rows].astype(np.uint64))
            row, column = np.nonzero(maybe[windows >> np.uint64(64 - _BITS)])
            which = np.minimum(np.searchsorted(known, windows[row, column]), len(known) - 1)
            same = (known[which] == windows[row, column]) & ~common[which]
            yield _located(number, shard, dropped, which[same], rows[row[same]], column[same])


def _units(corpus: Artifact, store: Store) -> Iterator[tuple[int, Shard, NDArray[np.uint32]]]:
    """Number, rows and conversations that are not learned from of each unit that is shown at all."""
    dropped = np.load(corpus.path / DROPS)
    for number, unit in enumerate(corpus.document["value"]["units"]):
        if unit["weight"] > 0:
            shard = Shard.open(store.open(store.uri(UNIT, unit["key"])).path)
            yield number, shard, dropped["conversation"][dropped["unit"] == number]


def _chunks(rows: NDArray[np.int64], length: int) -> Iterator[NDArray[np.int64]]:
    size = max(1, _CHUNK_TOKENS // length)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _located(
    unit: int,
    shard: Shard,
    dropped: NDArray[np.uint32],
    window: NDArray[np.int64],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
) -> NDArray[np.void]:
    """(hits,) of HIT with their conversations, without those that are not learned from."""
    length = shard.tokens.shape[1]
    starts = shard.pieces["row"].astype(np.int64) * length + shard.pieces["start"]
    piece = np.searchsorted(starts, row * length + column, side="right") - 1
    found = np.zeros(len(window), HIT)
    found["window"], found["unit"], found["row"], found["column"] = window, unit, row, column
    found["conversation"] = shard.pieces["conversation"][piece]
    return found[~np.isin(found["conversation"], dropped)]


def _runs(hits: NDArray[np.void], places: Sequence[list[_Place]]) -> Iterator[tuple[int, int, int]]:
    """Reply, first token and the one after the last of each run: windows that follow each other there and here."""
    diagonals: dict[tuple[int, int, int, int], set[int]] = defaultdict(set)
    for window, unit, _, row, column in hits.tolist():
        for place in places[window]:
            diagonals[place.reply, unit, row, column - place.at].add(place.at)
    for (reply, *_), starts in diagonals.items():
        for _, run in groupby(enumerate(sorted(starts)), key=lambda pair: pair[1] - pair[0]):
            followed = [at for _, at in run]
            yield reply, followed[0], followed[-1] + WINDOW
