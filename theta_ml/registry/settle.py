"""A decision takes effect: ledger row, verdict tags and, for a new champion, the alias, as one change.

MLflow's aliases have no compare-and-set, so an advisory lock in the ledger's database stands guard. The row is written
first and committed last: where anything in between fails, the transaction leaves no row. What a crash may leave behind
is an alias (or a tag) without its row; running the stage again writes the row.
"""

import psycopg

from theta_ml.evaluation.selection import Candidate
from theta_ml.evaluation.verdict import Check, Verdict
from theta_ml.month import Month
from theta_ml.registry.champion import CHALLENGER, CHAMPION, at_version, current, registered_model
from theta_ml.registry.ledger import (
    ACTOR,
    CROWNING,
    Entry,
    append,
    decision_of,
    last_crowning,
    lock_champion,
    open_ledger,
)
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed
from theta_ml.tracking import client, mlflow_answers, set_tags

Numbers = dict[str, float | int | None]


def settle(settings: Settings, verdict: Verdict, numbers: Numbers, run_id: str, actor: str = ACTOR) -> Entry:
    """The ledger's row of the run, written now or before.

    Raises StageFailed where a new champion was compared with one that is champion no longer, StageRetry where Postgres
    or MLflow is away.
    """
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        decided = decision_of(ledger, run_id)
        if decided:
            _heal(settings, ledger, decided)
            return decided
        crowned = verdict.decision in CROWNING
        if crowned:
            _refuse_stale(settings, verdict)
        entry = append(ledger, _entry(verdict, numbers, run_id, actor))
        _tag(settings, verdict)
        if crowned:
            _crown(settings, verdict.candidate_version)
    return entry


def verdict_of(entry: Entry) -> Verdict:
    """The verdict that `settle` wrote down."""
    evidence = entry.numbers
    return Verdict(
        month=entry.month,
        decision=entry.decision,
        sentence=entry.sentence,
        checks=[Check(**check) for check in evidence["checks"]],
        candidate_version=entry.candidate_version,
        champion_before=entry.champion_before,
        mlflow_run_id=evidence["mlflow_run_id"],
        champion_mlflow_run_id=evidence["champion_mlflow_run_id"],
        comparison_url=evidence["comparison_url"],
        recipe=evidence.get("recipe"),
        candidates=[Candidate(**candidate) for candidate in evidence.get("candidates", [])],
        candidates_url=evidence.get("candidates_url"),
    )


def _entry(verdict: Verdict, numbers: Numbers, run_id: str, actor: str) -> Entry:
    crowned = verdict.decision in CROWNING
    evidence = {
        "checks": [vars(check) for check in verdict.checks],
        "mlflow_run_id": verdict.mlflow_run_id,
        "champion_mlflow_run_id": verdict.champion_mlflow_run_id,
        "comparison_url": verdict.comparison_url,
        "recipe": verdict.recipe,
        "candidates": [vars(candidate) for candidate in verdict.candidates],
        "candidates_url": verdict.candidates_url,
    }
    return Entry(
        run_id=run_id,
        month=verdict.month,
        decision=verdict.decision,
        sentence=verdict.sentence,
        candidate_version=verdict.candidate_version,
        champion_before=verdict.champion_before,
        champion_after=verdict.candidate_version if crowned else verdict.champion_before,
        actor=actor,
        numbers={**numbers, **evidence},
    )


def _refuse_stale(settings: Settings, verdict: Verdict) -> None:
    """Under the lock: is the champion still the one that the candidate was measured against?"""
    standing = current(settings)
    version = standing.version if standing else None
    if version == verdict.candidate_version:
        return  # an attempt that died after it had set the alias
    if version != verdict.champion_before:
        raise StageFailed(
            f"the candidate of {verdict.month} was compared with {_name(verdict.champion_before)}, but the champion is "
            f"{_name(version)} by now; clear `evaluate` and what follows, so that it is compared with that one"
        )
    if standing and Month.parse(verdict.month) < Month.parse(standing.month):
        raise StageFailed(
            f"the candidate's data ends with {verdict.month}, the champion's with {standing.month}: clear `decide`, "
            "which records it without promotion"
        )


def _heal(settings: Settings, ledger: psycopg.Connection, entry: Entry) -> None:
    """Where the run made the newest champion and the alias does not say so, it is set again."""
    newest = last_crowning(ledger)
    if newest is None or newest.run_id != entry.run_id or newest.champion_after is None:
        return
    standing = current(settings)
    if standing is None or standing.version != newest.champion_after:
        _crown(settings, newest.champion_after)


def _crown(settings: Settings, version: int | None) -> None:
    assert version is not None, "a champion is a registered version"
    at_version(settings, version)  # it is there, and Theta's
    name = settings.registered_model
    with mlflow_answers():
        client(settings).set_registered_model_alias(name, CHAMPION, str(version))
        model = registered_model(settings)
        if model and model.aliases.get(CHALLENGER) == str(version):
            client(settings).delete_registered_model_alias(name, CHALLENGER)


def _tag(settings: Settings, verdict: Verdict) -> None:
    tags = {"theta.decision": verdict.decision, "theta.sentence": verdict.sentence}
    if verdict.mlflow_run_id:
        set_tags(settings, verdict.mlflow_run_id, tags)
    if verdict.candidate_version is None:
        return
    with mlflow_answers():
        for name, text in tags.items():
            client(settings).set_model_version_tag(
                settings.registered_model, str(verdict.candidate_version), name, text[:5000]
            )


def _name(version: int | None) -> str:
    return "no champion" if version is None else f"version {version}"
