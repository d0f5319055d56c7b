"""What a rule is, and what it finds."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """`text[start:end]` is personal; `value` is what makes two of a type the same."""

    start: int
    end: int
    value: str


class Rule(NamedTuple):
    """Finds one type of thing in a folded text."""

    kind: str
    """The placeholder's type: EMAIL in [EMAIL_1]."""
    hint: str
    """A text without a match of this holds nothing for `find`: one regular expression that Python's `re` and Rust's
    `regex` understand alike (no look-around, ASCII classes), so that whole columns are settled at once."""
    find: Callable[[str], Iterable[Span]]
    """Spans in any order; they may overlap, the first of the longest then stands."""


def whole(match: re.Match[str]) -> Span:
    return Span(*match.span(), match[0])


def longest(spans: Iterable[Span]) -> list[Span]:
    """In order of place, without overlaps: of two that overlap the one that starts first, else the longer, stands."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept
