"""A decision takes effect: ledger row, verdict tags and, for a new champion, the alias, as one change.

MLflow's aliases have no compare-and-set, so an advisory lock in the ledger's database stands guard. The row is written
first and committed last: where anything in between fails, the transaction leaves no row. What a crash may leave behind
is an alias (or a tag) without its row; running the stage again writes the row, and `theta registry check` tells.
"""

from dataclasses import asdict, replace
from typing import Any

import psycopg
from pydantic import TypeAdapter

from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry import aliases
from theta_ml.registry.champion import DECISION, SENTENCE
from theta_ml.registry.ledger import (
    ACTOR,
    CROWNING,
    Entry,
    append,
    champion_of,
    decision_of,
    hold_of,
    lock_champion,
    open_ledger,
)
from theta_ml.settings import Settings
from theta_ml.tracking import client, mlflow_answers, set_tags

Numbers = dict[str, float | int | None]
_COLUMNS = ("month", "decision", "sentence", "candidate_version", "champion_before")
"""Of a verdict, those that are the ledger's own."""


def settled(settings: Settings, run_id: str) -> Entry | None:
    """The run's row, where it has one. A champion of its making that the alias lost is set again."""
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        return _settled(settings, ledger, run_id)


def settle(settings: Settings, verdict: Verdict, numbers: Numbers, run_id: str, approved_by: str = "") -> Entry | None:
    """The ledger's row of the run, written now or before; None where the verdict was overtaken: judge again.

    A verdict is overtaken where the champion is no longer the one that the candidate was measured against, or a person
    put one in meanwhile that holds. `approved_by` is who said yes to it. Raises StageRetry where Postgres or MLflow is
    away.
    """
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        decided = _settled(settings, ledger, run_id)
        standing = champion_of(ledger)
        if decided or (verdict.decision != "blocked" and _overtaken(ledger, verdict, standing)):
            return decided
        entry = _entry(verdict, numbers, run_id, standing)
        if approved_by and entry.decision in CROWNING:
            entry = replace(entry, actor=approved_by, reason=f"approved by {approved_by}")
        return _write(settings, ledger, entry, verdict)


def refuse(settings: Settings, verdict: Verdict, numbers: Numbers, run_id: str, answered_by: str) -> Entry:
    """As `settle`, for a no that a person, or nobody, answered: it holds against whoever is champion."""
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        decided = _settled(settings, ledger, run_id)
        if decided:
            return decided
        entry = _entry(verdict, numbers, run_id, champion_of(ledger))
        return _write(settings, ledger, replace(entry, actor=answered_by or ACTOR), verdict)


def verdict_of(entry: Entry) -> Verdict:
    """The verdict that was written down."""
    columns = {name: getattr(entry, name) for name in _COLUMNS}
    return TypeAdapter(Verdict).validate_python({**entry.numbers, **columns})


def _overtaken(ledger: psycopg.Connection, verdict: Verdict, standing: int | None) -> bool:
    return verdict.champion_before != standing or (verdict.decision in CROWNING and bool(hold_of(ledger)))


def _write(settings: Settings, ledger: psycopg.Connection, entry: Entry, verdict: Verdict) -> Entry:
    written = append(ledger, entry)
    _tag(settings, verdict)
    if entry.decision in CROWNING:
        assert entry.champion_after is not None, "a champion is a registered version"
        aliases.crown(settings, entry.champion_after)
    return written


def _entry(verdict: Verdict, numbers: Numbers, run_id: str, standing: int | None) -> Entry:
    evidence: dict[str, Any] = {name: value for name, value in asdict(verdict).items() if name not in _COLUMNS}
    return Entry(
        run_id=run_id,
        month=verdict.month,
        decision=verdict.decision,
        sentence=verdict.sentence,
        candidate_version=verdict.candidate_version,
        champion_before=standing,
        champion_after=verdict.candidate_version if verdict.decision in CROWNING else standing,
        actor=ACTOR,
        numbers={**numbers, **evidence},
    )


def _settled(settings: Settings, ledger: psycopg.Connection, run_id: str) -> Entry | None:
    decided = decision_of(ledger, run_id)
    if decided and decided.decision in CROWNING and decided.champion_after == champion_of(ledger):
        assert decided.champion_after is not None
        aliases.crown(settings, decided.champion_after)
    return decided


def _tag(settings: Settings, verdict: Verdict) -> None:
    tags = {DECISION: verdict.decision, SENTENCE: verdict.sentence}
    if verdict.mlflow_run_id:
        set_tags(settings, verdict.mlflow_run_id, tags)
    if verdict.candidate_version is None:
        return
    with mlflow_answers(settings):
        for name, text in tags.items():
            client(settings).set_model_version_tag(
                settings.registered_model, str(verdict.candidate_version), name, text
            )
