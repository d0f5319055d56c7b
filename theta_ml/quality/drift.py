"""Stage `drift`: is this month another world than the one before, or another feed?

- `stable`: the months are alike; retraining changes little.
- `drifted`: people talk of other things, or otherwise; retraining is worth it.
- `broken`: not the world but the feed changed: a share that only damage moves (wrong encoding, one reply over and over,
  duplicates, …) rose sharply, or rose a little while nearly every column drifted, or every text has one length.
- `no_reference`: no month before, or this one, has enough conversations to compare.
"""

from dataclasses import dataclass
from pathlib import Path

from theta_ml.landing.snapshot import Snapshot
from theta_ml.quality.batch import Batch, indicators, load_batch
from theta_ml.quality.columns import Column, compare
from theta_ml.quality.features import sample
from theta_ml.quality.report import write_above, write_note
from theta_ml.quality.suite import shown
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.stage import Inputs, Stage, StageFailed, Work


@dataclass(frozen=True)
class ColumnDrift:
    """One column's distance between the months."""

    column: str
    method: str
    score: float
    threshold: float
    """What counts, or what chance reaches in samples of this size, whichever is more."""
    drifted: bool


@dataclass(frozen=True)
class DriftReport:
    """How far the month is from the one before. File report.html, self-contained: Evidently's where it compared."""

    month: str
    reference_month: str | None
    outcome: str
    """stable, drifted, broken or no_reference"""
    sentence: str
    share: float | None
    """Of the columns that drifted."""
    columns: list[ColumnDrift]


def drift(spec: DriftSpec, inputs: Inputs, work: Work) -> DriftReport:
    """Raises StageFailed where the snapshot is of another month."""
    snapshot = inputs.noun("snapshot", Snapshot)
    if snapshot.month != spec.month:
        raise StageFailed(f"the snapshot is of {snapshot.month}, not of {spec.month}")
    page = work.path / "report.html"
    report = _without_comparison(spec, snapshot) or _compared(spec, snapshot, inputs.path("snapshot"), page)
    if report.reference_month is None:
        write_note(page, f"Drift of {report.month}", report.sentence)
    work.events.log(report.sentence)
    return report


def _without_comparison(spec: DriftSpec, snapshot: Snapshot) -> DriftReport | None:
    """The report where there is nothing to compare; None where there is."""
    if snapshot.new_conversations == 0:
        sentence = f"{spec.month} holds no conversation at all: the feed is broken"
        return DriftReport(spec.month, None, "broken", sentence, None, [])
    least = spec.min_conversations
    if snapshot.new_conversations < least:
        sentence = f"{spec.month} has {snapshot.new_conversations} conversations, too few to compare (at least {least})"
    elif _reference(spec, snapshot) is None:
        sentence = f"{spec.month} has no month before it with at least {least} conversations to compare with"
    else:
        return None
    return DriftReport(spec.month, None, "no_reference", sentence, None, [])


def _reference(spec: DriftSpec, snapshot: Snapshot) -> str | None:
    """The newest month before with enough conversations."""
    enough = (m for m in snapshot.window[:-1] if snapshot.months[m]["conversations"] >= spec.min_conversations)
    return max(enough, default=None)


def _compared(spec: DriftSpec, snapshot: Snapshot, path: Path, page: Path) -> DriftReport:
    from theta_ml.quality.evidently_report import evidently_report

    month = _reference(spec, snapshot)
    assert month is not None
    batches = load_batch(path, month), load_batch(path, spec.month)
    reference, current = (sample(path, batch, spec.sample, spec.seed) for batch in batches)
    columns = compare(spec, reference, current)
    scores, html = evidently_report(columns, spec.drifted_share)
    drifts = [_judged(column, scores[column.name]) for column in columns]
    report = conclude(spec, *batches, drifts)
    write_above(page, report.sentence, html)
    return report


def _judged(column: Column, score: float) -> ColumnDrift:
    return ColumnDrift(column.name, column.method, score, column.threshold, score >= column.threshold)


def conclude(spec: DriftSpec, reference: Batch, current: Batch, columns: list[ColumnDrift]) -> DriftReport:
    """What the columns and the shares of damage come to."""
    drifted = [column.column for column in columns if column.drifted]
    share = len(drifted) / len(columns)
    faults = _faults(spec, reference, current, share)
    if faults:
        outcome, sentence = "broken", f"{current.month} is another feed than {reference.month}: {'; '.join(faults)}"
    elif share >= spec.drifted_share:
        outcome = "drifted"
        sentence = f"{current.month} drifted from {reference.month} in {_named(drifted)}, {_of(drifted, columns)}"
    else:
        outcome, sentence = "stable", f"{current.month} is like {reference.month}: {_of(drifted, columns)} drifted"
    return DriftReport(current.month, reference.month, outcome, sentence, share, columns)


def _faults(spec: DriftSpec, reference: Batch, current: Batch, share: float) -> list[str]:
    """What says, in plain words, that the feed is broken; empty where nothing does."""
    before, now = indicators(reference), indicators(current)
    limit = spec.broken_rise_with_drift if share >= spec.broken_share else spec.broken_rise
    risen = [
        f"{_words(name)} went from {shown(before[name], 'share')} to {shown(value, 'share')}"
        for name, value in now.items()
        if value - before[name] > (spec.unanswered_rise if name == "without_reply" else limit)
    ]
    return risen + [f"all but a few {name} have one length" for name in _collapsed(reference, current)]


def _collapsed(reference: Batch, current: Batch) -> list[str]:
    """Lengths that varied (no value above half of the rows) and do not any more (one above nine tenths)."""
    return [
        name
        for name, role in (("replies", "assistant"), ("user messages", "user"))
        if _commonest(reference, role) < 0.5 and _commonest(current, role) > 0.9
    ]


def _commonest(batch: Batch, role: str) -> float:
    """Share (0-1) of the role's messages that have the most frequent length; 0 where nobody of that role speaks."""
    chars = batch.messages.loc[batch.messages["role"] == role, "chars"]
    return float(chars.value_counts(normalize=True).iloc[0]) if len(chars) else 0.0


def _words(name: str) -> str:
    return name.replace("_", " ")


def _named(columns: list[str]) -> str:
    words = [_words(column.removeprefix("log_")) for column in columns]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _of(drifted: list[str], columns: list[ColumnDrift]) -> str:
    return f"{len(drifted)} of {len(columns)} columns"


STAGE = Stage("drift", 1, DriftSpec, drift)
