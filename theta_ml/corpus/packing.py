"""Pieces of conversations in rows of one fixed length, each piece isolated from its neighbours.

A row holds whole pieces one after the other, then padding. Positions start again at 0 with each piece (and with the
padding): that is how the model tells them apart.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.pieces import Piece

TOKENS, POSITIONS, LEARNED = "tokens", "positions", "learned"


@dataclass(frozen=True)
class PackedPiece:
    """A piece in the numbers' own size: two bytes a token."""

    tokens: NDArray[np.uint16]
    learned: NDArray[np.bool_]

    @classmethod
    def of(cls, piece: Piece) -> "PackedPiece":
        return cls(np.array(piece.tokens, dtype=np.uint16), np.array(piece.learned, dtype=np.bool_))


@dataclass(frozen=True)
class Rows:
    """All (rows, max_length)."""

    tokens: NDArray[np.uint16]
    positions: NDArray[np.uint16]
    """Of each token in its piece."""
    learned: NDArray[np.bool_]
    """Where loss is taken."""

    @property
    def count(self) -> int:
        return int(self.tokens.shape[0])

    def save(self, folder: Path, split: str) -> None:
        for name in (TOKENS, POSITIONS, LEARNED):
            np.save(folder / f"{split}-{name}.npy", getattr(self, name))

    @classmethod
    def open(cls, folder: Path, split: str) -> "Rows":
        """Memory-mapped, read-only. Raises FileNotFoundError where the corpus has no such split."""
        return cls(*(np.load(folder / f"{split}-{name}.npy", mmap_mode="r") for name in (TOKENS, POSITIONS, LEARNED)))


def pack(pieces: Sequence[PackedPiece], max_length: int, pad: int, seed: int) -> Rows:
    """The same pieces and seed give the same rows. The order of the rows is shuffled; packing had sorted by length."""
    bins = best_fit([len(piece.tokens) for piece in pieces], max_length)
    order = np.random.default_rng(seed).permutation(len(bins))
    rows = _empty(len(bins), max_length, pad)
    for row, number in enumerate(order):
        start = 0
        for index in bins[number]:
            start = _place(rows, row, start, pieces[index])
        rows.positions[row, start:] = np.arange(max_length - start)
    return rows


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Bins of indices by best-fit decreasing: each length goes where it leaves the least room."""
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, bin), sorted
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        length = lengths[index]
        place = bisect_left(free, (length, 0))
        if place == len(free):
            bins.append([])
            left, number = room, len(bins) - 1
        else:
            left, number = free.pop(place)
        bins[number].append(index)
        insort(free, (left - length, number))
    return bins


def _empty(count: int, max_length: int, pad: int) -> Rows:
    shape = (count, max_length)
    return Rows(np.full(shape, pad, np.uint16), np.zeros(shape, np.uint16), np.zeros(shape, np.bool_))


def _place(rows: Rows, row: int, start: int, piece: PackedPiece) -> int:
    end = start + len(piece.tokens)
    rows.tokens[row, start:end] = piece.tokens
    rows.positions[row, start:end] = np.arange(len(piece.tokens))
    rows.learned[row, start:end] = piece.learned
    return end
