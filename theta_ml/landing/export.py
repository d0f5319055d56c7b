"""Conversations out of the landing zone, as the messages JSONL that an import takes back."""

from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import NamedTuple

import polars as pl
import psycopg
import pyarrow as pa

from theta_ml.landing.arrow import arrays, arrow_reader, as_lists, as_written, groups, pseudonym_key, pseudonyms, redact
from theta_ml.landing.database import query
from theta_ml.month import Month
from theta_ml.privacy.recogniser import Recogniser

_INSTANT = "%Y-%m-%dT%H:%M:%S%.6fZ"
_PIECE = 1000
"""Conversations written at a time: few, so that the first are written soon."""
_COUNT = "SELECT count(*) FROM conversations WHERE occurred_at >= %(start)s AND occurred_at < %(end)s"


class Span(NamedTuple):
    """From `start` until before `end`."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, first: str | None, last: str | None) -> "Span":
        """From the month `first` through the month `last`; None leaves that side open."""
        start = Month.parse(first).start if first else datetime(1, 1, 1, tzinfo=UTC)
        return cls(start, Month.parse(last).end if last else datetime(9999, 1, 1, tzinfo=UTC))


class Piece(NamedTuple):
    """Some thousands of conversations."""

    lines: bytes
    conversations: int
    messages: int


def count(connection: psycopg.Connection, span: Span) -> int:
    """Conversations of the span; an export in the same transaction gives as many."""
    row = connection.execute(_COUNT, span._asdict()).fetchone()
    assert row is not None
    return int(row[0])


def export_pieces(
    connection: psycopg.Connection, span: Span, raw: bool = False, recogniser: Recogniser | None = None
) -> Iterator[Piece]:
    """The span's conversations, oldest first, redacted and under pseudonyms unless `raw`.

    `connection` is in a transaction of isolation REPEATABLE READ. Raises DatabaseUnreachable.
    """
    key = None if raw else pseudonym_key(connection)
    with arrow_reader(connection) as reader:
        for group in groups(reader.stream(query("export"), span._asdict()), _PIECE):
            yield _piece(arrays(group), key, recogniser)


def _piece(rows: dict[str, pa.Array], key: bytes | None, recogniser: Recogniser | None) -> Piece:
    messages = _messages(rows, key, recogniser)
    conversations = {
        "id": rows["conversation_id"],
        "source": rows["source"],
        "language": rows["language"],
        "topics": rows["topics"],
        "user_id": _hidden(rows["user_id"], key),
        "rating": as_written(rows["rating"]),
        "model_version": rows["model_version"],
        "created_at": _written(rows["occurred_at"]),
        "messages": as_lists(messages, rows["contents"], pa.list_(messages.type)),
    }
    frame = pl.DataFrame(pl.from_arrow(pa.table(_present(conversations))))
    lines = BytesIO()
    frame.write_ndjson(lines)
    return Piece(lines.getvalue(), len(frame), len(messages))


def _messages(rows: dict[str, pa.Array], key: bytes | None, recogniser: Recogniser | None) -> pa.StructArray:
    texts = rows["contents"]
    columns = {
        "role": rows["roles"].flatten(),
        "content": texts.flatten() if key is None else redact(texts, recogniser)[0],
        "author": _hidden(rows["authors"].flatten(), key),
        "rating": as_written(rows["ratings"].flatten()),
        "created_at": _written(rows["created_ats"].flatten()),
    }
    present = _present(columns)
    return pa.StructArray.from_arrays(list(present.values()), list(present))


def _present(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Without the fields that none of the rows has."""
    return {name: column for name, column in columns.items() if not len(column) or column.null_count < len(column)}


def _hidden(names: pa.Array, key: bytes | None) -> pa.Array:
    return names if key is None else pseudonyms(names, key)


def _written(instants: pa.Array) -> pa.Array:
    return pl.Series(pl.from_arrow(instants)).dt.strftime(_INSTANT).to_arrow()
