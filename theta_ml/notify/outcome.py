"""What a mail about a decision says: the verdict's sentence, the numbers, the pictures, and where to look."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from theta_ml.digits import shown, signed
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Check, Verdict
from theta_ml.mail.letter import Figure, Letter, Line
from theta_ml.mail.message import Link, airflow_run
from theta_ml.notify.pictures import pictures
from theta_ml.registry.evidence import numbers
from theta_ml.registry.ledger import CROWNING, Entry
from theta_ml.registry.settle import verdict_of
from theta_ml.settings import Settings
from theta_ml.stage import Inputs

Numbers = Mapping[str, Any]
"""Of an evaluation, by the names of `registry.evidence.HEADLINE`; None where there is none."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a run's decision: the ledger's word where it has one, else the gate's."""

    verdict: Verdict
    numbers: Numbers
    champion: int | None
    """In production once the decision took effect."""

    @classmethod
    def of(cls, entry: Entry | None, inputs: Inputs) -> "Outcome | None":
        """None where the run has neither decided nor judged."""
        if entry:
            return cls(verdict_of(entry), entry.numbers, entry.champion_after)
        verdict = inputs.optional("decide", Verdict)
        if verdict is None:
            return None
        found = numbers(inputs.optional("evaluate", EvaluationReport))
        return cls(verdict, found, verdict.champion_before)


def letter_of(
    outcome: Outcome,
    inputs: Inputs,
    settings: Settings,
    run_id: str,
    *,
    name: str = "",
    tone: Literal["good", "bad", "ask"] | None = None,
    sentence: str = "",
    links: list[Link] | None = None,
) -> Letter:
    """`name`, `tone`, `sentence` and the first `links` are the decision's own unless they are given."""
    verdict = outcome.verdict
    good = verdict.decision in CROWNING
    return Letter(
        month=verdict.month,
        outcome=name or verdict.decision,
        headline=headline(verdict, outcome.numbers),
        tone=tone or ("good" if good else "bad"),
        sentence=sentence or verdict.sentence,
        links=[*(links or []), *_links(verdict, settings, run_id)],
        footer=footer(verdict.month, run_id, outcome.champion),
        figures=figures(verdict, outcome.numbers),
        lines=[line_of(check) for check in verdict.checks],
        pictures=pictures(inputs, asked_difference(inputs, outcome.numbers), verdict.champion_before),
    )


def headline(verdict: Verdict, found: Numbers) -> str:
    """The number that matters: the scores, or what was refused for another reason."""
    failed = [check for check in verdict.checks if not check.passed]
    other = next((check for check in failed if not check.name.startswith("difference")), None)
    scored = found.get("candidate_bpb") is not None
    if verdict.decision == "blocked" or (verdict.decision == "rejected" and other and not _by_score(failed)):
        return _refused(other) if other else ""
    return _scores(found) if scored else ""


def _refused(check: Check) -> str:
    """What is worse says more than how likely that is."""
    return f"{check.name} {check.note if check.note.startswith('worse') else shown(check.value)}"


def _by_score(failed: list[Check]) -> bool:
    return any(check.name.startswith("difference") and check.value is not None for check in failed)


def _scores(found: Numbers) -> str:
    ours, theirs = found["candidate_bpb"], found.get("champion_bpb")
    if theirs is None:
        return f"{ours:.2f} bits per byte"
    digits = next((digits for digits in (2, 3) if f"{ours:.{digits}f}" != f"{theirs:.{digits}f}"), 4)
    return f"{ours:.{digits}f} bits per byte against {theirs:.{digits}f}"


def figures(verdict: Verdict, found: Numbers) -> list[Figure]:
    if found.get("candidate_bpb") is None:
        return []
    version = f"version {verdict.candidate_version}" if verdict.candidate_version else "not registered"
    rows = [Figure("Candidate, bits per byte", f"{found['candidate_bpb']:.3f}", version)]
    if found.get("champion_bpb") is not None:
        rows.append(Figure("Champion", f"{found['champion_bpb']:.3f}", f"version {verdict.champion_before}"))
    if found.get("difference") is not None:
        rows.append(Figure("Difference", signed(found["difference"]), _interval(found)))
    if found.get("conversations") is not None:
        rows.append(Figure("Test conversations", f"{found['conversations']:,}"))
    return rows


def _interval(found: Numbers) -> str:
    low, high = found.get("interval_low"), found.get("interval_high")
    return "" if low is None or high is None else f"95 %: {signed(low)} to {signed(high)}"


def line_of(check: Check) -> Line:
    asked = "" if check.threshold is None else str(check.threshold)
    return Line(check.name, shown(check.value), asked, check.passed, check.note)


def footer(month: str, run_id: str, champion: int | None) -> str:
    standing = f"Champion: version {champion}." if champion else "There is no champion."
    return f"Month {month}, run {run_id}. {standing}"


def asked_difference(inputs: Inputs, found: Numbers) -> float | None:
    """What the whole interval had to lie below, in bits per byte; None where nothing was compared."""
    if "decide" not in inputs or found.get("champion_bpb") is None:
        return None
    limits: dict[str, Any] = inputs.artifact("decide").document["spec"].get("thresholds", {})
    return -Thresholds(**limits).effect(found["champion_bpb"])


def _links(verdict: Verdict, settings: Settings, run_id: str) -> list[Link]:
    links = [Link("The run in Airflow", airflow_run(settings.airflow, run_id))]
    if verdict.comparison_url:
        title = "Candidate and champion in MLflow" if verdict.champion_mlflow_run_id else "The run in MLflow"
        links.append(Link(title, verdict.comparison_url))
    if verdict.candidates_url:
        links.append(Link("The candidates in MLflow", verdict.candidates_url))
    return links
