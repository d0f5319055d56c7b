"""Personal data and secrets in a text, replaced by typed placeholders such as [EMAIL_1].

By rule: what has a form (an address, a number with a checksum, a token) is found anywhere, names where a cue tells
them, and then throughout the conversation. The same value gets the same placeholder within a conversation, so that it
still makes sense. A recogniser (`theta_ml.privacy.recogniser`) may add what only a model finds.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from theta_ml.privacy.folding import fold
from theta_ml.privacy.names import NAME, KnownNames
from theta_ml.privacy.rules import RULES
from theta_ml.privacy.spans import Rule, Span, longest

VERSION = 2
"""Raised when the rules would redact the same text differently: part of the snapshot's key."""

_FILLER = "\x00"
_HINTS = {rule.hint: re.compile(rule.hint) for rule in RULES}


class Found(NamedTuple):
    """`text[start:end]`, in the text as it came, is of type `kind`; equal values of one type are the same thing."""

    start: int
    end: int
    kind: str
    value: str


class Redactor:
    """Redacts the texts of one conversation, in their order. `counts` says how many places of each type went."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._numbers: dict[tuple[str, str], int] = {}
        self._last: Counter[str] = Counter()
        self._names = KnownNames()

    @property
    def knows_names(self) -> bool:
        """Whether a name was told: from then on every text may hold it, whatever the rules' hints say."""
        return self._names.any

    def redact(self, text: str, rules: Sequence[Rule] | None = None, recognised: Iterable[Found] = ()) -> str:
        """`rules` are those whose hints the text has, where that is known; `recognised` is what a recogniser found."""
        found = self.find(text, rules, recognised)
        if not found:
            return text
        pieces, at = [], 0
        for start, end, kind, value in found:
            self.counts[kind] += 1
            pieces += [text[at:start], f"[{kind}_{self._number(kind, value)}]"]
            at = end
        return "".join([*pieces, text[at:]])

    def find(self, text: str, rules: Sequence[Rule] | None = None, recognised: Iterable[Found] = ()) -> list[Found]:
        """What `redact` replaces, in order of place, without overlaps; names told here are known from here on."""
        folded = fold(text)
        rest, found = folded.text, []
        for rule in _hinted(rest) if rules is None else rules:
            spans = longest(rule.find(rest))
            found += [Found(*folded.place(span.start, span.end), rule.kind, span.value) for span in spans]
            rest = _without(rest, spans)
        found = _apart([*found, *recognised])
        self._names.learn(each.value for each in found if each.kind == NAME.kind)
        mentions = (
            Found(*folded.place(start, end), NAME.kind, name) for start, end, name in self._names.mentions(rest)
        )
        return _apart([*found, *mentions])

    def _number(self, kind: str, value: str) -> int:
        value = self._names.owner(value) if kind == NAME.kind else value
        if (kind, value) not in self._numbers:
            self._last[kind] += 1
            self._numbers[kind, value] = self._last[kind]
        return self._numbers[kind, value]


def _hinted(text: str) -> list[Rule]:
    return [rule for rule in RULES if _HINTS[rule.hint].search(text)]


def _apart(found: Iterable[Found]) -> list[Found]:
    """In order of place, without those that overlap one that came earlier."""
    taken: list[Found] = []
    for each in found:
        at = bisect_left(taken, each)
        before, after = taken[at - 1 : at] if at else [], taken[at : at + 1]
        if all(other.end <= each.start for other in before) and all(each.end <= other.start for other in after):
            taken.insert(at, each)
    return taken


def _without(text: str, spans: Sequence[Span]) -> str:
    """The text, as long as before, with the spans' places made unreadable to later rules."""
    pieces, at = [], 0
    for span in spans:
        pieces += [text[at : span.start], _FILLER * (span.end - span.start)]
        at = span.end
    return "".join([*pieces, text[at:]]) if spans else text
