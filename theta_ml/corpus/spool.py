"""A unit's conversations, cleaned and encoded, on disk and not yet packed: what is a copy is known at the end.

Everything of the size of the text goes to files; what stays in memory is a few numbers a piece.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from theta_ml.corpus.arrays import GrowingArray, Tokens, open_array
from theta_ml.corpus.cutting import Pieces
from theta_ml.corpus.minhash import PERMUTATIONS, Marks

CONVERSATIONS, REJECTED = "conversations.parquet", "rejected.parquet"
SIGNATURES, FINGERPRINTS = "signatures.npy", "fingerprints.npy"
_TOKENS, _LEARNED, _PIECES = "spool-tokens.npy", "spool-learned.npy", "spool-pieces.npy"
CONVERSATION_COLUMNS = pl.Schema(
    {
        "conversation_id": pl.String,
        "source": pl.String,
        "user_id": pl.String,
        "split": pl.String,
        "tier": pl.UInt8,
        "tokens": pl.UInt32,
        "loss_tokens": pl.UInt32,
    }
)
_REJECTED_COLUMNS = pl.Schema({"conversation_id": pl.String, "reason": pl.String})
_PIECE = np.dtype([("start", "<i8"), ("length", "<u4"), ("learned", "<u4"), ("conversation", "<u4")])


class Spool:
    """Written a batch at a time; all but the spooled pieces stays."""

    def __init__(self, folder: Path, token_type: type[np.unsignedinteger[Any]] = np.uint16) -> None:
        self.folder, self.conversations = folder, 0
        self._arrays = [
            GrowingArray(folder / _TOKENS, token_type),
            GrowingArray(folder / _LEARNED, np.bool_),
            GrowingArray(folder / _PIECES, _PIECE),
            GrowingArray(folder / SIGNATURES, np.uint32, (PERMUTATIONS,)),
            GrowingArray(folder / FINGERPRINTS, np.uint64, (2,)),
        ]
        self._described = _writer(folder / CONVERSATIONS, CONVERSATION_COLUMNS)
        self._rejected = _writer(folder / REJECTED, _REJECTED_COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for array in self._arrays:
            array.close()
        self._described.close()
        self._rejected.close()

    def reject(self, rejected: pl.DataFrame) -> None:
        """Rows of conversation_id and reason."""
        self._rejected.write_table(_table(rejected, _REJECTED_COLUMNS))

    def add(self, described: pl.DataFrame, pieces: Pieces, marks: Marks) -> None:
        """A batch: rows of CONVERSATION_COLUMNS, but for the tokens; `pieces` of its train and validation ones."""
        tokens, learned, index, signatures, fingerprints = self._arrays
        count = len(described)
        spooled = np.zeros(len(pieces.conversation), _PIECE)
        spooled["start"], spooled["length"] = pieces.starts[:-1] + tokens.rows, pieces.lengths
        spooled["learned"], spooled["conversation"] = pieces.loss_tokens, pieces.conversation + self.conversations
        tokens.append(pieces.tokens)
        learned.append(pieces.learned)
        index.append(spooled)
        signatures.append(marks.signatures)
        fingerprints.append(marks.fingerprints)
        described = described.with_columns(
            tokens=pl.Series(np.bincount(pieces.conversation, pieces.lengths, count)),
            loss_tokens=pl.Series(np.bincount(pieces.conversation, pieces.loss_tokens, count)),
        )
        self._described.write_table(_table(described, CONVERSATION_COLUMNS))
        self.conversations += count


@dataclass(frozen=True)
class SpooledPieces:
    """Pieces in the order of their conversations; their tokens lie in files."""

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    loss_tokens: NDArray[np.int64]
    conversation: NDArray[np.uint32]
    """Its number in the unit."""
    tokens: Tokens
    """(tokens,), memory-mapped."""
    learned: NDArray[np.bool_]
    """(tokens,), memory-mapped: where loss is taken."""

    @classmethod
    def open(cls, folder: Path, without: NDArray[np.uint32]) -> "SpooledPieces":
        """What was spooled in `folder`, without those of the conversations `without`."""
        index = open_array(folder / _PIECES)
        index = index[~np.isin(index["conversation"], without)]
        start, length, learned = (index[name].astype(np.int64) for name in ("start", "length", "learned"))
        files = open_array(folder / _TOKENS), open_array(folder / _LEARNED)
        return cls(start, length, learned, index["conversation"].copy(), *files)


def remove_spool(folder: Path) -> None:
    """Removes what packing was made from."""
    for name in (_TOKENS, _LEARNED, _PIECES):
        (folder / name).unlink()


def _writer(path: Path, schema: pl.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, pl.DataFrame(schema=schema).to_arrow().schema, compression="zstd")


def _table(rows: pl.DataFrame, schema: pl.Schema) -> "pq.Table":
    return rows.select(schema.names()).cast(dict(schema)).to_arrow()  # type: ignore[arg-type]
