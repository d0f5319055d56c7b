"""What goes wrong with a feed: the ways in which a simulated month is damaged."""

import random
from typing import Any

_ERROR_PAGE = (
    "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center>"
    "<hr><center>nginx</center></body></html>"
)
_DEBRIS = ("\ufffd", "\ufffd\ufffd", "Ã¤", "Ã©", "â€™", "Â", "â€œ")


def damaged(rng: random.Random, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation as a broken exporter sends it: every answer of it spoilt in one of three ways."""
    spoil = rng.choice((_error_page, _cut_short, _wrong_encoding))
    return [
        {**message, "content": spoil(rng, message["content"])} if message["role"] == "assistant" else message
        for message in messages
    ]


def torn_line(rng: random.Random, line: str) -> str:
    """A line that broke off, or lost its text: the import rejects it."""
    return line[: len(line) // 2] if rng.random() < 0.5 else line.replace('"role": "user"', '"role": ""', 1)


def _error_page(rng: random.Random, text: str) -> str:
    return _ERROR_PAGE


def _cut_short(rng: random.Random, text: str) -> str:
    return text[: rng.randint(1, 3)]


def _wrong_encoding(rng: random.Random, text: str) -> str:
    """As text that was decoded with the wrong table: debris in place of every third letter or so."""
    return "".join(rng.choice(_DEBRIS) if letter.isalpha() and rng.random() < 0.3 else letter for letter in text)
