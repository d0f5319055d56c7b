"""The rows of a unit on disk: memory-mapped arrays, and an index from each packed piece back to its conversation."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from theta_ml.corpus.arrays import GrowingArray, Tokens, open_array, release
from theta_ml.corpus.packing import best_fit, ranges, windows
from theta_ml.corpus.spool import SpooledPieces

TOKENS, LEARNED, PIECES, GROUPS = "tokens.npy", "learned.npy", "pieces.npy", "groups.npy"
_GATHERED_TOKENS = 1 << 17
PIECE = np.dtype([("row", "<u4"), ("start", "<u4"), ("length", "<u4"), ("learned", "<u4"), ("conversation", "<u4")])
"""Of each piece: its row, where it starts there, its tokens, those that bear loss, and its conversation's number."""


@dataclass(frozen=True)
class Shard:
    """A unit's rows."""

    tokens: Tokens
    """(rows, max_length); pieces one after the other, each beginning with `<|begin|>`, then padding."""
    learned: NDArray[np.bool_]
    """(rows, max_length): where loss is taken."""
    pieces: NDArray[np.void]
    """(pieces,) of PIECE, by row and start."""
    groups: NDArray[np.uint8]
    """(rows,): the group that all conversations of the row are of."""

    @classmethod
    def open(cls, folder: Path) -> "Shard":
        return cls(*(open_array(folder / name) for name in (TOKENS, LEARNED, PIECES, GROUPS)))


def write_shard(folder: Path, spooled: SpooledPieces, groups: NDArray[np.uint8], max_length: int, pad: int) -> None:
    """Packs the spooled pieces; `groups` (pieces,) keeps those of different groups in rows of their own."""
    tokens, learned = spooled.tokens, spooled.learned
    with (
        GrowingArray(folder / TOKENS, tokens.dtype, (max_length,)) as rows_of_tokens,
        GrowingArray(folder / LEARNED, np.bool_, (max_length,)) as rows_of_learned,
        GrowingArray(folder / PIECES, PIECE) as index,
        GrowingArray(folder / GROUPS, np.uint8) as row_groups,
    ):
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            for window in windows(spooled.length[members]):
                chosen = members[window]
                layout = best_fit(spooled.length[chosen], max_length)
                index.append(_index(spooled, chosen, layout.row + rows_of_tokens.rows, layout.start))
                into, shape = layout.row * max_length + layout.start, (layout.rows, max_length)
                rows_of_tokens.append(_filled(np.full(shape, pad, tokens.dtype), into, spooled, chosen, tokens))
                rows_of_learned.append(_filled(np.zeros(shape, np.bool_), into, spooled, chosen, learned))
                row_groups.append(np.full(layout.rows, group, np.uint8))


def _index(
    spooled: SpooledPieces, chosen: NDArray[np.int64], row: NDArray[np.int64], start: NDArray[np.int64]
) -> NDArray[np.void]:
    index = np.zeros(len(chosen), PIECE)
    index["row"], index["start"] = row, start
    index["length"], index["learned"] = spooled.length[chosen], spooled.loss_tokens[chosen]
    index["conversation"] = spooled.conversation[chosen]
    return index[np.lexsort((start, row))]


def _filled(
    rows: NDArray[np.generic],
    into: NDArray[np.int64],
    spooled: SpooledPieces,
    chosen: NDArray[np.int64],
    values: NDArray[np.generic],
) -> NDArray[np.generic]:
    """`rows` with each chosen piece's values from `into` (pieces,) on, counted through the rows.

    A few at a time: pieces of a rare group lie far apart in the mapped file, and the kernel maps what is around each.
    """
    filled = rows.reshape(-1)
    for some in windows(spooled.length[chosen], _GATHERED_TOKENS):
        lengths = spooled.length[chosen[some]]
        filled[ranges(into[some], lengths)] = values[ranges(spooled.start[chosen[some]], lengths)]
        release(values)
    return rows
