"""Stage `decide`: the gate's verdict, its evidence in MLflow, the candidate registered; a no is recorded at once.

A yes takes effect in `promote`, so that a person or another condition can stand between the two.
"""

from dataclasses import replace

from theta_ml.evaluation.thresholds import resolved
from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry.champion import current
from theta_ml.registry.judgement import DecideSpec, compared_with, judge
from theta_ml.registry.ledger import CROWNING, decision_of, open_ledger
from theta_ml.registry.settle import settle, verdict_of
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageFailed, Work
from theta_ml.tracking import end_run


def resolve(spec: DecideSpec, inputs: Inputs, settings: Settings, run_id: str) -> DecideSpec:
    """The champion is the evaluation's, whoever is champion by now: who is, is asked when the verdict takes effect."""
    with open_ledger(settings) as ledger:
        entry = decision_of(ledger, run_id)
    spec = replace(spec, thresholds=resolved(spec.thresholds, settings), decided=entry.decision if entry else "")
    return replace(spec, champion=compared_with(inputs.artifact("evaluate"))) if "evaluate" in inputs else spec


def decide(spec: DecideSpec, inputs: Inputs, work: Work) -> Verdict:
    decided = _decided(spec, work)
    if decided:
        work.events.log(f"decided before: {decided.sentence}")
        return decided
    judged = judge(spec, inputs, work)
    while judged.verdict.decision not in CROWNING:
        entry = settle(work.settings, judged.verdict, judged.numbers, work.run_id)
        if entry:
            judged = replace(judged, verdict=verdict_of(entry))
            break
        judged = judge(replace(spec, champion=current(work.settings)), inputs, work)
    end_run(work.settings, work.run_id, "FINISHED")
    work.events.log(judged.verdict.sentence)
    return judged.verdict


def _decided(spec: DecideSpec, work: Work) -> Verdict | None:
    with open_ledger(work.settings) as ledger:
        entry = decision_of(ledger, work.run_id)
    if entry is None:
        return None
    if entry.month != spec.month:
        raise StageFailed(f"the run {work.run_id} decided on {entry.month} already; name another run for {spec.month}")
    return verdict_of(entry)


STAGE = Stage(name="decide", version=2, spec=DecideSpec, function=decide, resolve=resolve, effects=True)
