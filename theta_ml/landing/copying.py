"""Rows of conversations and of messages as bytes of COPY's binary format.

Built while a line is checked, so that the thread that talks to Postgres passes on blocks and leaves the interpreter to
the one that reads. Format: PostgreSQL's documentation, COPY, "Binary Format"; numbers are big-endian, each field stands
behind its length in bytes, -1 for null.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
_CONVERSATION = (10).to_bytes(2)
_MESSAGE = (8).to_bytes(2)
_NULL = b"\xff\xff\xff\xff"
NOTHING_MORE = 3 * _NULL
"""(author, rating, created_at) of most messages' rows."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_length = Struct(">i").pack
_float4 = Struct(">if").pack
_int8 = Struct(">iq").pack
_TEXT_TYPE = (25).to_bytes(4)
_EMPTY_ARRAY = bytes(8) + _TEXT_TYPE
_ONE_DIMENSION = (1).to_bytes(4) + bytes(4) + _TEXT_TYPE


def row_start(conversation_id: str) -> bytes:
    """What the rows of all messages of a conversation begin with."""
    return _MESSAGE + _text(conversation_id)


def message_row(start: bytes, position: int, role: str, content: bytes) -> bytes:
    """(conversation_id, position, role, content); `message_more` or NOTHING_MORE follows."""
    return start + _place(position, role) + _length(len(content)) + content


def message_more(author: str | None, rating: float | None, created_at: datetime | None) -> bytes:
    """(author, rating, created_at); `messages_of` adds the rest of a message's row."""
    return _text(author) + _real(rating) + _instant(created_at)


def messages_of(rows: list[bytes], occurred_at: datetime) -> bytes:
    """A conversation's messages, each row ended by when the conversation occurred, known when all of them are read."""
    end = _instant(occurred_at)
    return end.join(rows) + end


def conversation_row(
    conversation_id: str,
    source: str,
    language: str | None,
    topics: list[str],
    user_id: str | None,
    rating: float | None,
    model_version: str | None,
    occurred_at: datetime,
) -> bytes:
    """All in this order, but for what `row_end` adds."""
    texts = (conversation_id, source, language)
    start = _CONVERSATION + b"".join(map(_text, texts)) + _text_array(topics)
    return start + _text(user_id) + _real(rating) + _text(model_version) + _instant(occurred_at)


def row_end(landed_at: datetime, batch_id: int) -> bytes:
    """What the rows of all conversations of a transaction end with."""
    return _instant(landed_at) + _int8(8, batch_id)


@lru_cache(4096)
def _place(position: int, role: str) -> bytes:
    return _length(4) + _length(position) + _text(role)


def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    data = value.encode()
    return _length(len(data)) + data


def _text_array(values: list[str]) -> bytes:
    """As `array_send` writes it: dimensions, whether there are nulls, type; for each dimension its size and start."""
    if not values:
        return _length(12) + _EMPTY_ARRAY
    data = _ONE_DIMENSION + _length(len(values)) + _length(1) + b"".join(map(_text, values))
    return _length(len(data)) + data


def _real(value: float | None) -> bytes:
    return _NULL if value is None else _float4(4, value)


def _instant(value: datetime | None) -> bytes:
    return _NULL if value is None else _int8(8, (value - _EPOCH) // _MICROSECOND)
