"""Stage `drift`: is this month another world than the one before and the one three before, or another feed?

- `stable`: the months are alike; retraining changes little.
- `drifted`: people talk of other things, or otherwise; retraining is worth it.
- `broken`: not the world but the feed changed: a share that only damage moves (wrong encoding, one template over and
  over, duplicates, cut words, swapped roles) rose above what any of the months compared with shows.
- `no_reference`: no month before, or this one, has enough conversations to compare.

From which distance on a column counts is measured, see `calibration`. Evidently computes the scores, and draws pages.
"""

from dataclasses import dataclass

from theta_ml.landing.parquet import file_name
from theta_ml.landing.snapshot import Snapshot, landed_in
from theta_ml.month import Month
from theta_ml.quality.comparing import EARLIER, Compared, DriftReport, Past, compared, conclude
from theta_ml.quality.digest import Digest, find_or_digest
from theta_ml.quality.drift_record import record
from theta_ml.quality.limits import limited
from theta_ml.quality.pages import write_drift
from theta_ml.quality.report import write_note
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, Work

PAGES = ("evidently.html", "evidently-earlier.html")
"""Evidently's, for either reference."""


@dataclass(frozen=True)
class _References:
    """Months."""

    newest: str
    earlier: str | None
    history: list[str]


def resolve(spec: DriftSpec, inputs: Inputs, settings: Settings, run_id: str) -> DriftSpec:
    """Fills in the team's limits."""
    return limited("drift", spec, settings)


def drift(spec: DriftSpec, inputs: Inputs, work: Work) -> DriftReport:
    """Raises StageFailed where the snapshot is of another month, StageRetry where the database is away."""
    snapshot = inputs.noun("snapshot", Snapshot)
    if snapshot.month != spec.month:
        raise StageFailed(f"the snapshot is of {snapshot.month}, not of {spec.month}")
    references = _references(spec, snapshot)
    if references is None or landed_in(snapshot, spec.month) < spec.min_conversations:
        report = _without_comparison(spec, snapshot)
        write_note(work.path / "report.html", f"Drift of {report.month}", report.sentence)
    else:
        report = _compared(spec, snapshot, references, inputs, work)
    record(work, report)
    work.events.log(report.sentence)
    return report


def _references(spec: DriftSpec, snapshot: Snapshot) -> _References | None:
    """The newest month before with enough conversations, and the newest of those three months back or more."""
    enough = [month for month in snapshot.window[:-1] if landed_in(snapshot, month) >= spec.min_conversations]
    if not enough:
        return None
    back = str(Month.parse(spec.month).shift(-EARLIER))
    earlier = max((month for month in enough if month <= back and month != enough[-1]), default=None)
    return _References(enough[-1], earlier, enough[-spec.history :])


def _without_comparison(spec: DriftSpec, snapshot: Snapshot) -> DriftReport:
    least, landed, outcome = spec.min_conversations, landed_in(snapshot, spec.month), "no_reference"
    if landed == 0:
        outcome, sentence = "broken", f"{spec.month} holds no conversation at all: the feed is broken"
    elif landed < least:
        sentence = f"{spec.month} has {landed} conversations, too few to compare (at least {least})"
    else:
        sentence = f"{spec.month} has no month before it with at least {least} conversations to compare with"
    return DriftReport(spec.month, None, outcome, sentence, None, [], [], {})


def _compared(spec: DriftSpec, snapshot: Snapshot, references: _References, inputs: Inputs, work: Work) -> DriftReport:
    path = inputs.path("snapshot")
    months = sorted({references.newest, *references.history, spec.month} | ({references.earlier or spec.month}))
    digests: dict[str, Digest] = {}
    for done, month in enumerate(months):
        work.events.progress(done, len(months), "months", month)
        content = snapshot.files[file_name(month)]
        digests[month] = find_or_digest(work, path, month, content, spec.sample, spec.seed)
    past = Past(
        digests[references.newest],
        digests[references.earlier] if references.earlier else None,
        [digests[month] for month in references.history],
    )
    found = compared(spec, past, digests[spec.month])
    report = conclude(spec, past, digests[spec.month], found, _drawn(work, found))
    write_drift(work.path / "report.html", report, [page for page, _ in zip(PAGES, found, strict=False)])
    return report


def _drawn(work: Work, found: list[Compared]) -> list[dict[str, float]]:
    """Writes Evidently's pages; its scores, for each reference."""
    from theta_ml.quality.evidently_report import evidently_report

    scores = []
    for page, each in zip(PAGES, found, strict=False):
        score, html = evidently_report(each.columns, each.thresholds)
        (work.path / page).write_text(html, encoding="utf-8")
        scores.append(score)
    return scores


STAGE = Stage("drift", 4, DriftSpec, drift, resolve)
