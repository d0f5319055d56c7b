"""The gate: reports in, verdict out. Pure, and it fails closed: a number that is missing is a check that failed."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from theta_ml.evaluation.budgets import benchmark_checks, golden_checks, guardrail_checks
from theta_ml.evaluation.comparison import Slice
from theta_ml.evaluation.holm import holm
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.selection import Selection
from theta_ml.evaluation.sentence import sentence
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import (
    Check,
    Verdict,
    at_least,
    at_most,
    flag,
    known,
    missing,
    not_judged,
    number,
    said,
    shown,
)
from theta_ml.month import Month

if TYPE_CHECKING:
    from theta_ml.evaluation.benchmarks.report import BenchmarkReport
    from theta_ml.landing.snapshot import Snapshot
    from theta_ml.quality.comparing import DriftReport
    from theta_ml.quality.validate import ValidationReport

BOOTSTRAP_HINT = "there is no champion yet; run with --bootstrap"
PASSING_DRIFT = ("stable", "drifted", "no_reference")


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
    benchmarks: "BenchmarkReport | None" = None
    hold: str = ""
    """Who put which version in production by hand, and until when; while that lasts no run replaces it."""
    thresholds: Thresholds = field(default_factory=Thresholds)


def gate(evidence: Evidence) -> Verdict:
    """Decision: `blocked` where the data said no, `evaluated` where the champion has seen newer data or was put there
    by hand, `rejected` where any other check failed, else `promoted`, or `bootstrap` for the first champion."""
    data, rest, time = _data(evidence), _model(evidence), _time(evidence)
    if not _all(data):
        decision, reasons = "blocked", data
        rest = rest if evidence.evaluation else []  # nothing was trained: what it would have made is not missing
    elif not _all(time):
        decision, reasons = "evaluated", time
    else:
        yes = "bootstrap" if evidence.champion_version is None else "promoted"
        decision, reasons = (yes if _all(rest) else "rejected"), rest
    failed = [check for check in reasons if not check.passed]
    chosen = evidence.selection
    return Verdict(
        evidence.month,
        decision,
        sentence(decision, failed, evidence.month, evidence.evaluation, evidence.thresholds, evidence.selection),
        checks=[*data, *rest, *time],
        champion_before=evidence.champion_version,
        recipe=chosen.recipe if chosen else None,
        candidates=chosen.candidates if chosen else [],
    )


def _all(checks: Iterable[Check]) -> bool:
    return all(check.passed for check in checks)


def _model(evidence: Evidence) -> list[Check]:
    """Points 2 to 5, the golden set and the benchmarks."""
    report, limits, champion = evidence.evaluation, evidence.thresholds, evidence.champion_version
    return [
        *_absolute(evidence),
        *_relative(evidence),
        *_slices(evidence),
        *guardrail_checks(report.guardrails if report else None, limits, champion is not None),
        *golden_checks(report.golden if report else [], limits, champion is not None),
        *benchmark_checks(evidence.benchmarks, limits, champion),
    ]


def _data(evidence: Evidence) -> list[Check]:
    """Point 1: validation, enough that is new, a feed that is not broken."""
    validation, drift, snapshot = evidence.validation, evidence.drift, evidence.snapshot
    least = evidence.thresholds.min_new_conversations
    return [
        said(
            "data",
            "validation",
            None if validation is None else ("passed" if validation.passed else "failed"),
            "passed",
            validation is not None and validation.passed,
            validation.sentence if validation else missing("validation"),
        ),
        at_least("data", "new conversations", snapshot.new_conversations if snapshot else None, least),
        said(
            "data",
            "drift",
            drift.outcome if drift else None,
            "stable, drifted or no_reference",
            drift is not None and drift.outcome in PASSING_DRIFT,
            drift.sentence if drift else missing("drift report"),
        ),
    ]


def _absolute(evidence: Evidence) -> list[Check]:
    """Point 2: a model at all."""
    preflight, report = evidence.preflight, evidence.evaluation
    return [
        said(
            "absolute",
            "preflight",
            None if preflight is None else ("passed" if preflight.passed else "failed"),
            "passed",
            preflight is not None and preflight.passed,
            preflight.sentence if preflight else missing("preflight report"),
        ),
        flag("absolute", "finite loss", report.finite if report else None, "of every test conversation"),
        _whole(report, evidence.benchmarks),
        at_most(
            "absolute",
            "bits per byte",
            report.candidate_bpb if report else None,
            evidence.thresholds.max_bits_per_byte,
        ),
        *_accuracy(report, evidence.champion_version),
        flag("absolute", "smoke generation", report.smoke_passed if report else None, _smoke_note(report)),
    ]


def _whole(*reports: "EvaluationReport | BenchmarkReport | None") -> Check:
    """No NaN or infinity anywhere, not even in what is only shown: whatever made one is broken."""
    strange = sorted({name for report in reports if report is not None for name in _strange(asdict(report))})
    note = "whatever made it is broken" if strange else "in every number of the reports"
    return Check("NaN or infinity", ", ".join(strange) or "none", "none", not strange, note, "absolute")


def _strange(value: Any, name: str = "") -> Iterator[str]:
    """Names of the fields that hold a float which is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        yield name
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _strange(each, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strange(each, name)


def _accuracy(report: EvaluationReport | None, champion: int | None) -> list[Check]:
    """Shown, of both models."""
    ours, theirs = (report.token_accuracy, report.champion_token_accuracy) if report else (None, None)
    checks = [shown("absolute", "token accuracy", ours, "shown")]
    return checks if champion is None else [*checks, shown("absolute", "champion's token accuracy", theirs, "shown")]


def _relative(evidence: Evidence) -> list[Check]:
    """Point 3: better than the champion by more than chance; the first champion has to be asked for instead."""
    report, version = evidence.evaluation, evidence.champion_version
    if version is None:
        note = "the first was asked for" if evidence.bootstrap else BOOTSTRAP_HINT
        wanted = "one to compare with, or bootstrap"
        return [said("relative", "champion", "none", wanted, evidence.bootstrap, note), _preference(report)]
    same = report is not None and report.champion_version == version
    note = "the champion of this moment" if same else "the evaluation is of another champion; clear `evaluate`"
    compared = f"version {report.champion_version}" if report else None
    least = evidence.thresholds.min_test_conversations
    return [
        said("relative", "compared with", compared, f"version {version}", same, note),
        at_least("relative", "test conversations", report.conversations if report else None, least),
        *_difference(report, evidence.thresholds),
        _preference(report),
    ]


def _difference(report: EvaluationReport | None, limits: Thresholds) -> list[Check]:
    """The interval, and what it is made of."""
    name, theirs = "difference, upper end", report.champion_bpb if report else None
    if report is None or theirs is None or not known(theirs) or theirs <= 0:
        return [Check(name, None, "below what was asked", False, missing("champion's bits per byte"), "relative")]
    asked, low, high = limits.effect(theirs), report.interval_low, report.interval_high
    whole = known(low) and known(high) and known(report.difference)
    share = f"{100 * asked / theirs:.2g} % of the champion's {theirs:.4g}"
    note = f"95 % interval of candidate − champion, bits per byte; {share} better was asked"
    return [
        shown("relative", "difference in %", _percent(report.difference, theirs), _span(low, high, theirs)),
        shown("relative", "p-value", report.p_value, "shown: how easily chance explains so much, were it no better"),
        number("relative", name, high if whole else None, f"below {-asked:.4g}", lambda found: found < -asked, note),
    ]


def _percent(difference: float | None, of: float) -> float | None:
    return None if difference is None else 100 * difference / of


def _span(low: float | None, high: float | None, of: float) -> str:
    if low is None or high is None:
        return ""
    return f"between {100 * low / of:+.2f} and {100 * high / of:+.2f} % of the champion's bits per byte"


def _preference(report: EvaluationReport | None) -> Check:
    found = report.preference if report else None
    if found is None:
        return not_judged("relative", "preference", "no prompt has both a liked and a disliked reply")
    theirs = found.champion_agreement
    beside = "" if theirs is None else f"; champion {theirs:.3g}"
    note = f"shown: share of {found.pairs} pairs in which the liked reply is likelier{beside}"
    return shown("relative", "preference", found.agreement, note)


def _slices(evidence: Evidence) -> list[Check]:
    """Point 4: no slice with enough data worse by more than the tolerance."""
    report, limits = evidence.evaluation, evidence.thresholds
    if evidence.champion_version is None or report is None:
        return []  # point 3 has already refused whatever lacks its numbers
    judged = [s for s in report.slices if s.conversations >= limits.slice_conversations]
    wanted = f"no corrected p below {limits.slice_alpha:g}"
    if fault := _unusable(report, judged, limits):
        return [Check("slices", "unusable", wanted, False, fault, "slices")]
    adjusted = holm([s.p_value for s in judged if s.p_value is not None])
    worse = [
        f"{s.name} {s.value} ({s.difference:+.2f}, p {p:.2g})"
        for s, p in zip(judged, adjusted, strict=True)
        if p < limits.slice_alpha and s.difference is not None
    ]
    note = f"worse: {', '.join(worse)}" if worse else f"{len(judged)} slices judged, Holm's correction"
    lowest = min(adjusted, default=1.0)
    return [Check("slices", lowest, wanted, lowest >= limits.slice_alpha, note, "slices")]


def _unusable(report: EvaluationReport, judged: list[Slice], limits: Thresholds) -> str:
    """Why the slices' p-values say nothing of these limits; empty where they do."""
    if others := sorted({s.tolerance for s in report.slices if s.tolerance != limits.slice_tolerance}):
        tolerated = ", ".join(f"{each:g}" for each in others)
        asked = f"{tolerated} bits per byte tolerated, not {limits.slice_tolerance:g}"
        return f"judged by other limits ({asked}); clear `evaluate`"
    lost = [s.conversations for s in judged if not known(s.p_value)]
    if lost and known(report.interval_high):  # so p-values could be had
        asked = f"slices of {min(lost)} conversations not judged, from {limits.slice_conversations} on they are"
        return f"judged by other limits ({asked}); clear `evaluate`"
    if lost:
        return f"slices without a p-value: {len(lost)}"
    if judged and len(judged) >= limits.slice_alpha * (report.resamples + 1):
        return f"of {len(judged)} slices no p-value of {report.resamples} resamples can be low enough; take more"
    return ""


def _time(evidence: Evidence) -> list[Check]:
    """Point 6: the candidate's data must not end before the champion's; and no person holds it in its place."""
    held = Check("hold", evidence.hold or "none", "none", not evidence.hold, evidence.hold, "time")
    return [_order(evidence), held]


def _order(evidence: Evidence) -> Check:
    champion = evidence.champion_month
    if evidence.champion_version is None:
        note = "no champion has seen newer data"
        return Check("time", evidence.month, "any, for the first champion", True, note, "time")
    if champion is None:
        return Check("time", evidence.month, None, False, missing("champion's month"), "time")
    passed = Month.parse(evidence.month) >= Month.parse(champion)
    note = "the data ends no earlier than the champion's" if passed else "the champion has seen newer data"
    return Check("time", evidence.month, f"{champion} or later", passed, note, "time")


def _smoke_note(report: EvaluationReport | None) -> str:
    if report is None:
        return missing("evaluation")
    faults = [f"prompt {number}: {reply.note}" for number, reply in enumerate(report.smoke, 1) if not reply.passed]
    return "; ".join(faults) or (f"{len(report.smoke)} prompts were answered" if report.smoke else "none was answered")
