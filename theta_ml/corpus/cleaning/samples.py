"""What a step did to a few conversations, for a reader's eyes."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple

import polars as pl

from theta_ml.privacy.redaction import Redactor

_WIDTH = 240
_LEAD = 60
_AROUND = 2000
"""Characters on both sides of an excerpt that are looked at for personal data."""


class Sample(NamedTuple):
    """An excerpt of a message around the first place where a step changed it; of a rejected conversation its text."""

    order: int
    """Hash of the conversation's id: the smallest are shown, so that a choice does not depend on batches."""
    step: str
    conversation_id: str
    before: str
    after: str
    """Empty where the step rejected or removed it."""


def sampled(step: str, rows: pl.DataFrame, limit: int, reveal: Callable[[pl.Series], pl.Series]) -> list[Sample]:
    """At most `limit` of `rows` (conversation_id, before, after), all different conversations.

    `reveal` is all that cleaning does to texts: what it brings to light would stand, disguised, in the text before. A
    text in which there is then anything to redact is never shown.
    """
    rows = rows.with_columns(order=pl.col("conversation_id").hash(0)).sort("order", maintain_order=True)
    rows = rows.unique("order", keep="first", maintain_order=True).head(5 * limit)
    views = [_View.of(before, after) for before, after in rows.select("before", "after").iter_rows()]
    around = pl.Series([view.around for view in views], dtype=pl.String)
    names = rows.select("order", "conversation_id").iter_rows()
    shown = (
        Sample(order, step, name, view.before, view.after)
        for (order, name), view, *texts in zip(names, views, around, reveal(around), strict=True)
        if all(Redactor().redact(text) == text for text in texts)
    )
    return list(islice(shown, limit))


def fewest(samples: Iterable[Sample], limit: int) -> list[Sample]:
    """Of the samples of many batches the `limit` first of each step."""
    kept: dict[str, list[Sample]] = {}
    for sample in sorted(set(samples)):
        kept.setdefault(sample.step, []).append(sample)
    return [sample for step in kept for sample in kept[step][:limit]]


class _View(NamedTuple):
    """A text before and after, from a little before the first difference."""

    before: str
    after: str
    around: str
    """The text before, of which `before` is the middle."""

    @classmethod
    def of(cls, before: str, after: str) -> "_View":
        pairs = zip(before, after, strict=False)
        first = next((at for at, (old, new) in enumerate(pairs) if old != new), min(len(before), len(after)))
        start = max(0, first - _LEAD) if after else 0
        around = before[max(0, start - _AROUND) : start + _WIDTH + _AROUND]
        return cls(_excerpt(before, start), _excerpt(after, start), around)


def _excerpt(text: str, start: int) -> str:
    shown = text[start : start + _WIDTH]
    return f"{'…' if start and shown else ''}{shown}{'…' if start + _WIDTH < len(text) else ''}"
