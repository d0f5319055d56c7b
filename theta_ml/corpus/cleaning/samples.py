"""What a step did to a few conversations, for a reader's eyes."""

from collections.abc import Iterable
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


def sampled(step: str, rows: pl.DataFrame, limit: int) -> list[Sample]:
    """At most `limit` of `rows` (conversation_id, before, after), all different conversations.

    A text in which there is anything to redact is never shown: what a step brought to light stood there before.
    """
    rows = rows.with_columns(order=pl.col("conversation_id").hash(0)).sort("order", maintain_order=True)
    rows = rows.unique("order", keep="first", maintain_order=True).head(5 * limit)
    shown = (
        Sample(order, step, name, *excerpts)
        for name, before, after, order in rows.select("conversation_id", "before", "after", "order").iter_rows()
        if (excerpts := _excerpts(before, after))
    )
    return list(islice(shown, limit))


def fewest(samples: Iterable[Sample], limit: int) -> list[Sample]:
    """Of the samples of many batches the `limit` first of each step."""
    kept: dict[str, list[Sample]] = {}
    for sample in sorted(set(samples)):
        kept.setdefault(sample.step, []).append(sample)
    return [sample for step in kept for sample in kept[step][:limit]]


def _excerpts(before: str, after: str) -> tuple[str, str] | None:
    """Both from a little before the first difference; None where there is something to redact."""
    pairs = zip(before, after, strict=False)
    first = next((at for at, (old, new) in enumerate(pairs) if old != new), min(len(before), len(after)))
    start = max(0, first - _LEAD) if after else 0
    around = before[max(0, start - _AROUND) : start + _WIDTH + _AROUND]
    return (_excerpt(before, start), _excerpt(after, start)) if Redactor().redact(around) == around else None


def _excerpt(text: str, start: int) -> str:
    shown = text[start : start + _WIDTH]
    return f"{'…' if start and shown else ''}{shown}{'…' if start + _WIDTH < len(text) else ''}"
