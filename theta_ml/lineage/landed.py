"""What the landing zone holds of a conversation, and its removal."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
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
    row = connection.execute(
        "SELECT (SELECT count(*) FROM conversations WHERE conversation_id = ANY(%(ids)s)),"
        " (SELECT count(*) FROM messages WHERE conversation_id = ANY(%(ids)s)),"
        " (SELECT count(*) FROM model_feedback WHERE conversation_id = ANY(%(ids)s))",
        {"ids": list(ids)},
    ).fetchone()
    assert row is not None
    conversations, messages, feedback = row
    return Rows(conversations, messages, feedback, len(list(_rejected(connection, names))))


def remove(connection: psycopg.Connection, ids: frozenset[str], names: frozenset[str]) -> Rows:
    """Removes the rows, and what is kept of rejected lines: that a line was rejected, and why, stays."""
    with connection.transaction():
        found = count(connection, ids, names)
        connection.execute("DELETE FROM conversations WHERE conversation_id = ANY(%s)", [list(ids)])
        connection.execute(_BLANKED, [list(_rejected(connection, names))])
    return found


def vacuum(connection: psycopg.Connection) -> None:
    """Lets Postgres write over the removed rows; until then they lie in its files. `connection` is in autocommit."""
    connection.execute("VACUUM conversations, messages, model_feedback, rejected_rows, quarantine")


def landing_of(connection: psycopg.Connection, conversation_id: str) -> dict[str, Any] | None:
    """When, whence and how much of it landed; None where the landing zone does not hold it."""
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(
            "SELECT c.source, occurred_at, landed_at, batch_id, file,"
            " (SELECT count(*) FROM messages AS m WHERE m.conversation_id = c.conversation_id) AS messages"
            " FROM conversations AS c LEFT JOIN import_batches USING (batch_id) WHERE conversation_id = %s",
            [conversation_id],
        ).fetchone()


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
