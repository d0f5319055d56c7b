"""Redaction of whole columns: a few passes over all texts in Rust settle most, Python reads the rest.

The result is what one `Redactor` for each conversation gives, text by text (tested).
"""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from theta_ml.privacy.folding import FOLDABLE
from theta_ml.privacy.recogniser import Recogniser
from theta_ml.privacy.redaction import Found, Redactor
from theta_ml.privacy.rules import RULES
from theta_ml.privacy.spans import Rule

Numbers = NDArray[np.integer[Any]]
_HINTS = tuple(dict.fromkeys([*(rule.hint for rule in RULES), FOLDABLE]))


@dataclass(frozen=True)
class Redacted:
    """What may leave the landing tables."""

    contents: pl.Series
    """The texts, redacted, in the order they came in."""
    counts: Counter[str]
    """Places replaced, by type."""


def redact_conversations(
    contents: pl.Series, conversation: pl.Series | Numbers, recogniser: Recogniser | None = None
) -> Redacted:
    """Redacts the messages of many conversations.

    `contents` (strings) are all messages in order; `conversation`, as long, says by ascending number which one each
    belongs to. Raises ValueError where these do not fit together.
    """
    ends = _ends(contents, np.asarray(conversation))
    recognised = _recognised(contents, recogniser)
    rules = _suspects(contents, recognised)
    counts: Counter[str] = Counter()
    changed: dict[int, str] = {}
    for first, end in _runs(np.array(list(rules), np.int64), ends):
        redactor = Redactor()
        for row, text in _texts(contents, rules, first, end, redactor):
            redacted = redactor.redact(text, rules.get(row, ()), recognised.get(row, ()))
            if redacted != text:
                changed[row] = redacted
        counts.update(redactor.counts)
    return Redacted(_replaced(contents, changed), counts)


def _recognised(contents: pl.Series, recogniser: Recogniser | None) -> dict[int, list[Found]]:
    if recogniser is None:
        return {}
    found = recogniser.find(contents.fill_null("").to_list())
    return {row: spans for row, spans in enumerate(found) if spans}


def _ends(contents: pl.Series, conversation: Numbers) -> Numbers:
    """(messages,): the row after the last of each message's conversation."""
    if len(conversation) != len(contents) or (np.diff(conversation.astype(np.int64)) < 0).any():
        raise ValueError("redact_conversations wants one ascending conversation number for each message")
    return np.searchsorted(conversation, conversation, side="right")


def _suspects(contents: pl.Series, recognised: dict[int, list[Found]]) -> dict[int, Sequence[Rule] | None]:
    """Rows that may hold something, ascending, and the rules to try on each; None where it must be folded first.

    A pass for each hint: all of them in one expression outgrow the cache of the automaton, and take five times as long.
    """
    code = np.zeros(len(contents), np.uint32)
    for place, hint in enumerate(_HINTS):
        code |= contents.str.contains(hint).fill_null(False).to_numpy().astype(np.uint32) << np.uint32(place)
    rows = np.union1d(np.flatnonzero(code), np.array(list(recognised), np.int64))
    chosen = {each: _rules(each) for each in np.unique(code[rows]).tolist()}
    return {row: chosen[each] for row, each in zip(rows.tolist(), code[rows].tolist(), strict=True)}


def _rules(code: int) -> Sequence[Rule] | None:
    hints = {hint for place, hint in enumerate(_HINTS) if code >> place & 1}
    return None if FOLDABLE in hints else tuple(rule for rule in RULES if rule.hint in hints)


def _runs(rows: Numbers, ends: Numbers) -> Iterator[tuple[int, int]]:
    """For each conversation with suspects: the first of them, and the row after its last message."""
    first = rows[np.flatnonzero(np.diff(ends[rows], prepend=-1))]
    return zip(first.tolist(), ends[first].tolist(), strict=True)


def _texts(
    contents: pl.Series, suspects: Container[int], first: int, end: int, redactor: Redactor
) -> Iterator[tuple[int, str]]:
    """The suspects of one conversation; once a name is known, every message that follows."""
    for row in range(first, end):
        if row in suspects or redactor.knows_names:
            text = contents[row]
            if text is not None:
                yield row, text


def _replaced(contents: pl.Series, changed: dict[int, str]) -> pl.Series:
    if not changed:
        return contents
    source = np.arange(len(contents))
    source[list(changed)] = len(contents) + np.arange(len(changed))
    texts = pl.Series(contents.name, list(changed.values()), pl.String)
    return pl.concat([contents, texts]).gather(source)
