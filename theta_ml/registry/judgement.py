"""A run's candidate before the gate, and again whenever the champion changed before the verdict took effect.

Whoever finishes while another run, or a person, changes the champion is compared with the new one. What was measured
against a champion has a content key, so that asking again costs nothing.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from pydantic import TypeAdapter

from theta_ml.champion import Champion
from theta_ml.evaluation.gate import gate
from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.selection import Selection
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry.champion import at_version, model_version
from theta_ml.registry.evidence import gather, numbers
from theta_ml.registry.ledger import CROWNING, alone, hold_of, open_ledger
from theta_ml.registry.publish import (
    comparison_url,
    publish_candidates,
    publish_evidence,
    publish_verdict,
    register_candidate,
)
from theta_ml.registry.settle import Numbers
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, StageSkipped, Work, run_stage
from theta_ml.store import Artifact, Store
from theta_ml.tracking import retraining_run

MEASURES = {"evaluate": "theta_ml.evaluation.evaluate", "benchmark": "theta_ml.evaluation.benchmarks.stage"}
"""Stages that compare the candidate with the champion, and where they are."""


@dataclass(frozen=True)
class DecideSpec:
    month: str
    """Month of the run."""
    bootstrap: bool = False
    """Make the first champion, where there is none; otherwise it changes nothing."""
    champion: Champion | None = None
    """The one that the candidate was compared with; filled in."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """Limits of the gate."""
    decided: str = ""
    """What the ledger has of the run already; filled in, so that a stage that is run again says the same."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and what it rests on."""

    verdict: Verdict
    inputs: Inputs
    spec: DecideSpec

    @property
    def numbers(self) -> Numbers:
        return numbers(self.inputs.optional("evaluate", EvaluationReport))


def judge(spec: DecideSpec, inputs: Inputs, work: Work) -> Judgement:
    """The gate's verdict on the candidate against `spec.champion`, its evidence in MLflow."""
    inputs = measured_against(spec.champion, inputs, work)
    with open_ledger(work.settings) as ledger:
        hold = hold_of(ledger)
    evidence = gather(
        inputs,
        month=spec.month,
        bootstrap=spec.bootstrap,
        champion_version=spec.champion.version if spec.champion else None,
        champion_month=spec.champion.month if spec.champion else None,
        thresholds=spec.thresholds,
        hold=hold,
    )
    with alone(work.settings, work.run_id):
        return Judgement(_publish(spec, inputs, work, gate(evidence)), inputs, spec)


def judged_before(decided: Artifact, verdict: Verdict, inputs: Inputs, work: Work) -> Judgement:
    """What `decide` came to, with the measurements that its verdict rests on."""
    version = verdict.champion_before
    champion = None if version is None else at_version(work.settings, version)
    spec = TypeAdapter(DecideSpec).validate_python(decided.document["spec"])
    return Judgement(verdict, measured_against(champion, inputs, work), replace(spec, champion=champion))


def measured_against(champion: Champion | None, inputs: Inputs, work: Work) -> Inputs:
    """`inputs` with whatever compares candidate and champion measured against this champion."""
    found = copy.copy(inputs)
    for name, module in MEASURES.items():
        if name in inputs and compared_with(inputs[name]) != champion:
            stage: Stage[Any] = import_module(module).STAGE
            found[name] = _again(stage, inputs[name], champion, work)
    return found


def compared_with(measured: Artifact) -> Champion | None:
    champion: dict[str, Any] | None = measured.document["spec"].get("champion")
    return TypeAdapter(Champion | None).validate_python(champion)


def _again(stage: Stage[Any], measured: Artifact, champion: Champion | None, work: Work) -> Artifact:
    against = f"version {champion.version}" if champion else "no champion"
    work.events.log(f"{stage.name}: against {against}, which is champion by now")
    spec = TypeAdapter(stage.spec).validate_python(measured.document["spec"])
    before = list(_uris(work.store, measured.document["inputs"]))
    try:
        result = run_stage(stage, replace(spec, champion=champion), before, work.run_id, work.settings, work.events)
    except StageSkipped as skipped:
        raise StageFailed(
            f"{stage.name}: measured before, and not to be measured again: {skipped}; put back what is gone, and clear "
            "this task"
        ) from None
    return work.store.open(result.uri)


def _uris(store: Store, keys: dict[str, str | list[str]]) -> Iterable[str]:
    for stage, named in keys.items():
        yield from (store.uri(stage, key) for key in ([named] if isinstance(named, str) else named))


def _publish(spec: DecideSpec, inputs: Inputs, work: Work, verdict: Verdict) -> Verdict:
    """Returns the verdict with where its evidence lies."""
    settings = work.settings
    run = retraining_run(settings, work.run_id, spec.month)
    publish_evidence(settings, run, inputs)
    candidate = None
    if "train" in inputs:
        candidate = register_candidate(settings, run, inputs.artifact("train"), spec.month)
    champion_run = _run_of(settings, spec.champion)
    verdict = replace(
        verdict,
        candidate_version=candidate,
        mlflow_run_id=run,
        champion_mlflow_run_id=champion_run,
        comparison_url=comparison_url(settings, run, *([champion_run] if champion_run else [])),
        candidates_url=_candidates_url(spec, inputs, work),
    )
    publish_verdict(settings, run, verdict, inputs, pending=verdict.decision in CROWNING)
    return verdict


def _run_of(settings: Settings, champion: Champion | None) -> str | None:
    return str(model_version(settings, champion.version).run_id) if champion else None


def _candidates_url(spec: DecideSpec, inputs: Inputs, work: Work) -> str | None:
    selection = inputs.optional("select", Selection)
    if selection is None:
        return None
    runs = publish_candidates(work.settings, work.run_id, spec.month, selection, work.store)
    return comparison_url(work.settings, *runs) if len(runs) > 1 else None
