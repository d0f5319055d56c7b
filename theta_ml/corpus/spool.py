"""A unit's conversations, cleaned and encoded, on disk and not yet packed: what is a copy is known at the end.

Everything of the size of the text goes to files; what stays in memory is a few numbers a piece. A spool may be made in
parts, on several machines: these are copied together, in the order in which one machine would have written them.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from theta_ml.corpus.arrays import GrowingArray, Tokens, open_array, release
from theta_ml.corpus.cutting import Pieces
from theta_ml.corpus.minhash import PERMUTATIONS, Marks

CONVERSATIONS, REJECTED = "conversations.parquet", "rejected.parquet"
SIGNATURES, FINGERPRINTS = "signatures.npy", "fingerprints.npy"
_TOKENS, _LEARNED, _PIECES = "spool-tokens.npy", "spool-learned.npy", "spool-pieces.npy"
_BENCHMARK, _PARTS = "spool-benchmark.npy", "spool-parts.npy"
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
_PART = np.dtype([("part", "<u4"), ("conversations", "<u4"), ("described", "<u4"), ("rejected", "<u4"),
                  ("benchmark", "<u4"), ("pieces", "<i8"), ("tokens", "<i8")])  # fmt: skip
"""A part's number and where it ends: conversations, row groups of both tables, and lengths of the arrays."""


class Spool:
    """Written a batch at a time; all but the spooled pieces stays."""

    def __init__(self, folder: Path, token_type: type[np.unsignedinteger[Any]] = np.uint16) -> None:
        self.folder, self.conversations = folder, 0
        self._tokens = GrowingArray(folder / _TOKENS, token_type)
        self._learned = GrowingArray(folder / _LEARNED, np.bool_)
        self._pieces = GrowingArray(folder / _PIECES, _PIECE)
        self._signatures = GrowingArray(folder / SIGNATURES, np.uint32, (PERMUTATIONS,))
        self._fingerprints = GrowingArray(folder / FINGERPRINTS, np.uint64, (2,))
        self._benchmark = GrowingArray(folder / _BENCHMARK, np.uint32)
        self._parts = GrowingArray(folder / _PARTS, _PART)
        self._described = _Table(folder / CONVERSATIONS, CONVERSATION_COLUMNS)
        self._rejected = _Table(folder / REJECTED, _REJECTED_COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        arrays = self._tokens, self._learned, self._pieces, self._signatures, self._fingerprints, self._benchmark
        for file in (*arrays, self._parts, self._described, self._rejected):
            file.close()

    def reject(self, rejected: pl.DataFrame) -> None:
        """Rows of conversation_id and reason."""
        self._rejected.write(rejected)

    def add(self, described: pl.DataFrame, pieces: Pieces, marks: Marks, benchmark: NDArray[np.bool_]) -> None:
        """A batch: rows of CONVERSATION_COLUMNS, but for the tokens; `pieces` of its train and validation ones;
        `benchmark` (conversations,): those that hold a benchmark's item."""
        count = len(described)
        spooled = np.zeros(len(pieces.conversation), _PIECE)
        spooled["start"], spooled["length"] = pieces.starts[:-1] + self._tokens.rows, pieces.lengths
        spooled["learned"], spooled["conversation"] = pieces.loss_tokens, pieces.conversation + self.conversations
        self._tokens.append(pieces.tokens)
        self._learned.append(pieces.learned)
        self._pieces.append(spooled)
        self._signatures.append(marks.signatures)
        self._fingerprints.append(marks.fingerprints)
        self._benchmark.append(np.flatnonzero(benchmark) + self.conversations)
        described = described.with_columns(
            tokens=pl.Series(np.bincount(pieces.conversation, pieces.lengths, count)),
            loss_tokens=pl.Series(np.bincount(pieces.conversation, pieces.loss_tokens, count)),
        )
        self._described.write(described)
        self.conversations += count

    def end_part(self, part: int) -> None:
        """What was written since the last end is this part of the source."""
        tables = self.conversations, self._described.groups, self._rejected.groups
        arrays = self._benchmark.rows, self._pieces.rows, self._tokens.rows
        self._parts.append(np.array([(part, *tables, *arrays)], _PART))

    def copy(self, part: "SpooledPart") -> None:
        """Writes what another spool holds of a part."""
        of, begin, end = part.spool, part.begin, part.end
        further = self.conversations - int(begin["conversations"])
        pieces = of.pieces[begin["pieces"] : end["pieces"]].copy()
        pieces["start"] += self._tokens.rows - int(begin["tokens"])
        pieces["conversation"] = pieces["conversation"].astype(np.int64) + further
        self._pieces.append(pieces)
        self._benchmark.append(of.benchmark[begin["benchmark"] : end["benchmark"]].astype(np.int64) + further)
        for array, copied, name in (
            (of.tokens, self._tokens, "tokens"),
            (of.learned, self._learned, "tokens"),
            (of.signatures, self._signatures, "conversations"),
            (of.fingerprints, self._fingerprints, "conversations"),
        ):
            copied.append(array[begin[name] : end[name]])
            release(array)
        for group in range(begin["described"], end["described"]):
            self._described.write_again(of.described.read_row_group(group))
        for group in range(begin["rejected"], end["rejected"]):
            self._rejected.write_again(of.rejected.read_row_group(group))
        self.conversations += int(end["conversations"]) - int(begin["conversations"])


class _Table:
    """A Parquet file, a row group for each table that is not empty."""

    def __init__(self, path: Path, schema: pl.Schema) -> None:
        self._schema, self.groups = schema, 0
        self._writer = pq.ParquetWriter(path, pl.DataFrame(schema=schema).to_arrow().schema, compression="zstd")

    def write(self, rows: pl.DataFrame) -> None:
        self.write_again(rows.select(self._schema.names()).cast(dict(self._schema)).to_arrow())  # type: ignore[arg-type]

    def write_again(self, table: pa.Table) -> None:
        """A row group of another such file."""
        if len(table):
            self._writer.write_table(table)
            self.groups += 1

    def close(self) -> None:
        self._writer.close()


class OpenSpool:
    """A spool that was made in parts."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where there is none."""
        files = _TOKENS, _LEARNED, _PIECES, SIGNATURES, FINGERPRINTS, _BENCHMARK
        self.tokens, self.learned, self.pieces, self.signatures, self.fingerprints, self.benchmark = (
            open_array(folder / file) for file in files
        )
        self.described, self.rejected = pq.ParquetFile(folder / CONVERSATIONS), pq.ParquetFile(folder / REJECTED)
        ends = np.load(folder / _PARTS)
        begins = np.concatenate([np.zeros(1, _PART), ends])
        self.parts = {
            int(end["part"]): SpooledPart(self, begin, end) for begin, end in zip(begins[:-1], ends, strict=True)
        }
        """By their numbers."""


class SpooledPart(NamedTuple):
    """A part of a source, cleaned and encoded."""

    spool: OpenSpool
    begin: np.void
    end: np.void
    """Of _PART: where it begins and ends in the spool."""


def held_benchmark(folder: Path) -> NDArray[np.uint32]:
    """Numbers of the conversations that hold a benchmark's item."""
    return open_array(folder / _BENCHMARK)


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
    for name in (_TOKENS, _LEARNED, _PIECES, _BENCHMARK, _PARTS):
        (folder / name).unlink()
