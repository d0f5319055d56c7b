"""Two months' digests compared: are they the same world, another one, or another feed?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from theta_ml.quality.calibration import beyond_known, thresholds
from theta_ml.quality.columns import Column, compare
from theta_ml.quality.digest import Digest
from theta_ml.quality.faults import faults
from theta_ml.quality.features import TEXT, VOCABULARY
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.quality.wording import called, percent

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAMED = 3
_ALIKE = 0.02
"""Means that differ by less, relative to the first, do not tell what drifted."""
EARLIER = 3
"""Months back of the second reference."""


@dataclass(frozen=True)
class ColumnDrift:
    """One column's distance from one reference."""

    reference_month: str
    column: str
    method: str
    score: float
    threshold: float
    """What neither chance nor what is usual from month to month explains."""
    drifted: bool
    change: str
    """In plain words: `Music 12 % → 31 %`."""


@dataclass(frozen=True)
class Comparison:
    """With one reference."""

    reference_month: str
    columns: int
    drifted: list[str]
    """Names of the columns that drifted, those furthest beyond their threshold first."""


@dataclass(frozen=True)
class DriftReport:
    """How far the month is from the one before and from the one three before. Files report.html, self-contained, and
    evidently-MONTH.html for each reference: Evidently's."""

    month: str
    reference_month: str | None
    """The newest it was compared with."""
    outcome: str
    """stable, drifted, broken or no_reference"""
    sentence: str
    share: float | None
    """Of the columns that drifted from the newest reference."""
    columns: list[ColumnDrift]
    comparisons: list[Comparison]
    indicators: dict[str, list[float]]
    """Shares that damage moves: the most in any reference, and in this month."""


@dataclass(frozen=True)
class Compared:
    """With one reference; the columns as they were compared, and from where on each counts."""

    reference: Digest
    columns: list[Column]
    thresholds: dict[str, float]


@dataclass(frozen=True)
class Past:
    """What the month is compared with."""

    newest: Digest
    earlier: Digest | None = None
    """Three months back, or more."""
    history: Sequence[Digest] = ()
    """Months before, oldest first, from whose distances one learns what is usual."""


def compare_batches(spec: DriftSpec, reference: Digest, current: Digest) -> DriftReport:
    """As `compare_months`, with nothing else known than these two."""
    return compare_months(spec, Past(reference), current)


def compare_months(spec: DriftSpec, past: Past, current: Digest) -> DriftReport:
    """Without Evidently: its scores are the same."""
    return conclude(spec, past, current, compared(spec, past, current))


def compared(spec: DriftSpec, past: Past, current: Digest) -> list[Compared]:
    """With each reference, the newest first."""
    rate = spec.false_alarms / (2 if past.earlier else 1)
    newest = _columns(spec, past.newest, current, spec.shuffles)
    limits = thresholds(newest, rate, _usual(spec, past.history, 1))
    found = [Compared(past.newest, newest, limits)]
    if past.earlier:
        earlier = _columns(spec, past.earlier, current, spec.shuffles)
        own = thresholds(earlier, rate, _usual(spec, past.history, EARLIER))
        if _was_told(spec, past, own):
            own = beyond_known(own, distances(spec, past.earlier, past.newest), limits)
        found.append(Compared(past.earlier, earlier, own))
    return found


def _was_told(spec: DriftSpec, past: Past, limits: dict[str, float]) -> bool:
    """Whether a month since the earlier one differed from the month before it so much that its own run said so."""
    assert past.earlier
    between = [each for each in past.history if past.earlier.month < each.month < past.newest.month]
    steps = pairwise([past.earlier, *between, past.newest])
    return any(
        distance > limits.get(name, math.inf) for step in steps for name, distance in distances(spec, *step).items()
    )


def distances(spec: DriftSpec, reference: Digest, current: Digest) -> dict[str, float]:
    """By column."""
    return {column.name: column.distance for column in _columns(spec, reference, current, 0)}


def _columns(spec: DriftSpec, reference: Digest, current: Digest, shuffles: int) -> list[Column]:
    return compare(reference, current, shuffles=shuffles, seed=spec.seed, vocabulary_size=spec.vocabulary_size)


def _usual(spec: DriftSpec, history: Sequence[Digest], lag: int) -> dict[str, list[float]]:
    """By column, the distances between past months so many apart; in a history of months that follow each other."""
    pairs = pairwise(history) if lag == 1 else zip(history, history[lag:], strict=False)
    found: dict[str, list[float]] = {}
    for earlier, later in pairs:
        for name, distance in distances(spec, earlier, later).items():
            found.setdefault(name, []).append(distance)
    return found


