"""What training reads: the rows of an epoch, out of the memory-mapped shards of the units, without what was dropped."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.arrays import Tokens
from theta_ml.corpus.shard import PIECE, Shard

PLAN = np.dtype([("unit", "<u4"), ("row", "<u4")])
"""A row of the epoch: the unit, as a position in the corpus' list of them, and the row in it."""


@dataclass(frozen=True)
class Taken:
    """All (rows, max_length)."""

    tokens: Tokens
    positions: NDArray[np.int64]
    """Of each token in its piece: they start again at 0 with each piece, and with the padding. That is how the model
    tells pieces apart."""
    learned: NDArray[np.bool_]
    """Where loss is taken."""


@dataclass(frozen=True)
class UnitRows:
    """A unit's rows, and the pieces in them that are not to be learned from."""

    shard: Shard
    dropped: NDArray[np.void]
    """(pieces,) of PIECE, by row."""

    @classmethod
    def open(cls, folder: Path, conversations: NDArray[np.uint32]) -> "UnitRows":
        """`conversations` (any number,) are those that the corpus' drop list names."""
        shard = Shard.open(folder)
        if not len(conversations):
            return cls(shard, np.zeros(0, PIECE))
        return cls(shard, shard.pieces[np.isin(shard.pieces["conversation"], conversations)])

    def take(self, rows: NDArray[np.int64]) -> tuple[Tokens, NDArray[np.bool_]]:
        tokens, learned = self.shard.tokens[rows], self.shard.learned[rows]
        first = np.searchsorted(self.dropped["row"], rows, "left")
        last = np.searchsorted(self.dropped["row"], rows, "right")
        for index in np.flatnonzero(first < last):
            for piece in self.dropped[first[index] : last[index]]:
                learned[index, int(piece["start"]) : int(piece["start"]) + int(piece["length"])] = False
        return tokens, learned


class Rows:
    """The rows of one split's epoch; a row with a weight of 2 is there twice."""

    def __init__(self, plan: NDArray[np.void], units: list[UnitRows], max_length: int, begin: int, pad: int) -> None:
        """`plan` is (rows,) of PLAN; `begin` and `pad` are control tokens."""
        self.plan, self.units, self.max_length = plan, units, max_length
        self._begin, self._pad = begin, pad
        self._token_type = units[0].shard.tokens.dtype if units else np.dtype(np.uint16)

    @property
    def count(self) -> int:
        return len(self.plan)

    def take(self, chosen: NDArray[np.int64]) -> Taken:
        """The rows of these numbers, in this order."""
        plan = self.plan[chosen]
        tokens = np.zeros((len(chosen), self.max_length), self._token_type)
        learned = np.zeros((len(chosen), self.max_length), np.bool_)
        for unit in np.unique(plan["unit"]):
            at = np.flatnonzero(plan["unit"] == unit)
            tokens[at], learned[at] = self.units[int(unit)].take(plan["row"][at].astype(np.int64))
        return Taken(tokens, self._positions(tokens), learned)

    def _positions(self, tokens: Tokens) -> NDArray[np.int64]:
        padding = tokens == self._pad
        starts = tokens == self._begin
        starts[:, 0] = True
        starts[:, 1:] |= padding[:, 1:] & ~padding[:, :-1]
        index = np.arange(tokens.shape[1])
        return index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
