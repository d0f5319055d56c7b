"""Cleaning can bring personal data to light (`me&#64;example.org`): what it changed is redacted once more."""

import re
from collections import Counter, defaultdict

import polars as pl

from theta_ml.corpus.cleaning.rows import put
from theta_ml.privacy.redaction import Redactor

_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z_]*)_(\d{1,9})\]")
# A code point that is no character, which no cleaned text holds: keeps old placeholders apart from new ones.
_OLD = "\ufdd0"


def redacted_again(messages: pl.DataFrame, changed: pl.Series) -> pl.Series:
    """The contents of all messages, those at the rows `changed` redacted, one conversation after another.

    A value found now gets a number that its kind has not had in the conversation.
    """
    rows: dict[int, str] = {}
    taken: dict[int, Counter[str]] = {}
    for conversation, row, text in _found(messages, changed):
        if conversation not in taken:
            taken[conversation] = _highest(messages.filter(pl.col("conversation") == conversation)["content"])
        rows[row] = _numbered(text, taken[conversation])
    return put(messages["content"], pl.Series([*rows], dtype=pl.UInt32), pl.Series([*rows.values()], dtype=pl.String))


def _found(messages: pl.DataFrame, changed: pl.Series) -> list[tuple[int, int, str]]:
    """(conversation, row, text) wherever something is redacted; what was a placeholder before is marked as old."""
    redactors: defaultdict[int, Redactor] = defaultdict(Redactor)
    found = []
    texts = zip(messages["conversation"].gather(changed), changed, messages["content"].gather(changed), strict=True)
    for conversation, row, text in texts:
        marked = _PLACEHOLDER.sub(rf"[\1{_OLD}\2]", text)
        redacted = redactors[conversation].redact(marked)
        if redacted != marked:
            found.append((conversation, row, redacted))
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
    return text.replace(_OLD, "_")
