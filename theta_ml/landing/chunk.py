"""Some thousands of conversations that land together: compared with what is there, then copied, in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import errors

from theta_ml.landing.conversation import Landing
from theta_ml.landing.locks import share_landing

MESSAGES = 20_000
BYTES = 8 << 20
"""A chunk is full at this many messages, or this much text: about half a second of work, 40 MB of memory."""
_ATTEMPTS = 20

_STAMP = "SELECT greatest(clock_timestamp(), max(landed_at) + interval '1 microsecond') FROM conversations"
_KNOWN = "SELECT conversation_id FROM conversations WHERE conversation_id = ANY(%s)"
_COUNT = """
UPDATE import_batches SET conversations = conversations + %s, messages = messages + %s,
    duplicates = duplicates + %s, rejected = rejected + %s WHERE batch_id = %s"""


@dataclass(frozen=True)
class _Table:
    copy: LiteralString
    types: list[str]


_CONVERSATIONS = _Table(
    "COPY conversations (conversation_id, source, language, topics, user_id, rating, model_version, occurred_at,"
    " landed_at, batch_id) FROM STDIN (FORMAT binary)",
    ["text", "text", "text", "text[]", "text", "float4", "text", "timestamptz", "timestamptz", "int8"],
)
_MESSAGES = _Table(
    "COPY messages (conversation_id, position, role, content, author, rating, created_at) FROM STDIN (FORMAT binary)",
    ["text", "int4", "text", "text", "text", "float4", "timestamptz"],
)
_FEEDBACK = _Table(
    "COPY model_feedback (conversation_id, position, rating, given_at, landed_at) FROM STDIN (FORMAT binary)",
    ["text", "int4", "float4", "timestamptz", "timestamptz"],
)
_REJECTED = _Table(
    "COPY rejected_rows (batch_id, file, line, reason, raw) FROM STDIN (FORMAT binary)",
    ["int8", "text", "int8", "text", "bytea"],
)


@dataclass
class Chunk:
    """What was read and has not landed yet."""

    landings: dict[str, Landing] = field(default_factory=dict)
    """By conversation id: the first of a kind wins."""
    rejected: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Line, reason, and the line as it was."""
    duplicates: int = 0
    messages: int = 0
    size: int = 0
    """Bytes of the lines held."""

    def add(self, landing: Landing, size: int) -> None:
        if landing.conversation_id in self.landings:
            self.duplicates += 1
            return
        self.landings[landing.conversation_id] = landing
        self.messages += len(landing.messages)
        self.size += size

    def reject(self, line: int, reason: str, raw: bytes) -> None:
        self.rejected.append((line, reason, raw))
        self.size += len(raw)

    @property
    def full(self) -> bool:
        return self.messages >= MESSAGES or self.size >= BYTES or len(self.rejected) >= MESSAGES


@dataclass
class Counts:
    """What landed: of one chunk, or of a file."""

    conversations: int = 0
    messages: int = 0
    duplicates: int = 0
    rejected: int = 0

    def add(self, other: "Counts") -> None:
        self.conversations += other.conversations
        self.messages += other.messages
        self.duplicates += other.duplicates
        self.rejected += other.rejected


def land(connection: psycopg.Connection, chunk: Chunk, batch_id: int, file: str) -> Counts:
    """Lands the chunk whole or not at all. `connection` is in autocommit mode.

    Who lands the same conversations at the same time loses the race for an id, and then finds it known.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with connection.transaction():
                return _land(connection, chunk, batch_id, file)
        except (errors.UniqueViolation, errors.DeadlockDetected):
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _land(connection: psycopg.Connection, chunk: Chunk, batch_id: int, file: str) -> Counts:
    share_landing(connection)
    # Later than all that has landed even where the clock was set back: a watermark taken before stays exact.
    stamp = _one(connection.execute(_STAMP).fetchone())
    known = {row[0] for row in connection.execute(_KNOWN, [list(chunk.landings)])}
    # In the order of ids: two imports of the same conversations wait for each other rather than deadlock.
    fresh = [chunk.landings[key] for key in sorted(chunk.landings.keys() - known)]
    _copy(connection, _CONVERSATIONS, ((*landing.conversation, stamp, batch_id) for landing in fresh))
    _copy(connection, _MESSAGES, (row for landing in fresh for row in landing.messages))
    _copy(connection, _FEEDBACK, ((*row, stamp) for landing in fresh for row in landing.feedback))
    _copy(connection, _REJECTED, ((batch_id, file, *row) for row in chunk.rejected))
    messages = sum(len(landing.messages) for landing in fresh)
    counts = Counts(len(fresh), messages, chunk.duplicates + len(known), len(chunk.rejected))
    connection.execute(_COUNT, [counts.conversations, counts.messages, counts.duplicates, counts.rejected, batch_id])
    return counts


def _copy(connection: psycopg.Connection, table: _Table, rows: Iterable[Sequence[Any]]) -> None:
    with connection.cursor() as cursor, cursor.copy(table.copy) as copy:
        copy.set_types(table.types)
        for row in rows:
            copy.write_row(row)


def _one(row: tuple[Any, ...] | None) -> Any:
    assert row is not None
    return row[0]
