"""What a person sees who is asked for a yes: the verdict in Markdown, and where its evidence lies."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.sdk.exceptions import AirflowFailException
from pydantic import TypeAdapter

from theta_ml.evaluation.sentence import says_yes
from theta_ml.evaluation.verdict import Check, Verdict
from theta_ml.settings import Settings, SettingsError, load_settings
from theta_ml.stage import StageRetry
from theta_ml.store import Store

REPORTS = {
    "What the gate looked at": "verdict/verdict.html",
    "Drift of the month": "drift/report.html",
    "Validation of the month": "validate/report.html",
}
"""Pages that `decide` put into the MLflow run."""
_LONGEST_REASON = 200
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~-])")


def verdict_at(artifact: dict[str, str] | None) -> Verdict:
    """The verdict that `decide` wrote, read from its artifact. Raises AirflowFailException where it wrote none."""
    if not artifact:
        raise AirflowFailException("`decide` handed nothing on: clear it, and what follows")
    settings = load_settings()
    document = Store(settings.artifacts, settings.home / "cache").open(artifact["uri"]).document
    return TypeAdapter(Verdict).validate_python(document["value"])


def asks_for_promotion(verdict: Verdict) -> bool:
    """Did the gate say yes?"""
    from theta_ml.registry.ledger import CROWNING

    return verdict.decision in CROWNING


@dataclass(frozen=True)
class Decided:
    """What the ledger says of a run."""

    promoted: bool
    sentence: str
    by: str


def decided_before(run_id: str) -> Decided | None:
    """None where the run has not decided yet. Raises StageRetry where Postgres is away."""
    from theta_ml.registry.ledger import CROWNING, decision_of, open_ledger

    with open_ledger(load_settings()) as ledger:
        entry = decision_of(ledger, run_id)
    return Decided(entry.decision in CROWNING, entry.sentence, entry.actor) if entry else None


def approval_body(verdict: Verdict, deadline: datetime) -> str:
    """Sentence, links, and the table of checks, as Markdown."""
    links = "\n".join(f"- {line}" for line in _linked(verdict, load_settings()))
    rows = "\n".join(map(_row, verdict.checks))
    return (
        f"**T{_plain(says_yes(verdict.sentence))[1:]}**\n\n"
        "Approve, and it is made champion, after another comparison where there is a new one by then. "
        f"Reject, and {_standing(verdict)}. "
        f"Without an answer by {deadline:%A, %d %B %Y, %H:%M} UTC the answer is no.\n\n"
        f"{links}\n\n"
        f"| | Check | Found | Asked for | |\n|:-:|:--|:--|:--|:--|\n{rows}\n"
    )


def _standing(verdict: Verdict) -> str:
    return "there is none still" if verdict.champion_before is None else f"version {verdict.champion_before} stays"


def _row(check: Check) -> str:
    mark = "✓" if check.passed else "✗"
    cells = (mark, check.name.replace("_", " "), _shown(check.value), _shown(check.threshold, ""), check.note)
    return f"| {' | '.join(map(_plain, cells))} |"


def _shown(value: float | str | None, missing: str = "missing") -> str:
    if value is None:
        return missing
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return str(value).replace("_", " ")


def _plain(text: str) -> str:
    """Text as it stands: slices are named by topics, and those come from data."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _linked(verdict: Verdict, settings: Settings) -> Iterator[str]:
    """The links, as Markdown. What they lead to decides nothing: where MLflow does not say what there is, people are
    asked all the same, and told."""
    from mlflow.exceptions import MlflowException

    try:
        for title, url in _links(verdict, settings):
            yield f"[{title}]({url})"
    except (StageRetry, SettingsError, MlflowException, OSError) as error:  # OSError: what requests raises is one
        yield f"Reports are not linked here: {_plain(str(error)[:_LONGEST_REASON])}"


def _links(verdict: Verdict, settings: Settings) -> Iterator[tuple[str, str]]:
    if verdict.comparison_url:
        pair = verdict.champion_mlflow_run_id
        yield "Candidate and champion in MLflow" if pair else "The candidate in MLflow", verdict.comparison_url
    if verdict.candidates_url:
        yield "All candidates in MLflow", verdict.candidates_url
    if verdict.mlflow_run_id:
        yield from _reports(settings, verdict.mlflow_run_id)


def _reports(settings: Settings, mlflow_run: str) -> Iterator[tuple[str, str]]:
    """Those of REPORTS that are there, by their page in MLflow. Raises StageRetry where MLflow is away."""
    from theta_ml.tracking import client, mlflow_answers, run_url

    page = run_url(settings, mlflow_run)
    if page is None:
        return
    mlflow: Any = client(settings)
    for title, path in REPORTS.items():
        with mlflow_answers(settings):
            there = {file.path for file in mlflow.list_artifacts(mlflow_run, path.partition("/")[0])}
        if path in there:
            yield title, f"{page}/artifacts/{path}"
