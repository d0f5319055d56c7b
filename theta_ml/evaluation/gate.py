"""The gate: reports in, verdict out. Pure, and it fails closed: a number that is missing is a check that failed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from theta_ml.evaluation.evaluate import EvaluationReport
from theta_ml.evaluation.holm import holm
from theta_ml.evaluation.selection import Selection
from theta_ml.evaluation.sentence import sentence
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Check, Verdict
from theta_ml.month import Month

if TYPE_CHECKING:
    from theta_ml.landing.snapshot import Snapshot
    from theta_ml.quality.drift import DriftReport
    from theta_ml.quality.validate import ValidationReport

BOOTSTRAP_HINT = "there is no champion yet; run with --bootstrap"


@dataclass(frozen=True)
class Preflight:
    """What the gate reads of a `training.preflight.PreflightReport`, whose module takes 8 s to load torch."""

    passed: bool
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """All that the gate looks at; None where the stage did not run."""

    month: str
    bootstrap: bool = False
    """The run was asked to make the first champion."""
    champion_version: int | None = None
    champion_month: str | None = None
    snapshot: "Snapshot | None" = None
    validation: "ValidationReport | None" = None
    drift: "DriftReport | None" = None
    preflight: Preflight | None = None
    selection: Selection | None = None
    evaluation: EvaluationReport | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


def gate(evidence: Evidence) -> Verdict:
    """Decision: `blocked` where the data said no, `evaluated` where the champion has seen newer data, `rejected` where
    any other check failed, else `promoted`, or `bootstrap` for the first champion."""
    data, rest, time = (
        _data(evidence),
        [*_absolute(evidence), *_relative(evidence), *_slices(evidence)],
        _time(evidence),
    )
    if not _all(data):
        decision, reasons = "blocked", data
        rest = rest if evidence.evaluation else []  # nothing was trained: what it would have made is not missing
    elif not time.passed:
        decision, reasons = "evaluated", [time]
    else:
        yes = "bootstrap" if evidence.champion_version is None else "promoted"
        decision, reasons = (yes if _all(rest) else "rejected"), rest
    failed = [check for check in reasons if not check.passed]
    text = sentence(
        decision, failed, evidence.month, evidence.evaluation, evidence.thresholds.min_effect, evidence.selection
    )
    chosen = evidence.selection
    return Verdict(
        evidence.month,
        decision,
        text,
        checks=[*data, *rest, time],
        champion_before=evidence.champion_version,
        recipe=chosen.recipe if chosen else None,
        candidates=chosen.candidates if chosen else [],
    )


def _all(checks: Iterable[Check]) -> bool:
    return all(check.passed for check in checks)


def _data(evidence: Evidence) -> list[Check]:
    """Point 1: validation, enough that is new, a feed that is not broken."""
    validation, drift, snapshot = evidence.validation, evidence.drift, evidence.snapshot
    least = evidence.thresholds.min_new_conversations
    return [
        Check(
            "validation",
            None if validation is None else ("passed" if validation.passed else "failed"),
            "passed",
            validation is not None and validation.passed,
            validation.sentence if validation else _missing("validation"),
        ),
        _number(
            "new conversations",
            snapshot.new_conversations if snapshot else None,
            f"at least {least}",
            lambda n: n >= least,
        ),
        Check(
            "drift",
            drift.outcome if drift else None,
            "stable, drifted or no_reference",
            drift is not None and drift.outcome in ("stable", "drifted", "no_reference"),
            drift.sentence if drift else _missing("drift report"),
        ),
    ]


def _absolute(evidence: Evidence) -> list[Check]:
    """Point 2: a model at all."""
    preflight, report = evidence.preflight, evidence.evaluation
    most = evidence.thresholds.max_bits_per_byte
    spoke = report is not None and report.smoke_passed
    return [
        Check(
            "preflight",
            None if preflight is None else ("passed" if preflight.passed else "failed"),
            "passed",
            preflight is not None and preflight.passed,
            preflight.sentence if preflight else _missing("preflight report"),
        ),
        _flag("finite loss", report.finite if report else None, "of every test conversation"),
        _number(
            "bits per byte", report.candidate_bpb if report else None, f"at most {most:g}", lambda bpb: bpb <= most
        ),
        _flag("smoke generation", spoke if report else None, _smoke_note(report)),
    ]


def _relative(evidence: Evidence) -> list[Check]:
    """Point 3: better than the champion by more than chance; the first champion has to be asked for instead."""
    report, limits = evidence.evaluation, evidence.thresholds
    if evidence.champion_version is None:
        note = "the first was asked for" if evidence.bootstrap else BOOTSTRAP_HINT
        return [Check("champion", "none", "one to compare with, or bootstrap", evidence.bootstrap, note)]
    least, effect = limits.min_test_conversations, limits.min_effect
    same = report is not None and report.champion_version == evidence.champion_version
    return [
        Check(
            "compared with",
            f"version {report.champion_version}" if report and report.champion_version else None,
            f"version {evidence.champion_version}",
            same,
            "the champion of this moment" if same else "the evaluation is of another champion; clear `evaluate`",
        ),
        _number(
            "test conversations", report.conversations if report else None, f"at least {least}", lambda n: n >= least
        ),
        _number(
            "difference, upper end",
            report.interval_high if report else None,
            f"below {-effect:g}",
            lambda high: high < -effect,
            "95 % interval of candidate − champion, bits per byte",
        ),
    ]


def _slices(evidence: Evidence) -> list[Check]:
    """Point 4: no slice with enough data worse by more than the tolerance."""
    report, alpha = evidence.evaluation, evidence.thresholds.slice_alpha
    if evidence.champion_version is None or report is None:
        return []  # point 3 has already refused whatever lacks its numbers
    judged = [s for s in report.slices if s.conversations >= evidence.thresholds.slice_conversations]
    known = [s for s in judged if s.p_value is not None]
    adjusted = holm([s.p_value for s in known if s.p_value is not None])
    worse = [f"{s.name} {s.value} (+{s.difference:.2f})" for s, p in zip(known, adjusted, strict=True) if p < alpha]
    missing = len(judged) - len(known)
    note = f"worse: {', '.join(worse)}" if worse else f"{len(known)} slices judged, Holm's correction"
    note = f"{missing} slices have no p-value" if missing else note
    lowest = min(adjusted, default=1.0)
    return [Check("slices", lowest, f"no corrected p below {alpha:g}", not worse and not missing, note)]


def _time(evidence: Evidence) -> Check:
    """Point 6: the candidate's data must not end before the champion's."""
    champion = evidence.champion_month
    if evidence.champion_version is None:
        return Check("time", evidence.month, "any, for the first champion", True, "no champion has seen newer data")
    if champion is None:
        return Check("time", evidence.month, None, False, _missing("champion's month"))
    passed = Month.parse(evidence.month) >= Month.parse(champion)
    note = "the data ends no earlier than the champion's" if passed else "the champion has seen newer data"
    return Check("time", evidence.month, f"{champion} or later", passed, note)


def _number(name: str, value: float | None, threshold: str, passes: Callable[[float], bool], note: str = "") -> Check:
    if value is None:
        return Check(name, None, threshold, False, _missing("number"))
    return Check(name, value, threshold, passes(value), note)


def _flag(name: str, value: bool | None, note: str) -> Check:
    return Check(name, None if value is None else str(value).lower(), "true", bool(value), note)


def _missing(what: str) -> str:
    return f"no {what}: what is missing counts as failed"


def _smoke_note(report: EvaluationReport | None) -> str:
    if report is None:
        return _missing("evaluation")
    faults = [f"prompt {number}: {reply.note}" for number, reply in enumerate(report.smoke, 1) if not reply.passed]
    return "; ".join(faults) or (f"{len(report.smoke)} prompts were answered" if report.smoke else "none was answered")
