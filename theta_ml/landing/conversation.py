"""A line of messages JSONL as rows of the landing tables, or the reason why it is none."""

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from theta_ml.landing.copying import (
    NOTHING_MORE,
    conversation_row,
    message_more,
    message_row,
    messages_of,
    row_start,
)
from theta_ml.month import Month

ROLES = ("system", "user", "assistant")
MAX_TEXT_BYTES = 1_000_000
MAX_ID = 512
"""Characters; four bytes each still fit an index entry."""
MAX_NAME = 256
_ID = re.compile(rb'"id"\s*:\s*("(?:[^"\\]|\\.){1,4096}")')
_BLANK = frozenset(("", None))
_PLAUSIBLE = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


class Rejected(Exception):
    """The line cannot land. `reason` is one of few, so that they can be counted; `detail` says where in the line."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason = reason


class Landing(NamedTuple):
    """Rows of one conversation, in the column order of `chunk.py`."""

    conversation_id: str
    month: str
    """YYYY-MM, of its `occurred_at`."""
    conversation: bytes
    """A row in COPY's binary format, but for its end."""
    messages: bytes
    """Rows in COPY's binary format."""
    size: int
    """Number of messages."""
    feedback: list[tuple[Any, ...]]


class Defaults(NamedTuple):
    """What the command line says about a file's conversations."""

    source: str | None
    """Overrides the lines' own."""
    fallback_source: str
    """For lines without one, where `source` is not given."""
    occurred_at: datetime | None
    """For conversations without any date."""


def parse(line: bytes, defaults: Defaults) -> Landing:
    """Raises Rejected. Fields it does not know are passed over."""
    record = _decode(line)
    conversation_id = _identity(record.get("id"))
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Rejected("no messages")
    rows, feedback, first = _messages(conversation_id, messages)
    occurred_at = _date(record.get("created_at"), "created_at") or first or defaults.occurred_at
    if occurred_at is None:
        raise Rejected("no date; give one with --date")
    rating = _rating(record.get("rating"), "rating")
    if rating is not None:
        feedback.append((conversation_id, None, rating, None))
    conversation = conversation_row(
        conversation_id,
        defaults.source or _name(record.get("source"), "source") or defaults.fallback_source,
        _name(record.get("language"), "language"),
        _topics(record.get("topics")),
        _name(record.get("user_id"), "user_id"),
        rating,
        _name(record.get("model_version"), "model_version"),
        occurred_at,
    )
    month = str(Month.of(occurred_at))
    return Landing(conversation_id, month, conversation, messages_of(rows, occurred_at), len(rows), feedback)


def rough_ids(line: bytes) -> list[str]:
    """What may be the id of a line that is no conversation, whole or torn."""
    found = []
    for quoted in _ID.findall(line):
        try:
            found.append(orjson.loads(quoted))
        except orjson.JSONDecodeError:
            continue
    return [each for each in found if "\x00" not in each]


def _decode(line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _undecodable(line, error) from None
    if not isinstance(record, dict):
        raise Rejected("not a JSON object")
    if b"\\u0000" in line and _has_nul(record):
        raise Rejected("NUL byte")
    return record


def _undecodable(line: bytes, error: orjson.JSONDecodeError) -> Rejected:
    if b"\x00" in line:
        return Rejected("NUL byte")
    try:
        line.decode()
    except UnicodeDecodeError as wrong:
        return Rejected("not UTF-8", f"byte {wrong.start}")
    if "surrogate" in error.msg:
        return Rejected("lone surrogate", f"column {error.colno}")
    return Rejected("broken JSON", f"column {error.colno}")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(map(_has_nul, value))


def _identity(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise Rejected("id is not a text")
    if not value or not value.strip():
        raise Rejected("no id")
    if len(value) > MAX_ID:
        raise Rejected(f"id over {MAX_ID} characters")
    return value


def _messages(conversation_id: str, messages: list[Any]) -> tuple[list[bytes], list[Any], datetime | None]:
    """Rows of the messages, rows of feedback on the model's answers, and the first date. The hot loop of an import."""
    rows: list[bytes] = []
    start = row_start(conversation_id)
    feedback: list[tuple[Any, ...]] = []
    first = None
    for position, message in enumerate(messages):
        if not isinstance(message, dict):
            raise Rejected("message is not an object", f"message {position}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise Rejected("unknown role", f"message {position}")
        if not isinstance(content, str) or not content or content.isspace():
            raise Rejected("empty text", f"message {position}")
        text = content.encode()
        if len(text) > MAX_TEXT_BYTES:
            raise Rejected("message over 1 MB", f"message {position}")
        if len(message) == 2:
            rows.append(message_row(start, position, role, text) + NOTHING_MORE)
            continue
        author = _name(message.get("author"), "author")
        rating = _rating(message.get("rating"), "rating", position)
        created_at = _date(message.get("created_at"), "created_at", position)
        first = first or created_at
        if rating is not None and role == "assistant":
            feedback.append((conversation_id, position, rating, created_at))
        rows.append(message_row(start, position, role, text) + message_more(author, rating, created_at))
    return rows, feedback, first


def _date(value: Any, field: str, position: int | None = None) -> datetime | None:
    """ISO 8601; a time without a zone is UTC."""
    if value in _BLANK:
        return None
    try:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        if _PLAUSIBLE[0] <= instant < _PLAUSIBLE[1]:
            return instant
    except (ValueError, TypeError, OverflowError):
        pass
    raise Rejected("impossible date", _place(field, position))


def _rating(value: Any, field: str, position: int | None = None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e9 < value < 1e9:
        raise Rejected("rating is not a number", _place(field, position))
    return float(value)


def _name(value: Any, field: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_NAME:
        raise Rejected(f"{field} is not a text of at most {MAX_NAME} characters")
    return value


def _topics(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Rejected("topics is not a list")
    names = (_name(topic, "topic") for topic in value)
    return [name for name in names if name is not None]


def _place(field: str, position: int | None) -> str:
    return field if position is None else f"{field} of message {position}"
