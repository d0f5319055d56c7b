"""Pieces of conversations in rows of one fixed length, each isolated from its neighbours.

A row holds whole pieces one after the other, then padding. A piece starts with `<|begin|>`: that is how the reader
tells them apart (`corpus.rows`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WINDOW_TOKENS = 1 << 20
"""Pieces are packed so many tokens at a time: memory stays flat, and rows fill up as well as over all at once."""


@dataclass(frozen=True)
class Layout:
    """Where each piece goes."""

    row: NDArray[np.int64]
    """(pieces,)"""
    start: NDArray[np.int64]
    """(pieces,): of the piece in its row."""
    rows: int


def best_fit(lengths: NDArray[np.int64], room: int) -> Layout:
    """Best-fit decreasing: each piece, the longest first, goes where it leaves the least room.

    Rows are kept by the room they have left, and a bit set says which sizes there are: the tightest fit is the lowest
    bit from the piece's length on.
    """
    row, start = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    with_room: list[list[int]] = [[] for _ in range(room + 1)]
    sizes = 0
    rows = 0
    order = np.argsort(-lengths, kind="stable")
    for index, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        fitting = sizes >> length << length
        if fitting:
            left = (fitting & -fitting).bit_length() - 1
            number = with_room[left].pop()
            sizes ^= (not with_room[left]) << left
        else:
            left, number, rows = room, rows, rows + 1
        row[index], start[index] = number, room - left
        with_room[left - length].append(number)
        sizes |= 1 << (left - length)
    return Layout(row, start, rows)


def windows(lengths: NDArray[np.int64], size: int = WINDOW_TOKENS) -> Iterator[slice]:
    """Consecutive pieces of about `size` tokens."""
    number = np.cumsum(lengths) // size
    bounds = np.flatnonzero(np.diff(number, prepend=-1, append=-1))
    yield from (slice(int(a), int(z)) for a, z in pairwise(bounds))


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers starts[i] … starts[i] + lengths[i] - 1 of all i, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
