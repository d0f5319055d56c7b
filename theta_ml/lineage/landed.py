"""What the landing zone holds of a conversation, and its removal: from detached months too."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from psycopg import sql

from theta_ml.landing.locks import months_lock
from theta_ml.landing.months import one, tables

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_BY_MONTH = ("conversations", "messages")
_BLANKED = "UPDATE rejected_rows SET raw = '' WHERE rejected_id = ANY(%s)"


@dataclass(frozen=True)
class Rows:
    """Of the landing tables."""

    conversations: int = 0
    messages: int = 0
    feedback: int = 0
    rejected: int = 0
    """Lines that could not land and are kept as they were."""


def count(connection: psycopg.Connection, ids: frozenset[str], names: frozenset[str]) -> Rows:
    """`names` are what a rejected line would be known by: the ids, and a user's name."""
    with months_lock(connection):
        return _count(connection, ids, names)


def _count(connection: psycopg.Connection, ids: frozenset[str], names: frozenset[str]) -> Rows:
    conversations, messages = (_rows(connection, tables(connection, kind), ids) for kind in _BY_MONTH)
    feedback = _rows(connection, [sql.Identifier("model_feedback")], ids)
    return Rows(conversations, messages, feedback, len(list(_rejected(connection, names))))


def remove(connection: psycopg.Connection, ids: frozenset[str], names: frozenset[str]) -> Rows:
    """Removes the rows, and what is kept of rejected lines: that a line was rejected, and why, stays."""
    with months_lock(connection), connection.transaction():
        found = _count(connection, ids, names)
        for table in [*tables(connection, "conversations"), sql.Identifier("landed_ids")]:
            connection.execute(sql.SQL("DELETE FROM {} WHERE conversation_id = ANY(%s)").format(table), [list(ids)])
        connection.execute(_BLANKED, [list(_rejected(connection, names))])
    return found


def vacuum(connection: psycopg.Connection) -> None:
    """Lets Postgres write over the removed rows; until then they lie in its files. `connection` is in autocommit."""
    with months_lock(connection):
        by_month = [table for kind in _BY_MONTH for table in tables(connection, kind)]
        others = [sql.Identifier(name) for name in ("landed_ids", "model_feedback", "rejected_rows", "quarantine")]
        connection.execute(sql.SQL("VACUUM {}").format(sql.SQL(", ").join([*by_month, *others])))


def landing_of(connection: psycopg.Connection, conversation_id: str) -> dict[str, Any] | None:
    """When, whence and how much of it landed; None where the landing zone does not hold it."""
    with months_lock(connection):
        for table in tables(connection, "conversations"):
            found = _landing_in(connection, table, conversation_id)
            if found:
                return found | {"messages": _messages(connection, conversation_id)}
    return None


def _landing_in(connection: psycopg.Connection, table: sql.Identifier, conversation_id: str) -> dict[str, Any] | None:
    query = sql.SQL(
        "SELECT found.source, occurred_at, found.landed_at, batch_id, file FROM {} AS found"
        " LEFT JOIN import_batches USING (batch_id) WHERE conversation_id = %s"
    )
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(query.format(table), [conversation_id]).fetchone()


def _messages(connection: psycopg.Connection, conversation_id: str) -> int:
    return _rows(connection, tables(connection, "messages"), frozenset([conversation_id]))


def _rows(connection: psycopg.Connection, places: list[sql.Identifier], ids: frozenset[str]) -> int:
    counted = sql.SQL("SELECT count(*) FROM {} WHERE conversation_id = ANY(%s)")
    return sum(one(connection, counted.format(table), [list(ids)]) for table in places)


def _rejected(connection: psycopg.Connection, names: Collection[str]) -> Iterator[int]:
    """Ids of the kept lines that hold one of `names` as a string. Read as a stream: there may be gigabytes."""
    with connection.transaction(), connection.cursor("rejected") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT rejected_id, raw FROM rejected_rows WHERE length(raw) > 0")
        for rejected_id, raw in cursor:
            if any(_text(match[0]) in names for match in _STRING.finditer(raw)):
                yield rejected_id


def _text(quoted: bytes) -> str:
    try:
        return str(orjson.loads(quoted))
    except orjson.JSONDecodeError:  # a broken line is why it was rejected
        return quoted[1:-1].decode(errors="replace")
