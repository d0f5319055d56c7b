"""Pairs of answers to the same words: one from a conversation that people liked, one from a conversation that they
disliked. Preference training learns from them.

They are read out of the packed units, so that what keeps a conversation out of training keeps it out of the pairs too:
that it copies a test conversation or a benchmark's item, that it was erased, that its user has too large a share of
what people liked. Two conversations that are equal up to
an answer part there: that answer is what their ratings are about.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.feedback import TIERS
from theta_ml.corpus.prepare import DROPS
from theta_ml.corpus.shard import Shard
from theta_ml.corpus.taken import DISLIKED as DROPPED_AS_DISLIKED
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.corpus.unit import SPLITS
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.store import Artifact, Store

LIKED, DISLIKED = TIERS.index("liked"), TIERS.index("disliked")


class Pair(NamedTuple):
    """Token ids; the answers end with their end token."""

    prompt: list[int]
    """From `<|begin|>` to the assistant's role token."""
    chosen: list[int]
    rejected: list[int]


@dataclass
class _Answers:
    """To the same prompt; dictionaries keep what was added first, once."""

    liked: dict[bytes, None] = field(default_factory=dict)
    disliked: dict[bytes, None] = field(default_factory=dict)


def find_pairs(corpus: Artifact, split: str, store: Store) -> list[Pair]:
    """The pairs of a split's conversations, always in the same order. Raises ArtifactMissing where a unit is gone."""
    tokenizer = ChatTokenizer.load(corpus.path / "tokenizer")
    answers: dict[bytes, _Answers] = defaultdict(_Answers)
    for shard, dropped in _units(corpus, store):
        for liked, tokens in _rated(shard, dropped, split):
            for prompt, answer in _answered(tokens, tokenizer):
                known = answers[prompt.tobytes()]
                (known.liked if liked else known.disliked)[answer.tobytes()] = None
    return [pair for prompt, known in answers.items() for pair in _paired(prompt, known)]


def _units(corpus: Artifact, store: Store) -> Iterator[tuple[Shard, NDArray[np.uint32]]]:
    """Each unit, and the numbers of its conversations that may not be learned from, but for being disliked: those are
    in the books as `disliked_data`."""
    dropped = np.load(corpus.path / DROPS)
    dropped = dropped[dropped["reason"] != DROPPED_AS_DISLIKED]
    for number, unit in enumerate(corpus.document["value"]["units"]):
        path: Path = store.open(store.uri(UNIT, unit["key"])).path
        yield Shard.open(path), dropped["conversation"][dropped["unit"] == number]


def _rated(shard: Shard, dropped: NDArray[np.uint32], split: str) -> Iterator[tuple[bool, NDArray[np.uint32]]]:
    """Whether it was liked, and the tokens, of each piece that people liked or did not."""
    first = SPLITS.index(split) * len(TIERS)
    groups = shard.groups[shard.pieces["row"]]
    chosen = np.isin(groups, [first + LIKED, first + DISLIKED])
    chosen &= ~np.isin(shard.pieces["conversation"], dropped)
    for group, piece in zip(groups[chosen], shard.pieces[chosen], strict=True):
        start = int(piece["start"])
        tokens = shard.tokens[piece["row"], start : start + int(piece["length"])]
        yield bool(group == first + LIKED), tokens.astype(np.uint32)


def _answered(
    tokens: NDArray[np.uint32], tokenizer: ChatTokenizer
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """Each answer of a piece that is there to its end, with all that stands before it; nothing where nothing does: that
    is the rest of an answer which was longer than a piece."""
    ends = np.flatnonzero(tokens == tokenizer.end)
    for role in np.flatnonzero(tokens == tokenizer.roles["assistant"]):
        after = np.searchsorted(ends, role)
        if after < len(ends) and role > 1:
            yield tokens[: role + 1], tokens[role + 1 : ends[after] + 1]


def _paired(prompt: bytes, known: _Answers) -> Iterator[Pair]:
    """Each answer once at most: one that was both liked and disliked says nothing."""
    liked = [answer for answer in known.liked if answer not in known.disliked]
    disliked = [answer for answer in known.disliked if answer not in known.liked]
    for chosen, rejected in zip(liked, disliked, strict=False):
        yield Pair(_ids(prompt), _ids(chosen), _ids(rejected))


def _ids(tokens: bytes) -> list[int]:
    ids: list[int] = np.frombuffer(tokens, np.uint32).tolist()
    return ids
