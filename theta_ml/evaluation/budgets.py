"""The gate's points that no gain elsewhere makes up for: guardrails, the golden set, benchmarks.

What could have been measured and was not has failed; what the run had nothing for (no champion, no canary, an empty
golden set, no benchmarks) is not judged, and the line says so.
"""

from typing import TYPE_CHECKING

from theta_ml.evaluation.report import GoldenResult, Guardrails
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Check, at_most, known, missing, not_judged, number

if TYPE_CHECKING:
    from theta_ml.evaluation.benchmarks.report import BenchmarkReport, BenchmarkResult

_GUARDRAILS, _GOLDEN, _BENCHMARKS = "guardrails", "golden set", "benchmarks"


def guardrail_checks(found: Guardrails | None, limits: Thresholds, champion: bool) -> list[Check]:
    """Point 5. `champion`: there is one, whose numbers then must be there as well."""
    if found is None:
        return [Check("guardrails", None, "measured", False, missing("guardrails"), _GUARDRAILS)]
    replies = [
        ("toxic replies", found.toxic_replies, found.champion_toxic_replies, limits.max_toxic_share),
        ("replies with personal data", found.leaked_replies, found.champion_leaked_replies, limits.max_leaked_share),
    ]
    costs = [
        ("latency", found.latency_ms, found.champion_latency_ms, limits.max_latency_ms, limits.max_latency_ratio),
        ("size", found.size_bytes, found.champion_size_bytes, limits.max_size_bytes, limits.max_size_ratio),
    ]
    return [
        *(_bad(name, ours, most, found.replies) for name, ours, _, most in replies),
        *(_more(name, ours, theirs, limits, found.replies) for name, ours, theirs, _ in replies if champion),
        _canaries(found, limits),
        at_most(_GUARDRAILS, "longest verbatim copy", found.longest_verbatim, limits.max_verbatim_words, "words"),
        *(_cost(name, ours, most) for name, ours, _, most, _ in costs),
        *(_ratio(name, ours, theirs, most) for name, ours, theirs, _, most in costs if champion),
    ]


def _bad(name: str, bad: int | None, share: float, replies: int) -> Check:
    """Replies that should not be; where nobody spoke there is nothing to count."""
    most, found = share * replies, bad if replies > 0 else None
    return at_most(_GUARDRAILS, name, found, most, f"{share:.0%} of {replies} replies")


def _more(name: str, bad: int | None, theirs: int | None, limits: Thresholds, replies: int) -> Check:
    most = limits.more_bad_replies * replies
    more = None if bad is None or theirs is None else bad - theirs
    note = f"than the champion's {theirs}; {limits.more_bad_replies:.0%} of {replies} replies"
    return at_most(_GUARDRAILS, f"more {name}", more, most, note)


def _cost(name: str, ours: float | None, most: float) -> Check:
    unit = {"latency": "ms a token", "size": "bytes"}[name]
    return number(_GUARDRAILS, name, _measured(ours), f"at most {most:,.0f}", lambda found: found <= most, unit)


def _ratio(name: str, ours: float | None, theirs: float | None, most: float) -> Check:
    ours, theirs = _measured(ours), _measured(theirs)
    ratio = None if ours is None or theirs is None else ours / theirs
    return at_most(_GUARDRAILS, f"{name} against the champion's", ratio, most, "times")


def _measured(value: float | None) -> float | None:
    """A time or a size of 0 was not measured."""
    return value if value is not None and value > 0 else None


def _canaries(found: Guardrails, limits: Thresholds) -> Check:
    if found.canaries == 0:
        return not_judged(_GUARDRAILS, "canary exposure", "no canary was planted")
    if found.canaries is None:
        wanted, note = f"at most {limits.max_canary_exposure:g}", missing("number of canaries planted")
        return Check("canary exposure", None, wanted, False, note, _GUARDRAILS)
    note = f"bits, the highest of {found.canaries}"
    return at_most(_GUARDRAILS, "canary exposure", found.canary_exposure, limits.max_canary_exposure, note)


def golden_checks(items: list[GoldenResult], limits: Thresholds, champion: bool) -> list[Check]:
    """Every required item, and not many fewer than the champion."""
    if not items:
        return [not_judged(_GOLDEN, "golden set", "it is empty")]
    failed = [item.name for item in items if item.required and not item.passed]
    required = sum(item.required for item in items)
    note = f"failed: {', '.join(failed)}" if failed else f"{required} required"
    passed = sum(item.passed for item in items)
    checks = [number(_GOLDEN, "required items failed", len(failed), "at most 0", lambda n: n <= 0, note)]
    if not champion:
        return [*checks, not_judged(_GOLDEN, "items", f"{passed} of {len(items)} pass; no champion to compare with")]
    theirs = (
        None if any(item.champion_passed is None for item in items) else sum(bool(i.champion_passed) for i in items)
    )
    note = f"{passed} of {len(items)} pass, {'unknown' if theirs is None else theirs} of the champion's"
    fewer = None if theirs is None else theirs - passed
    return [*checks, at_most(_GOLDEN, "items fewer than the champion", fewer, limits.max_golden_lost, note)]


def benchmark_checks(report: "BenchmarkReport | None", limits: Thresholds, champion: int | None) -> list[Check]:
    """Each benchmark of both models, by its paired difference; one that was not run is named with the reason."""
    if report is None:
        return [not_judged(_BENCHMARKS, "benchmarks", "none were run; THETA_BENCHMARKS names their folder")]
    if report.champion_version != champion:
        note = "measured against another champion; clear `benchmark`"
        value = f"version {report.champion_version}"
        return [Check("benchmarks", value, f"version {champion}", False, note, _BENCHMARKS)]
    left = [not_judged(_BENCHMARKS, name, why) for name, why in sorted(report.skipped.items())]
    return [*(_benchmark(each, limits, champion is not None) for each in report.results), *left]


def _benchmark(result: "BenchmarkResult", limits: Thresholds, champion: bool) -> Check:
    ours = "missing" if result.value is None else f"{result.value:.3f}"
    if not champion:
        wanted = "measured"
        return number(_BENCHMARKS, result.name, result.value, wanted, lambda _: True, f"{result.metric}; no champion")
    most = limits.max_benchmark_drop
    lost, error = result.difference, result.difference_stderr
    usable = known(lost) and known(error) and known(result.value) and known(result.champion_value)
    floor = -most * error if usable and error is not None else 0.0
    wanted = f"at least {floor:.4g}" if usable else f"at most {most:g} standard errors worse"
    note = f"{result.metric} {ours}, champion {result.champion_value}; {result.items} items"
    name = f"{result.name}, difference"
    return number(_BENCHMARKS, name, lost if usable else None, wanted, lambda found: found >= floor, note)
