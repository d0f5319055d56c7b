"""Stage `decline`: the gate said yes, and a person said no, or nobody answered by the deadline: a no is recorded."""

from dataclasses import dataclass, replace

from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.sentence import says_yes
from theta_ml.evaluation.verdict import Verdict
from theta_ml.registry.evidence import numbers
from theta_ml.registry.ledger import alone
from theta_ml.registry.promote import Promotion, yes_of
from theta_ml.registry.publish import publish_verdict
from theta_ml.registry.settle import refuse
from theta_ml.stage import Inputs, Stage, Work


@dataclass(frozen=True)
class DeclineSpec:
    month: str
    """Month of the run."""
    answered_by: str = ""
    """Who said no; empty where nobody answered by the deadline."""
    hours: float = 72
    """The deadline, from when the approval was asked for."""


def decline(spec: DeclineSpec, inputs: Inputs, work: Work) -> Promotion:
    """What the ledger says of the run: `rejected`, unless it had decided before."""
    verdict = yes_of(inputs)
    said_no = replace(verdict, decision="rejected", sentence=sentence(spec, verdict))
    measured = numbers(inputs.optional("evaluate", EvaluationReport))
    entry = refuse(work.settings, said_no, measured, work.run_id, spec.answered_by)
    if entry.sentence == said_no.sentence and verdict.mlflow_run_id:
        with alone(work.settings, work.run_id):
            publish_verdict(work.settings, verdict.mlflow_run_id, said_no, inputs)
    work.events.log(entry.sentence)
    return Promotion.of(entry)


def sentence(spec: DeclineSpec, verdict: Verdict) -> str:
    hours = f"{spec.hours:g} hour{'' if spec.hours == 1 else 's'}"
    answer = f"{spec.answered_by} said no" if spec.answered_by else f"nobody approved within {hours}"
    return f"Rejected: {answer}; {says_yes(verdict.sentence, 'said')}"


STAGE = Stage(name="decline", version=1, spec=DeclineSpec, function=decline, effects=True)
