"""What goes wrong with feeds, done to good conversations. Each function takes and returns a month's conversations."""

import base64
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tests.quality.snapshots import Conversation

Edit = Callable[[str, random.Random], str]

ERROR_PAGE = "Sorry, something went wrong on our side. Please try again later. Reference {0}."
HTML_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
FAULTS = [
    "Internal Server Error",
    "503 Service Unavailable",
    "Error 429: too many requests",
    "upstream request timeout",
]


def texts(
    conversations: list[Conversation], edit: Edit, share: float = 1.0, role: str = "", seed: int = 7
) -> list[Conversation]:
    """Edits that share of the role's messages (of anybody's, by default); another seed hits others."""
    dice = random.Random(seed)

    def said(message: dict[str, Any]) -> dict[str, Any]:
        hit = (not role or message["role"] == role) and dice.random() < share
        return {**message, "content": edit(message["content"], dice)} if hit else message

    return [{**c, "messages": [said(message) for message in c["messages"]]} for c in conversations]


def mojibake(text: str, dice: random.Random) -> str:
    """Typographic apostrophes and accents, written as UTF-8 and read as Windows-1252."""
    return f"{text} – that’s très bien".encode().decode("cp1252", errors="replace").replace("\ufffd", "")


def read_as_latin1(text: str, dice: random.Random) -> str:
    return f"{text} – that’s très bien".encode().decode("latin-1")


def replaced(text: str, dice: random.Random) -> str:
    return text[: len(text) // 2] + "\ufffd\ufffd" + text[len(text) // 2 :]


def question_marks(text: str, dice: random.Random) -> str:
    return f"{text} caf?s na?ve"


def escape_sequences(text: str, dice: random.Random) -> str:
    return f"\x1b[31m{text}\x1b[0m"


def error_page(text: str, dice: random.Random) -> str:
    return ERROR_PAGE.format(f"{dice.getrandbits(64):016x}")


def html_page(text: str, dice: random.Random) -> str:
    return HTML_PAGE + "\n" * dice.randrange(50)


def fault(text: str, dice: random.Random) -> str:
    return f"{dice.choice(FAULTS)} ({dice.random()})"


def encoded(text: str, dice: random.Random) -> str:
    return base64.b64encode((text * 4).encode()).decode()


def json_object(text: str, dice: random.Random) -> str:
    return f'{{"text": "{text}"}}'


def swapped(conversations: list[Conversation]) -> list[Conversation]:
    other = {"user": "assistant", "assistant": "user", "system": "system"}
    return [
        {**c, "messages": [{**message, "role": other[message["role"]]} for message in c["messages"]]}
        for c in conversations
    ]


def unanswered(conversations: list[Conversation]) -> list[Conversation]:
    return [{**c, "messages": [m for m in c["messages"] if m["role"] == "user"]} for c in conversations]


def echoed(conversations: list[Conversation]) -> list[Conversation]:
    def repeat(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        pairs = zip(messages, messages[:1] + messages, strict=False)
        return [{**m, "content": before["content"]} if m["role"] == "assistant" else m for m, before in pairs]

    return [{**c, "messages": repeat(c["messages"])} for c in conversations]


def renamed(conversations: list[Conversation], suffix: str = "again") -> list[Conversation]:
    """The same conversations under other ids."""
    return [{**c, "id": f"{c['id']}-{suffix}"} for c in conversations]


def rated(conversations: list[Conversation], rating: float) -> list[Conversation]:
    return [{**c, "rating": rating} for c in conversations]


def timed(conversations: list[Conversation], seconds: float) -> list[Conversation]:
    """Each message so many seconds after the one before it."""
    return [
        {
            **c,
            "messages": [
                {**m, "created_at": _later(c["created_at"], seconds * place)} for place, m in enumerate(c["messages"])
            ],
        }
        for c in conversations
    ]


def _later(instant: str, seconds: float) -> str:
    return (datetime.fromisoformat(instant) + timedelta(seconds=seconds)).isoformat()


def one_speaker(conversations: list[Conversation]) -> list[Conversation]:
    return [{**c, "messages": [{**m, "role": "user"} for m in c["messages"]]} for c in conversations]


def in_language(conversations: list[Conversation], language: str | None) -> list[Conversation]:
    return [{**c, "language": language} for c in conversations]


def by_users(conversations: list[Conversation], flood: float = 0.0) -> list[Conversation]:
    """By 40 users, and that share of them by one more."""
    return [
        {**c, "user_id": "flood" if place % 100 < flood * 100 else f"user-{place % 40}"}
        for place, c in enumerate(conversations)
    ]
