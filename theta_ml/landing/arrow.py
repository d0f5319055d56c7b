"""Conversations as Arrow: streamed from Postgres in flat memory, cut into groups, redacted column by column."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.conninfo import make_conninfo

from theta_ml.landing.database import DatabaseUnreachable
from theta_ml.privacy.batch import redact_conversations
from theta_ml.privacy.recogniser import Recogniser

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

GROUP_BYTES = 16 << 20
"""A group is full at so much text, however few its rows."""
_FETCH_BYTES = str(1 << 20)


class Reader:
    """Reads what the transaction of a psycopg connection sees, through a connection of its own."""

    def __init__(self, connection: psycopg.Connection, reader: "adbc.Connection", fetching: ThreadPoolExecutor) -> None:
        self._client = psycopg.ClientCursor(connection)
        self._reader = reader
        self._fetching = fetching

    def stream(self, query: bytes, arguments: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        """The query's rows, a few MB at a time. Raises DatabaseUnreachable."""
        text = self._client.mogrify(query, arguments)  # ADBC streams only queries without parameters
        with _faults(), self._reader.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": _FETCH_BYTES})
            cursor.execute(text)
            yield from _ahead(cursor.fetch_record_batch(), self._fetching)


@contextmanager
def arrow_reader(connection: psycopg.Connection) -> Iterator[Reader]:
    """`connection` is in a transaction of isolation REPEATABLE READ, which stays open. Raises DatabaseUnreachable."""
    import adbc_driver_postgresql.dbapi as adbc  # brings pandas along, which only who reads the landing zone waits for

    with _faults():
        reader = adbc.connect(make_conninfo(connection.info.dsn, password=connection.info.password or None))
    # When a stream is left in its middle, what is being fetched ends before the connection does: else it reads freed
    # memory, and a stage that was told to stop dies of that.
    with reader, ThreadPoolExecutor(1, "fetching") as fetching:
        exported = connection.execute("SELECT pg_export_snapshot()").fetchone()
        with _faults(), reader.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute(psycopg.ClientCursor(connection).mogrify("SET TRANSACTION SNAPSHOT %s", exported))
        yield Reader(connection, reader, fetching)


def _ahead(batches: Iterator[pa.RecordBatch], pool: ThreadPoolExecutor) -> Iterator[pa.RecordBatch]:
    """The next batch is fetched while one is worked on: Postgres and we do not wait for each other."""
    fetching = pool.submit(next, batches, None)
    try:
        while (batch := fetching.result()) is not None:
            fetching = pool.submit(next, batches, None)
            yield batch
    finally:
        wait([fetching])  # the cursor closes next


@contextmanager
def _faults() -> Iterator[None]:
    """ADBC tells a fault of the network no better than one of the query."""
    import adbc_driver_postgresql.dbapi as adbc

    try:
        yield
    except (adbc.Error, pa.ArrowException, OSError) as error:
        raise DatabaseUnreachable(f"the database went away: {' '.join(str(error).split())}") from error


def arrays(group: pa.Table) -> dict[str, pa.Array]:
    """The columns of a table of one chunk."""
    return {name: column.combine_chunks() for name, column in zip(group.column_names, group.columns, strict=True)}


def said_bytes(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """(conversations,): bytes of `contents`, a list of texts."""
    contents = batch.column("contents")
    return _text_bytes(contents.combine_chunks() if isinstance(contents, pa.ChunkedArray) else contents)


def groups(
    batches: Iterator[pa.RecordBatch], most: int, sizes_of: Callable[[pa.RecordBatch], np.ndarray] = said_bytes
) -> Iterator[pa.Table]:
    """The same rows in tables of one chunk, bounded in rows (`most`) and in bytes, which `sizes_of` tells of each row.

    Where a group ends depends on the rows alone, not on how they came.
    """
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        sizes, start = sizes_of(batch), 0
        while start < len(sizes):
            end = _full(sizes, start, most - rows, GROUP_BYTES - size)
            held.append(batch.slice(start, end - start))
            rows, size, start = rows + end - start, size + int(sizes[start:end].sum()), end
            if rows >= most or size >= GROUP_BYTES:
                yield pa.Table.from_batches(held).combine_chunks()
                held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def _full(sizes: np.ndarray, start: int, rows: int, size: int) -> int:
    """Where the group ends that takes `rows` more conversations or the one that reaches `size` more bytes."""
    reached = int(np.searchsorted(np.cumsum(sizes[start : start + rows]), size)) + 1
    return start + min(reached, rows, len(sizes) - start)


def _text_bytes(contents: pa.ListArray) -> np.ndarray:
    """(conversations,): bytes of the texts of each."""
    ends = np.concatenate([[0], np.cumsum(pc.binary_length(contents.flatten()).to_numpy(zero_copy_only=False))])
    lengths = list_lengths(contents)
    borders = np.concatenate([[0], np.cumsum(lengths)])
    return np.diff(ends[borders])


def list_lengths(lists: pa.ListArray) -> np.ndarray:
    """(rows,)"""
    return pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)


def as_lists(parts: pa.StructArray, like: pa.ListArray, kind: pa.ListType) -> pa.ListArray:
    """`parts`, one after another, as lists as long as those of `like`."""
    offsets = np.concatenate([[0], np.cumsum(list_lengths(like))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, parts, kind)


def redact(contents: pa.ListArray, recogniser: Recogniser | None = None) -> tuple[pa.Array, Counter[str]]:
    """All texts one after another (strings), redacted conversation by conversation; and places replaced, by type."""
    lengths = list_lengths(contents)
    texts = pl.Series(pl.from_arrow(contents.flatten()), dtype=pl.String)
    redacted = redact_conversations(texts, np.repeat(np.arange(len(lengths)), lengths), recogniser)
    return redacted.contents.to_arrow().cast(pa.string()), redacted.counts


def as_written(ratings: pa.Array) -> pa.Array:
    """float32 as the float64 that reads the same: 4.3 stays 4.3 where a plain cast makes it 4.300000190734863."""
    return ratings.cast(pa.string()).cast(pa.float64())


def pseudonym_key(connection: psycopg.Connection) -> bytes:
    row = connection.execute("SELECT key FROM pseudonym_key").fetchone()
    assert row is not None
    return bytes(row[0])


def pseudonyms(names: pa.Array, key: bytes) -> pa.Array:
    """Each name's hash under the key, which only the database knows; null stays null."""
    coded = names.dictionary_encode()
    hashes = [
        hashlib.blake2b(name.encode(), key=key, digest_size=16).hexdigest() for name in coded.dictionary.to_pylist()
    ]
    return pa.array(hashes, pa.string()).take(coded.indices)