def conclude(
    spec: DriftSpec,
    past: Past,
    current: Digest,
    found: list[Compared],
    scores: Sequence[dict[str, float]] | None = None,
) -> DriftReport:
    """What the columns and the shares of damage come to. `scores`: Evidently's, for each reference, where it ran."""
    columns = [
        _judged(each, column, scores[place][column.name] if scores else column.distance)
        for place, each in enumerate(found)
        for column in each.columns
    ]
    comparisons = [_comparison(each.reference.month, columns) for each in found]
    references = [each.reference for each in found]
    broken = faults(spec, [*references, *past.history], current)
    drifted = bool(broken) or any(each.drifted for each in comparisons)
    outcome = "broken" if broken and not spec.accepted else "drifted" if drifted else "stable"
    sentence = _broken(spec, current, references[0], broken) if broken else _sentence(current, comparisons, columns)
    newest = comparisons[0]
    return DriftReport(
        current.month,
        newest.reference_month,
        outcome,
        sentence,
        len(newest.drifted) / max(1, newest.columns),
        columns,
        comparisons,
        _indicators(references, current),
    )


def _judged(each: Compared, column: Column, score: float) -> ColumnDrift:
    threshold = each.thresholds[column.name]
    drifted = score >= threshold
    change = _change(column) if drifted else ""
    return ColumnDrift(each.reference.month, column.name, column.method, score, threshold, drifted, change)


def _comparison(month: str, columns: list[ColumnDrift]) -> Comparison:
    ours = [column for column in columns if column.reference_month == month]
    drifted = sorted((c for c in ours if c.drifted), key=lambda c: -c.score / c.threshold)
    return Comparison(month, len(ours), [column.column for column in drifted])


def _indicators(references: list[Digest], current: Digest) -> dict[str, list[float]]:
    return {
        name: [max(digest.description.indicators.get(name, 0.0) for digest in references), value]
        for name, value in current.description.indicators.items()
    }


def _broken(spec: DriftSpec, current: Digest, reference: Digest, broken: list[str]) -> str:
    rest = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    accepted = "; accepted as the new feed" if spec.accepted else ""
    return f"{current.month} is another feed than {reference.month}: {'; '.join(broken[:_NAMED])}{rest}{accepted}"


def _sentence(current: Digest, comparisons: list[Comparison], columns: list[ColumnDrift]) -> str:
    moved = [each for each in comparisons if each.drifted]
    if not moved:
        months = " and ".join(each.reference_month for each in comparisons)
        return f"{current.month} is like {months}: none of {comparisons[0].columns} columns drifted"
    first = moved[0]
    by_name = {c.column: c.change for c in columns if c.reference_month == first.reference_month}
    named = [f"{called(name)} ({by_name[name]})" if by_name[name] else called(name) for name in first.drifted[:_NAMED]]
    rest = [f"{len(first.drifted) - _NAMED} more"] if len(first.drifted) > _NAMED else []
    listed = [*named, *rest]
    what = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    slowly = "" if first is comparisons[0] else f", though it is like {comparisons[0].reference_month}"
    return f"{current.month} drifted from {first.reference_month} in {what}{slowly}"


def _change(column: Column) -> str:
    """Empty where only words could tell: no text of conversations enters a sentence."""
    if column.name in (VOCABULARY, TEXT):
        return ""
    if column.method == "wasserstein":
        return _means(column)
    ours, theirs = (_shares(values) for values in (column.reference, column.current))
    most = max(ours.keys() | theirs.keys(), key=lambda kind: (abs(theirs.get(kind, 0) - ours.get(kind, 0)), kind))
    return f"{most} {percent(ours.get(most, 0.0))} → {percent(theirs.get(most, 0.0))}"


def _means(column: Column) -> str:
    """Means, or where they are alike, spreads."""
    import numpy as np

    # lengths are compared as logarithms, and told as they are
    tell: Any = np.expm1 if column.name.startswith("log_") else float
    sides = [values.astype(float) for values in (column.reference, column.current)]
    before, now = (float(tell(values.mean())) for values in sides)
    if abs(now - before) >= _ALIKE * abs(before):
        return f"{before:.3g} → {now:.3g}"
    spreads = [float(tell(values.mean() + values.std())) - float(tell(values.mean())) for values in sides]
    return f"{before:.3g} ± {spreads[0]:.2g} → ± {spreads[1]:.2g}"


def _shares(values: "NDArray[np.generic]") -> dict[str, float]:
    import numpy as np

    kinds, counts = np.unique(values.astype(str), return_counts=True)
    return dict(zip(kinds.tolist(), (counts / max(1, len(values))).tolist(), strict=True))
