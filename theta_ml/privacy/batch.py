"""Redaction of whole columns: a few passes over all texts in Rust settle most, Python reads the rest.

The result is what one `Redactor` for each conversation gives, text by text (tested).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from theta_ml.privacy.folding import FOLDABLE
from theta_ml.privacy.redaction import Redactor
from theta_ml.privacy.rules import RULES
from theta_ml.privacy.spans import Rule

_HINTS = [rule.hint for rule in RULES]
_ANY = "|".join(f"(?:{hint})" for hint in dict.fromkeys([*_HINTS, FOLDABLE]))


@dataclass(frozen=True)
class Redacted:
    """What may leave the landing tables."""

    contents: pl.Series
    """The texts, redacted, in the order they came in."""
    counts: Counter[str]
    """Places replaced, by type."""


def redact_conversations(contents: pl.Series, conversation: pl.Series | np.ndarray) -> Redacted:
    """Redacts the messages of many conversations.

    `contents` (strings) are all messages in order; `conversation`, as long, says by ascending number which one each
    belongs to. Raises ValueError where these do not fit together.
    """
    ends = _ends(contents, np.asarray(conversation))
    rows, rules = _suspects(contents)
    counts: Counter[str] = Counter()
    changed: dict[int, str] = {}
    for first, last, end in _runs(rows, ends):
        redactor = Redactor()
        suspects = dict(zip(rows[first:last].tolist(), rules[first:last], strict=True))
        for row, text in _texts(contents, list(suspects), end, redactor):
            redacted = redactor.redact(text, suspects.get(row, ()))
            if redacted != text:
                changed[row] = redacted
        counts.update(redactor.counts)
    return Redacted(_replaced(contents, changed), counts)


def _ends(contents: pl.Series, conversation: np.ndarray) -> np.ndarray:
    """(messages,): the row after the last of each message's conversation."""
    if len(conversation) != len(contents) or (np.diff(conversation.astype(np.int64)) < 0).any():
        raise ValueError("redact_conversations wants one ascending conversation number for each message")
    return np.searchsorted(conversation, conversation, side="right")


def _suspects(contents: pl.Series) -> tuple[np.ndarray, list[Sequence[Rule]]]:
    """Rows that may hold something, and the rules to try on each: all where the text must be folded first."""
    rows = contents.str.contains(_ANY).fill_null(False).arg_true().to_numpy()
    texts = contents.gather(rows)
    folded = texts.str.contains(FOLDABLE).to_numpy()
    hinted = np.stack([texts.str.contains(hint).to_numpy() | folded for hint in _HINTS], axis=1)
    codes = np.packbits(hinted, axis=1, bitorder="little").astype(np.uint32) @ (
        256 ** np.arange((len(_HINTS) + 7) // 8)
    )
    chosen = {
        code: tuple(rule for place, rule in enumerate(RULES) if code >> place & 1) for code in set(codes.tolist())
    }
    return rows, [chosen[code] for code in codes.tolist()]


def _runs(rows: np.ndarray, ends: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """For each conversation with suspects: which of `rows` are its, and the row after its last."""
    borders = np.flatnonzero(np.diff(ends[rows], prepend=-1))
    for first, last in zip(borders, [*borders[1:], len(rows)], strict=True):
        yield int(first), int(last), int(ends[rows[first]])


def _texts(contents: pl.Series, suspects: list[int], end: int, redactor: Redactor) -> Iterator[tuple[int, str]]:
    """The suspects of one conversation; once a name is known, every message that follows."""
    for row in suspects:
        yield row, contents[row]
        if redactor.knows_names:
            yield from (
                (row + 1 + after, text) for after, text in enumerate(contents[row + 1 : end]) if text is not None
            )
            return


def _replaced(contents: pl.Series, changed: dict[int, str]) -> pl.Series:
    if not changed:
        return contents
    source = np.arange(len(contents))
    source[list(changed)] = len(contents) + np.arange(len(changed))
    texts = pl.Series(contents.name, list(changed.values()), pl.String)
    return pl.concat([contents, texts]).gather(source)
