"""Cleaning can bring personal data to light (`me&#64;example.org`): what it changed is redacted once more."""

import re
from collections import Counter

import polars as pl

from theta_ml.privacy.redaction import Redactor

_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z_]*)_(\d+)\]")
# A code point that is no character, which no cleaned text holds: keeps old placeholders apart from new ones.
_OLD = "\ufdd0"
_OLD_PLACEHOLDER = re.compile(rf"\[([A-Z][A-Z_]*){_OLD}(\d+)\]")


def redacted_again(messages: pl.DataFrame, changed: pl.Series) -> pl.Series:
    """The contents of all messages, those at the rows `changed` redacted, one conversation after another.

    A value found now gets a number that its kind has not had in the conversation.
    """
    contents = messages["content"]
    rows, texts = [], []
    for (conversation,), part in (
        messages.select("conversation", "content").with_row_index("row")[changed].group_by("conversation")
    ):
        found = _found(part)
        if found:
            taken = _highest(messages.filter(pl.col("conversation") == conversation)["content"])
            rows += list(found)
            texts += [_numbered(text, taken) for text in found.values()]
    return contents.scatter(rows, texts) if rows else contents


def _found(part: pl.DataFrame) -> dict[int, str]:
    """Row → text in which something was redacted; what was a placeholder before is marked as old."""
    redactor = Redactor()
    found = {}
    for row, text in part.select("row", "content").iter_rows():
        marked = _PLACEHOLDER.sub(rf"[\1{_OLD}\2]", text)
        redacted = redactor.redact(marked)
        if redacted != marked:
            found[row] = redacted
    return found


def _highest(texts: pl.Series) -> Counter[str]:
    """The highest number of each kind of placeholder."""
    highest: Counter[str] = Counter()
    for text in texts.filter(texts.str.contains(r"\[[A-Z][A-Z_]*_[0-9]+\]")):
        for kind, number in _PLACEHOLDER.findall(text):
            highest[kind] = max(highest[kind], int(number))
    return highest


def _numbered(text: str, taken: Counter[str]) -> str:
    text = _PLACEHOLDER.sub(lambda match: f"[{match[1]}_{int(match[2]) + taken[match[1]]}]", text)
    return _OLD_PLACEHOLDER.sub(r"[\1_\2]", text)
