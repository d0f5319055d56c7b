"""Some thousands of conversations that land together: compared with what is there, then copied, in one transaction."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import errors

from theta_ml.landing.conversation import Landing
from theta_ml.landing.copying import HEADER, TRAILER, row_end
from theta_ml.landing.locks import share_landing
from theta_ml.landing.months import make_months

MESSAGES = 20_000
BYTES = 8 << 20
"""A chunk is full at this many messages, or this much text: about half a second of work, 40 MB of memory."""
_ATTEMPTS = 20
ERASED = "erased"
"""Why a conversation that was erased is turned away when its feed sends it again."""
DETACHED = "its month is detached"
"""Why one is turned away that the pipeline would not see; when the month is attached again, it lands."""
DROPPED = "its month was dropped"
TURNED_AWAY = (ERASED, DETACHED, DROPPED)
"""What is no fault of the line: nothing of it is kept, and no month is judged by it."""

_STAMP = (
    "SELECT greatest(clock_timestamp(), (SELECT max(landed_at) FROM import_batches) + interval '1 microsecond',"
    " (SELECT max(watermark) FROM snapshots) + interval '1 microsecond')"
)
_KNOWN = "SELECT conversation_id FROM landed_ids WHERE conversation_id = ANY(%s)"
_CLOSED = (
    "SELECT month, CASE WHEN dropped_at IS NULL THEN %s ELSE %s END FROM landing_months"
    " WHERE month = ANY(%s) AND detached_at IS NOT NULL"
)
_ERASED = "SELECT conversation_id FROM erased_conversations WHERE conversation_id = ANY(%s)"
_COUNT = """
UPDATE import_batches SET conversations = conversations + %s, messages = messages + %s,
    duplicates = duplicates + %s, rejected = rejected + %s, turned_away = turned_away + %s,
    landed_at = greatest(landed_at, %s) WHERE batch_id = %s"""


@dataclass(frozen=True)
class _Table:
    copy: LiteralString
    types: list[str]


_CONVERSATIONS: LiteralString = (
    "COPY conversations (conversation_id, source, language, topics, user_id, rating, model_version, occurred_at,"
    " landed_at, batch_id) FROM STDIN (FORMAT binary)"
)
_MESSAGES: LiteralString = (
    "COPY messages (conversation_id, position, role, content, author, rating, created_at, occurred_at)"
    " FROM STDIN (FORMAT binary)"
)
_FEEDBACK = _Table(
    "COPY model_feedback (conversation_id, position, rating, given_at, landed_at) FROM STDIN (FORMAT binary)",
    ["text", "int4", "float4", "timestamptz", "timestamptz"],
)
_REJECTED = _Table(
    "COPY rejected_rows (batch_id, file, line, reason, raw) FROM STDIN (FORMAT binary)",
    ["int8", "text", "int8", "text", "bytea"],
)


class Reject(NamedTuple):
    """A line that cannot land."""

    line: int
    reason: str
    raw: bytes
    """The line as it was, or its beginning."""
    ids: list[str]
    """What may be its id."""


@dataclass
class Chunk:
    """What was read and has not landed yet."""

    landings: dict[str, tuple[int, Landing]] = field(default_factory=dict)
    """By conversation id, with its line: the first of a kind wins."""
    rejected: list[Reject] = field(default_factory=list)
    duplicates: int = 0
    messages: int = 0
    size: int = 0
    """Bytes of the lines held."""

    def add(self, landing: Landing, line: int, size: int) -> None:
        if landing.conversation_id in self.landings:
            self.duplicates += 1
            return
        self.landings[landing.conversation_id] = line, landing
        self.messages += landing.size
        self.size += size

    def reject(self, rejected: Reject) -> None:
        self.rejected.append(rejected)
        self.size += len(rejected.raw)

    def leave(self, ids: Set[str]) -> None:
        """Leaves out what lands with another chunk of the same file, in which it came first."""
        for key in self.landings.keys() & ids:
            self.messages -= self.landings.pop(key)[1].size
            self.duplicates += 1

    @property
    def ids(self) -> list[str]:
        """All that can be read in its lines."""
        return [*self.landings, *(each for rejected in self.rejected for each in rejected.ids)]

    @property
    def months(self) -> list[str]:
        return sorted({landing.month for _, landing in self.landings.values()})

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


class Landed(NamedTuple):
    """What became of a chunk."""

    counts: Counts
    reasons: Counter[str]
    """Why lines were rejected, and how many."""


def land(connection: psycopg.Connection, chunk: Chunk, batch_id: int, file: str) -> Landed:
    """Lands the chunk whole or not at all, durably with the next transaction that waits for the disk.

    `connection` is in autocommit mode.

    Who lands the same conversations at the same time loses the race for an id, and then finds it known.
    """
    for attempt in range(_ATTEMPTS):
        try:
            make_months(connection, chunk.months)
            with connection.transaction():
                return _land(connection, chunk, batch_id, file)
        except (errors.UniqueViolation, errors.DeadlockDetected):
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _land(connection: psycopg.Connection, chunk: Chunk, batch_id: int, file: str) -> Landed:
    with connection.pipeline():
        # Whatever is recorded about these rows later (a watermark, the import's end) reaches the disk after them.
        connection.execute("SET LOCAL synchronous_commit = off")
        share_landing(connection)
        # Later than all that has landed even where the clock was set back: a watermark taken before stays exact.
        stamp = connection.execute(_STAMP)
        known_rows = connection.execute(_KNOWN, [list(chunk.landings)])
        erased_rows = connection.execute(_ERASED, [chunk.ids])
        closed_rows = connection.execute(_CLOSED, [DETACHED, DROPPED, chunk.months])
    landed_at, known, erased = _one(stamp.fetchone()), {row[0] for row in known_rows}, {row[0] for row in erased_rows}
    away = _away(chunk, known, erased, dict(closed_rows.fetchall()))
    rejected = _turned_away(chunk, erased, away)
    # In one order: two imports of the same conversations wait for each other rather than deadlock. Month by month, for
    # then Postgres writes its tables one after the other.
    keys = chunk.landings.keys() - known - away.keys()
    fresh = sorted(
        (chunk.landings[key][1] for key in keys), key=lambda landing: (landing.month, landing.conversation_id)
    )
    end = row_end(landed_at, batch_id)
    _copy_bytes(connection, _CONVERSATIONS, b"".join(landing.conversation + end for landing in fresh))
    _copy_bytes(connection, _MESSAGES, b"".join(landing.messages for landing in fresh))
    _copy(connection, _FEEDBACK, [(*row, landed_at) for landing in fresh for row in landing.feedback])
    _copy(connection, _REJECTED, [(batch_id, file, *each[:3]) for each in rejected])
    messages = sum(landing.size for landing in fresh)
    counts = Counts(len(fresh), messages, chunk.duplicates + len(known), len(rejected))
    reasons = Counter(each.reason.partition(" (")[0] for each in rejected)
    numbers = [counts.conversations, counts.messages, counts.duplicates, counts.rejected]
    turned_away = sum(reasons[reason] for reason in TURNED_AWAY)
    connection.execute(_COUNT, [*numbers, turned_away, landed_at, batch_id])
    return Landed(counts, reasons)


def _away(chunk: Chunk, known: set[str], erased: set[str], closed: dict[str, str]) -> dict[str, str]:
    """Id → why its conversation does not land though its line is sound. `closed`: month → why."""
    away = {
        key: f"{closed[landing.month]} ({landing.month})"
        for key, (_, landing) in (chunk.landings.items() if closed else ())
        if landing.month in closed and key not in known
    }
    return away | dict.fromkeys(chunk.landings.keys() & erased, ERASED)


def _turned_away(chunk: Chunk, erased: set[str], away: dict[str, str]) -> list[Reject]:
    """The rejected lines, and those that are turned away, of which nothing is kept; of erased ones, broken or not."""
    rejected = [
        each if erased.isdisjoint(each.ids) else Reject(each.line, ERASED, b"", each.ids) for each in chunk.rejected
    ]
    return rejected + [Reject(chunk.landings[key][0], why, b"", [key]) for key, why in sorted(away.items())]


def _copy_bytes(connection: psycopg.Connection, table: LiteralString, rows: bytes) -> None:
    if not rows:
        return
    with connection.cursor() as cursor, cursor.copy(table) as copy:
        copy.write(HEADER + rows + TRAILER)


def _copy(connection: psycopg.Connection, table: _Table, rows: Sequence[Sequence[Any]]) -> None:
    if not rows:
        return
    with connection.cursor() as cursor, cursor.copy(table.copy) as copy:
        copy.set_types(table.types)
        for row in rows:
            copy.write_row(row)


def _one(row: tuple[Any, ...] | None) -> Any:
    assert row is not None
    return row[0]
