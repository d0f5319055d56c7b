"""The verdict as a page of its own: what the gate said, and the numbers that it looked at."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from theta_ml.digits import shown, signed
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.verdict import Check, Verdict

if TYPE_CHECKING:
    from theta_ml.evaluation.benchmarks.report import BenchmarkReport

_POINTS = {
    "data": "The data",
    "absolute": "A model at all",
    "relative": "Better than the champion",
    "slices": "No group of conversations worse",
    "guardrails": "Guardrails",
    "golden set": "The golden set",
    "benchmarks": "Benchmarks",
    "time": "Time",
    "": "Checks",
}
_MB = 2**20


@dataclass(frozen=True)
class Row:
    """One measure of both models, as it is shown."""

    name: str
    candidate: str
    champion: str
    difference: str
    better: bool | None
    """Whether the candidate is; None where they are alike or there is nothing to compare."""


@dataclass(frozen=True)
class Span:
    """The 95 % interval of the difference on a line from `low` to `high`, in per cent of the line's width."""

    start: float
    width: float
    zero: float
    middle: float
    text: str


def page(
    verdict: Verdict,
    evaluation: EvaluationReport | None,
    benchmarks: "BenchmarkReport | None" = None,
    outcome: str | None = None,
) -> str:
    """HTML that needs nothing else; `outcome` is the verdict's decision, unless it is given."""
    templates = Environment(
        loader=PackageLoader("theta_ml.registry"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["number"] = shown
    templates.filters["signed"] = _signed
    return templates.get_template("verdict.html").render(
        verdict=verdict,
        outcome=outcome or verdict.decision,
        groups=list(_groups(verdict.checks)),
        measures=list(_measures(evaluation)) if evaluation else [],
        span=_span(evaluation) if evaluation else None,
        evaluation=evaluation,
        slices=evaluation.slices if evaluation else [],
        worst=max((abs(each.difference or 0.0) for each in evaluation.slices), default=0.0) if evaluation else 0.0,
        benchmarks=benchmarks.results if benchmarks else [],
    )


def markdown(verdict: Verdict, outcome: str | None = None) -> str:
    """Sentence and table, for the description of a version, which MLflow shows as markdown."""
    rows = [
        f"| {'passed' if check.passed else '**failed**'} | {_cell(check.name)} | {_cell(shown(check.value))} "
        f"| {_cell('' if check.threshold is None else str(check.threshold))} |"
        for check in verdict.checks
    ]
    table = ["| outcome | check | value | asked |", "|---|---|---|---|", *rows]
    return "\n".join([f"**{verdict.month}: {outcome or verdict.decision}.** {_cell(verdict.sentence)}", "", *table])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _groups(checks: list[Check]) -> Iterator[tuple[str, list[Check]]]:
    for point, group in groupby(checks, lambda check: check.point):
        yield _POINTS.get(point, point.capitalize()), list(group)


def _measures(report: EvaluationReport) -> Iterator[Row]:
    yield _row("bits per byte", report.candidate_bpb, report.champion_bpb, lower=True)
    yield _row("perplexity per token", report.perplexity, report.champion_perplexity, lower=True, digits=1)
    yield _row("token accuracy, %", _percent(report.token_accuracy), _percent(report.champion_token_accuracy), digits=1)
    if report.generation:
        yield _row("chrF of replies", report.generation.chrf, report.generation.champion_chrf, digits=1)
    if report.preference:
        liked = _percent(report.preference.agreement), _percent(report.preference.champion_agreement)
        yield _row(f"agrees with ratings, % of {report.preference.pairs} pairs", *liked, digits=1)
    rails = report.guardrails
    if rails:
        yield _row("toxic replies", rails.toxic_replies, rails.champion_toxic_replies, lower=True, digits=0)
        yield _row("replies with personal data", rails.leaked_replies, rails.champion_leaked_replies, True, 0)
        yield _row("longest verbatim copy, words", rails.longest_verbatim, None, lower=True, digits=0)
        yield _row("latency, ms a token", rails.latency_ms, rails.champion_latency_ms, lower=True, digits=1)
        yield _row("size, MB", _mb(rails.size_bytes), _mb(rails.champion_size_bytes), lower=True, digits=1)


def _row(name: str, ours: float | None, theirs: float | None, lower: bool = False, digits: int = 3) -> Row:
    difference = None if ours is None or theirs is None else round(ours - theirs, digits)
    better = (difference < 0) == lower if difference else None
    return Row(name, _digits(ours, digits), _digits(theirs, digits), _signed(difference, digits), better)


def _signed(value: float | None, digits: int = 3) -> str:
    return "" if value is None else signed(value, digits)


def _digits(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _mb(size: int | None) -> float | None:
    return None if size is None else size / _MB


def _span(report: EvaluationReport) -> Span | None:
    low, high, middle = report.interval_low, report.interval_high, report.difference
    if low is None or high is None or middle is None:
        return None
    reach = 1.15 * max(abs(low), abs(high), 1e-6)

    def place(value: float) -> float:
        return round(50 + 50 * value / reach, 2)

    text = f"{signed(middle)} bits per byte, 95 % interval {signed(low)} to {signed(high)}; left of the line is better"
    return Span(place(low), max(place(high) - place(low), 0.5), place(0), place(middle), text)
