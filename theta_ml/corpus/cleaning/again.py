"""Cleaning can bring personal data to light (`me&#64;example.org`): what it changed is redacted once more."""

import re
from collections import Counter

import polars as pl

from theta_ml.corpus.cleaning.rows import put
from theta_ml.privacy.batch import redact_conversations

_PLACEHOLDER = r"\[([A-Z][A-Z_]*)_([0-9]{1,9})\]"
# A code point that is no character, which no cleaned text holds: keeps old placeholders apart from new ones.
_OLD = "\ufdd0"


def redacted_again(messages: pl.DataFrame, changed: pl.Series) -> pl.Series:
    """The contents of all messages, those at the rows `changed` redacted, one conversation after another.

    A value found now gets a number that its kind has not had in the conversation.
    """
    conversations = messages["conversation"].gather(changed)
    marked = messages["content"].gather(changed).str.replace_all(_PLACEHOLDER, f"[${{1}}{_OLD}${{2}}]")
    redacted = redact_conversations(marked, conversations).contents
    found = marked != redacted
    taken: dict[int, Counter[str]] = {}
    texts = []
    for conversation, text in zip(conversations.filter(found), redacted.filter(found), strict=True):
        if conversation not in taken:
            taken[conversation] = _highest(messages.filter(pl.col("conversation") == conversation)["content"])
        texts.append(_numbered(text, taken[conversation]))
    return put(messages["content"], changed.filter(found), pl.Series(texts, dtype=pl.String))


def _highest(texts: pl.Series) -> Counter[str]:
    """The highest number of each kind of placeholder."""
    highest: Counter[str] = Counter()
    for text in texts.filter(texts.str.contains(_PLACEHOLDER)):
        for kind, number in re.findall(_PLACEHOLDER, text):
            highest[kind] = max(highest[kind], int(number))
    return highest


def _numbered(text: str, taken: Counter[str]) -> str:
    text = re.sub(_PLACEHOLDER, lambda match: f"[{match[1]}_{int(match[2]) + taken[match[1]]}]", text)
    return text.replace(_OLD, "_")
