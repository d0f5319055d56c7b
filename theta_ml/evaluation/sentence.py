"""One plain sentence for a verdict, with its numbers."""

from theta_ml.digits import signed
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.selection import Selection
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Check


def sentence(
    decision: str,
    failed: list[Check],
    month: str,
    report: EvaluationReport | None,
    limits: Thresholds,
    selection: Selection | None = None,
) -> str:
    """For example "Promoted: 2.41 bits per byte on 122 test conversations against 2.79 of version 1; …".

    `failed` are the checks that made the decision a no.
    """
    return f"{decision.capitalize()}{_reasons(decision, failed, month, report, limits)}{_recipe(selection)}."


def says_yes(promoted: str, verb: str = "says") -> str:
    """What the sentence of a yes has measured, as long as nobody is promoted yet; `verb`, or `said`."""
    return f"the gate {verb} yes: {promoted.partition(': ')[2]}"


def _reasons(
    decision: str, failed: list[Check], month: str, report: EvaluationReport | None, limits: Thresholds
) -> str:
    if decision == "blocked":
        return f": {_faults(failed)}"
    if decision == "rejected":
        return f": {_rejected(failed, report, limits)}"
    if decision == "evaluated":
        return f", not promoted: {'; '.join(_not_now(check, month) for check in failed)}{_aside(report)}"
    assert report is not None, "the gate promotes nothing that was not evaluated"
    first = "" if decision == "promoted" else "; the first champion, as asked for"
    return f": {_scores(report)}{_difference(report, limits)}{first}"


def _recipe(selection: Selection | None) -> str:
    """Where there was a choice."""
    if selection is None or len(selection.candidates) < 2:
        return ""
    return f"; recipe {selection.recipe}, the best of {len(selection.candidates)}"


def _not_now(time: Check, month: str) -> str:
    if time.name == "hold":
        return time.note.strip().rstrip(".")
    wanted = f"data up to {time.threshold}" if time.threshold else "the champion's month to be known"
    return f"its data ends with {month}, and promotion asks for {wanted}"


def _aside(report: EvaluationReport | None) -> str:
    return f" ({_scores(report)})" if report and report.candidate_bpb is not None else ""


def _rejected(failed: list[Check], report: EvaluationReport | None, limits: Thresholds) -> str:
    if report is None or report.candidate_bpb is None:
        return _faults(failed)
    measured = f"{_scores(report)}{_difference(report, limits)}"
    others = [check for check in failed if check.name != "difference, upper end" or check.value is None]
    return f"{measured}{'; ' if others else ''}{_faults(others)}"


def _scores(report: EvaluationReport) -> str:
    ours, theirs = report.candidate_bpb, report.champion_bpb
    assert ours is not None, "the callers looked"
    digits = 3 if theirs is not None and abs(ours - theirs) < 0.05 else 2
    text = f"{ours:.{digits}f} bits per byte on {_count(report.conversations, 'test conversation')}"
    if theirs is None:
        return text
    return f"{text} against {theirs:.{digits}f} of version {report.champion_version}"


def _difference(report: EvaluationReport, limits: Thresholds) -> str:
    """In percent of the champion's bits per byte; in bits per byte where those are what was asked for, or where nobody
    would understand the percent: the interval of a large difference reaches beyond all that the champion has."""
    low, high, theirs = report.interval_low, report.interval_high, report.champion_bpb
    if low is None or high is None or not theirs:
        return ""
    asked = limits.effect(theirs)
    if asked > limits.min_effect * theirs or low < -theirs:
        between, wanted = f"{_signed(low)} and {_signed(high)} bits", f"{asked:.2g}"
    else:
        between, wanted = f"{_percent(low / theirs)} and {_percent(high / theirs)}", f"{100 * limits.min_effect:g} %"
    return f"; the difference lies between {between}, at least {wanted} better was asked"


def _faults(failed: list[Check]) -> str:
    return "; ".join(_fault(check) for check in failed)


def _fault(check: Check) -> str:
    note = check.note.strip().rstrip(".")
    if check.name in ("validation", "drift", "preflight", "champion") and note:
        return note[0].lower() + note[1:] if note[1:2].islower() else note
    if check.value is None:
        return f"{check.name} is missing"
    value = f"{check.value:.4g}" if isinstance(check.value, float) else str(check.value)
    return f"{check.name}: {value}, asked was {check.threshold}{f' ({note})' if note else ''}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    """Two decimals below one percent, one above, and a minus that is one."""
    digits = 2 if abs(share) < 0.01 else 1
    return f"{signed(100 * share, digits)} %"


def _signed(number: float) -> str:
    """Three decimals below a tenth, two above."""
    return signed(number, 3 if abs(number) < 0.1 else 2)
