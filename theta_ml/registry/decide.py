"""Stage `decide`: the gate's verdict, its evidence in MLflow, the candidate registered; a no is recorded at once.

A yes takes effect in `promote`, so that a person or another condition can stand between the two.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from theta_ml.champion import Champion
from theta_ml.evaluation.gate import gate
from theta_ml.evaluation.selection import Selection
from theta_ml.evaluation.thresholds import Thresholds
from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry.champion import model_version
from theta_ml.registry.evidence import gather, numbers
from theta_ml.registry.ledger import CROWNING, decision_of, open_ledger
from theta_ml.registry.publish import (
    comparison_url,
    publish_candidates,
    publish_evidence,
    publish_verdict,
    register_candidate,
)
from theta_ml.registry.settle import settle, verdict_of
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.tracking import end_run, retraining_run


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


def resolve(spec: DecideSpec, inputs: Inputs, settings: Settings, run_id: str) -> DecideSpec:
    """The champion is the evaluation's, whoever is champion by now: `promote` looks at that, under the lock."""
    if "evaluate" not in inputs:
        return spec
    compared: dict[str, Any] | None = inputs.artifact("evaluate").document["spec"]["champion"]
    return replace(spec, champion=TypeAdapter(Champion | None).validate_python(compared))


def decide(spec: DecideSpec, inputs: Inputs, work: Work) -> Verdict:
    decided = _decided(spec, work)
    if decided:
        work.events.log(f"decided before: {decided.sentence}")
        return decided
    evidence = gather(
        inputs,
        month=spec.month,
        bootstrap=spec.bootstrap,
        champion_version=spec.champion.version if spec.champion else None,
        champion_month=spec.champion.month if spec.champion else None,
        thresholds=spec.thresholds,
    )
    verdict = _publish(spec, inputs, work, gate(evidence))
    end_run(work.settings, work.run_id, "FINISHED")
    if verdict.decision not in CROWNING:
        settle(work.settings, verdict, numbers(evidence.evaluation), work.run_id)
    work.events.log(verdict.sentence)
    return verdict


def _decided(spec: DecideSpec, work: Work) -> Verdict | None:
    with open_ledger(work.settings) as ledger:
        entry = decision_of(ledger, work.run_id)
    if entry is None:
        return None
    if entry.month != spec.month:
        raise StageFailed(f"the run {work.run_id} decided on {entry.month} already; name another run for {spec.month}")
    return verdict_of(entry)


def _publish(spec: DecideSpec, inputs: Inputs, work: Work, verdict: Verdict) -> Verdict:
    """Returns the verdict with where its evidence lies."""
    settings = work.settings
    run = retraining_run(settings, work.run_id, spec.month)
    publish_evidence(settings, run, inputs)
    candidate = None
    if "train" in inputs:
        candidate = register_candidate(settings, run, inputs.artifact("train"), spec.month)
    selection = inputs.optional("select", Selection)
    candidates = publish_candidates(settings, work.run_id, spec.month, selection, work.store) if selection else []
    champion_run = str(model_version(settings, spec.champion.version).run_id) if spec.champion else None
    verdict = replace(
        verdict,
        candidate_version=candidate,
        mlflow_run_id=run,
        champion_mlflow_run_id=champion_run,
        comparison_url=comparison_url(settings, run, *([champion_run] if champion_run else [])),
        candidates_url=comparison_url(settings, *candidates) if len(candidates) > 1 else None,
    )
    publish_verdict(settings, run, verdict)
    return verdict


STAGE = Stage(name="decide", version=1, spec=DecideSpec, function=decide, resolve=resolve, effects=True)
