"""Stage `promote`: the candidate becomes champion, if it is still the champion that it was measured against."""

from dataclasses import dataclass

from theta_ml.evaluation.evaluate import EvaluationReport
from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry.evidence import numbers
from theta_ml.registry.ledger import CROWNING
from theta_ml.registry.settle import settle
from theta_ml.stage import Inputs, Stage, StageSkipped, Work


@dataclass(frozen=True)
class PromoteSpec:
    month: str
    """Month of the run."""


@dataclass(frozen=True)
class Promotion:
    """What the ledger says of the run."""

    month: str
    decision: str
    candidate_version: int | None
    champion_before: int | None
    champion_after: int | None


def promote(spec: PromoteSpec, inputs: Inputs, work: Work) -> Promotion:
    verdict = inputs.noun("decide", Verdict)
    if verdict.decision not in CROWNING:
        raise StageSkipped(f"the decision is {verdict.decision}: the champion stays")
    evaluation = inputs.noun("evaluate", EvaluationReport)
    entry = settle(work.settings, verdict, numbers(evaluation), work.run_id)
    work.events.log(f"champion is version {entry.champion_after}, before: {entry.champion_before or 'none'}")
    return Promotion(entry.month, entry.decision, entry.candidate_version, entry.champion_before, entry.champion_after)


STAGE = Stage(name="promote", version=1, spec=PromoteSpec, function=promote, effects=True)
