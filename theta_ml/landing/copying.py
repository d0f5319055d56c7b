"""Rows of the table `messages` as bytes of COPY's binary format.

Built while a line is checked, so that the thread that talks to Postgres passes on blocks and leaves the interpreter to
the one that reads. Format: PostgreSQL's documentation, COPY, "Binary Format"; numbers are big-endian, each field stands
behind its length in bytes, -1 for null.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
_FIELDS = (7).to_bytes(2)
_NULL = b"\xff\xff\xff\xff"
_NOTHING_MORE = 3 * _NULL
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_length = Struct(">i").pack
_integer = Struct(">ii").pack
_real = Struct(">if").pack
_instant = Struct(">iq").pack


def row_start(conversation_id: str) -> bytes:
    """What all rows of a conversation begin with."""
    return _FIELDS + _text(conversation_id.encode())


def message_row(
    start: bytes,
    position: int,
    role: str,
    content: bytes,
    author: str | None,
    rating: float | None,
    created_at: datetime | None,
) -> bytes:
    """(conversation_id, position, role, content, author, rating, created_at); most have nothing after the content."""
    row = start + _place(position, role) + _length(len(content)) + content
    if author is None and rating is None and created_at is None:
        return row + _NOTHING_MORE
    return row + b"".join(
        (
            _NULL if author is None else _text(author.encode()),
            _NULL if rating is None else _real(4, rating),
            _NULL if created_at is None else _instant(8, (created_at - _EPOCH) // _MICROSECOND),
        )
    )


@lru_cache(4096)
def _place(position: int, role: str) -> bytes:
    return _integer(4, position) + _text(role.encode())


def _text(value: bytes) -> bytes:
    return _length(len(value)) + value
