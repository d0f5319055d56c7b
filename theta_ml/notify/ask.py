"""Stage `ask`: a mail that a person is waited for, where, and how long."""

from dataclasses import dataclass

from theta_ml.evaluation.report import EvaluationReport
from theta_ml.evaluation.sentence import says_yes
from theta_ml.evaluation.verdict import Verdict
from theta_ml.mail.message import Link
from theta_ml.notify.notify import post
from theta_ml.notify.outcome import Outcome, letter_of
from theta_ml.registry.evidence import numbers
from theta_ml.registry.ledger import CROWNING
from theta_ml.stage import Inputs, Stage, StageSkipped, Work


@dataclass(frozen=True)
class AskSpec:
    month: str
    """Month of the run."""
    hours: float
    """That there are for an answer."""
    url: str
    """Where the answer is given."""

    def __post_init__(self) -> None:
        if self.hours <= 0:
            raise ValueError(f"hours is {self.hours:g}: nobody can answer in no time; 72 is usual")


@dataclass(frozen=True)
class Question:
    """What a person is asked."""

    month: str
    decision: str
    candidate_version: int | None
    hours: float
    url: str
    message_id: str
    to: str


def ask(spec: AskSpec, inputs: Inputs, work: Work) -> Question:
    verdict = inputs.noun("decide", Verdict)
    if verdict.decision not in CROWNING:
        raise StageSkipped(f"the decision is {verdict.decision}: there is nothing to approve")
    outcome = Outcome(verdict, numbers(inputs.optional("evaluate", EvaluationReport)), verdict.champion_before)
    sentence = (
        f"Approval wanted; {says_yes(verdict.sentence)} Version {verdict.candidate_version} becomes champion if "
        f"somebody approves within {spec.hours:g} hours; silence means no."
    )
    letter = letter_of(
        outcome, inputs, work.settings, work.run_id,
        name="approval wanted", tone="ask", sentence=sentence, links=[Link("Answer in Airflow", spec.url)],
    )  # fmt: skip
    notice = post(letter, "outcome", work)
    return Question(
        spec.month, verdict.decision, verdict.candidate_version, spec.hours, spec.url, notice.message_id, notice.to
    )


STAGE = Stage(name="ask", version=1, spec=AskSpec, function=ask, effects=True)
