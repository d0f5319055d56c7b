"""What a step did to a few conversations, for a reader's eyes."""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from theta_ml.privacy.redaction import Redactor

_WIDTH = 240
_LEAD = 60


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
    chosen: list[Sample] = []
    ordered = rows.with_columns(order=pl.col("conversation_id").hash(0)).sort("order", maintain_order=True)
    for name, before, after, order in (
        ordered.unique("order", keep="first", maintain_order=True)
        .head(5 * limit)
        .select("conversation_id", "before", "after", "order")
        .iter_rows()
    ):
        if Redactor().redact(before) == before and len(chosen) < limit:
            chosen.append(Sample(order, step, name, *_excerpts(before, after)))
    return chosen


def fewest(samples: Iterable[Sample], limit: int) -> list[Sample]:
    """Of the samples of many batches the `limit` first of each step."""
    kept: dict[str, list[Sample]] = {}
    for sample in sorted(set(samples)):
        kept.setdefault(sample.step, []).append(sample)
    return [sample for step in kept for sample in kept[step][:limit]]


def _excerpts(before: str, after: str) -> tuple[str, str]:
    """Both from a little before the first difference."""
    pairs = zip(before, after, strict=False)
    first = next((at for at, (old, new) in enumerate(pairs) if old != new), min(len(before), len(after)))
    start = max(0, first - _LEAD) if after else 0
    return _excerpt(before, start), _excerpt(after, start)


def _excerpt(text: str, start: int) -> str:
    shown = text[start : start + _WIDTH]
    return f"{'…' if start and shown else ''}{shown}{'…' if start + _WIDTH < len(text) else ''}"
