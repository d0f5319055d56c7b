"""A batch's tokens as pieces that fit a row: `pieces.parts`, for thousands of conversations at a time.

Most conversations fit as they are; only the others are cut one by one. Both come out as spans of the batch's tokens,
which are then gathered in one go.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.arrays import Tokens
from theta_ml.corpus.encoder import Encoded
from theta_ml.corpus.packing import ranges
from theta_ml.corpus.pieces import parts


@dataclass(frozen=True)
class Pieces:
    """Pieces of a batch, in the order of their conversations."""

    tokens: Tokens
    """(tokens,)"""
    learned: NDArray[np.bool_]
    """(tokens,): where loss is taken."""
    starts: NDArray[np.int64]
    """(pieces + 1,): piece i is tokens[starts[i]:starts[i + 1]]."""
    conversation: NDArray[np.uint32]
    """(pieces,): its number in the batch."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.starts)

    @property
    def loss_tokens(self) -> NDArray[np.int64]:
        """(pieces,)"""
        counted = np.concatenate([[0], np.cumsum(self.learned)])
        return counted[self.starts[1:]] - counted[self.starts[:-1]]


@dataclass(frozen=True)
class _Spans:
    """Ranges of tokens that follow each other in the pieces."""

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    new: NDArray[np.bool_]
    piece: NDArray[np.int64]
    """Ascending."""


def cut_batch(encoded: Encoded, conversation: NDArray[np.uint32], begin: int, max_length: int) -> Pieces:
    """`conversation` (messages,) says, ascending, which one each message belongs to. Pieces that teach nothing are left
    out: nobody says anything in them, or only a user does."""
    first = np.flatnonzero(np.diff(conversation, prepend=-1))  # of each conversation's messages
    bounds = np.append(encoded.starts[first], encoded.starts[-1])
    owners = conversation[first]
    spans, of = _spans(encoded, np.append(first, len(conversation)), bounds, max_length)
    pieces = _gather(encoded, spans, owners[of], begin)
    return _teaching(pieces)


def _spans(
    encoded: Encoded, first: NDArray[np.int64], bounds: NDArray[np.int64], max_length: int
) -> tuple[_Spans, NDArray[np.int64]]:
    """The spans, and for each piece the index of its conversation."""
    rows: list[tuple[int, int, bool, int, int]] = []  # start, length, new, piece within the conversation, conversation
    short = np.diff(bounds) < max_length
    for index in np.flatnonzero(~short):
        rows += _long(encoded, int(first[index]), int(first[index + 1]), int(index), max_length)
    long = np.array(rows, dtype=np.int64).reshape(-1, 5)
    whole = np.flatnonzero(short)
    together = np.zeros((len(whole) + len(long), 5), np.int64)
    together[: len(whole), 0], together[: len(whole), 1] = bounds[whole], np.diff(bounds)[whole]
    together[: len(whole), 2], together[: len(whole), 4] = 1, whole
    together[len(whole) :] = long
    together = together[np.argsort(together[:, 4], kind="stable")]
    changes = np.diff(together[:, 3:], axis=0, prepend=-1).any(axis=1)
    spans = _Spans(together[:, 0], together[:, 1], together[:, 2].astype(bool), np.cumsum(changes) - 1)
    return spans, together[changes, 4]


def _long(
    encoded: Encoded, start: int, stop: int, index: int, max_length: int
) -> Iterator[tuple[int, int, bool, int, int]]:
    """Spans of a conversation, messages `start` to `stop`, that takes several pieces."""
    at = encoded.starts[start : stop + 1]
    for piece, chosen in enumerate(parts(np.diff(at).tolist(), encoded.user[start:stop].tolist(), max_length)):
        for part in chosen:
            offset = int(at[part.turn])
            if part.start:
                yield offset, 1, False, piece, index  # the role, once more
            yield offset + part.start, part.stop - part.start, part.new, piece, index


def _gather(encoded: Encoded, spans: _Spans, conversation: NDArray[np.uint32], begin: int) -> Pieces:
    """Copies the spans together, a `<|begin|>` before each piece."""
    heads = np.flatnonzero(np.diff(spans.piece, prepend=-1))
    lengths = np.insert(spans.length, heads, 1)
    begins = len(encoded.tokens)  # stands behind the batch's tokens, for every piece to take
    index = ranges(np.insert(spans.start, heads, begins), lengths)
    learned = np.append(encoded.learned, False)[index] & np.repeat(np.insert(spans.new, heads, False), lengths)
    sizes = np.add.reduceat(spans.length, heads) + 1 if len(heads) else np.zeros(0, np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Pieces(np.append(encoded.tokens, encoded.tokens.dtype.type(begin))[index], learned, starts, conversation)


def _teaching(pieces: Pieces) -> Pieces:
    kept = pieces.loss_tokens > 0
    if kept.all():
        return pieces
    of_tokens = np.repeat(kept, pieces.lengths)
    starts = np.concatenate([[0], np.cumsum(pieces.lengths[kept])])
    return Pieces(pieces.tokens[of_tokens], pieces.learned[of_tokens], starts, pieces.conversation[kept])
