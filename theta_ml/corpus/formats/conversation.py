"""One conversation as a row of a file gives it, and the reasons why a row gives none."""

from typing import Any, NamedTuple

MAX_TEXT_BYTES = 1_000_000
MAX_CONVERSATION_BYTES = 10_000_000
MAX_ID = 400
"""Characters."""

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
"""What the formats call the three roles; a tool's or a function's turns are none of them."""


class Rejected(Exception):
    """A row that gives no conversation. `reason` is one of few, so that they can be counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Turn(NamedTuple):
    role: str
    content: str
    rating: float | None = None


class Conversation(NamedTuple):
    id: str | None
    """The row's own."""
    turns: list[Turn]
    language: str | None = None
    user_id: str | None = None
    rating: float | None = None


class Row(NamedTuple):
    """What stands at a place of a file."""

    line: int
    """From 1; of a Parquet file or a hub set, the row's number."""
    found: Conversation | Rejected


def turn(role: Any, content: Any, rating: Any = None) -> Turn:
    """Raises Rejected."""
    known = ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
        if known is None:
            raise Rejected("unknown role")
    if not isinstance(content, str):
        content = _parts(content)
    if not content or content.isspace():
        raise Rejected("empty text")
    if "\x00" in content:
        raise Rejected("NUL byte")
    if len(content) > MAX_TEXT_BYTES // 4 and len(content.encode(errors="replace")) > MAX_TEXT_BYTES:
        raise Rejected("message over 1 MB")
    return Turn(known, content, number(rating) if rating is not None else None)


def _parts(content: Any) -> str:
    """OpenAI's list of parts, where all of them are text."""
    if content is None:
        return ""
    if not isinstance(content, list):
        raise Rejected("text is not a string")
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    if not all(isinstance(text, str) for text in texts):
        raise Rejected("message holds more than text")
    return "\n".join(map(str, texts))


def number(value: Any) -> float | None:
    """Raises Rejected where it is none. Tables write numbers as text."""
    if value is None or value == "":
        return None
    try:
        found = None if isinstance(value, bool | list | dict) else float(value)
    except ValueError:
        found = None
    if found is None or not -1e9 < found < 1e9:
        raise Rejected("rating is not a number")
    return found


def identity(value: Any) -> str | None:
    """The row's own id as text. Raises Rejected."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Rejected("id is neither a text nor a whole number")
    text = str(value)
    if len(text) > MAX_ID:
        raise Rejected(f"id over {MAX_ID} characters")
    if "\x00" in text or not text.strip():
        raise Rejected("NUL byte" if "\x00" in text else "blank id")
    return text


def name(value: Any) -> str | None:
    """A short text such as a language, or None where there is none of use."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if 0 < len(text) <= 256 else None
