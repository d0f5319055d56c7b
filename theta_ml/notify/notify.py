"""Stage `notify`: one mail where a person is needed, none where not.

What it says of the decision is the ledger's word, which may be another than the gate's: `promote` judges again where
the champion changed meanwhile, and a person may have said no.
"""

from dataclasses import asdict, dataclass

from theta_ml.mail.letter import Letter, compose
from theta_ml.mail.message import Message
from theta_ml.mail.outbox import Kind, enqueue, is_waiting, withdraw
from theta_ml.notify import failure
from theta_ml.notify.failure import FailedTask, failed_tasks
from theta_ml.notify.outcome import Outcome, letter_of
from theta_ml.registry.ledger import (
    CROWNING,
    append,
    champion_of,
    decision_of,
    lock_champion,
    open_ledger,
)
from theta_ml.stage import Inputs, Stage, StageFailed, StageSkipped, Work
from theta_ml.tracking import end_run

NOTHING = "nothing that needs a person"
OLDER = f"a backfilled month is measured for the record; {NOTHING}"


@dataclass(frozen=True)
class NotifySpec:
    month: str
    """Month of the run."""
    failed: str = ""
    """Names of the tasks that failed, separated by commas; of one with an instance for each recipe, as TASK[NUMBER]."""
    recipes: str = ""
    """Names of the run's recipes in that order, separated by commas."""


@dataclass(frozen=True)
class Notice:
    """The mail about a run."""

    month: str
    decision: str
    message_id: str
    to: str
    sent_before: bool
    """It, or another mail about the same outcome, has left already."""


def notify(spec: NotifySpec, inputs: Inputs, work: Work) -> Notice:
    failed = failed_tasks(spec.failed, spec.recipes)
    outcome = _outcome(inputs, work)
    if failed and not (outcome and all(task.recipe for task in failed)):
        return _tell_failure(spec, failed, outcome, work)
    if outcome is None:
        raise StageFailed(
            "there is neither a verdict nor a failed task to write about; pass --input or --set failed=TASK"
        )
    if failed:
        return _tell_fewer(failed, outcome, inputs, work)
    if reason := _needs_nobody(outcome, work):
        _withdraw(work)
        raise StageSkipped(f"{outcome.verdict.decision}: {reason}")
    return post(letter_of(outcome, inputs, work.settings, work.run_id), "outcome", work)


def _outcome(inputs: Inputs, work: Work) -> Outcome | None:
    with open_ledger(work.settings) as ledger:
        entry = decision_of(ledger, work.run_id)
    return Outcome.of(entry, inputs)


def _needs_nobody(outcome: Outcome, work: Work) -> str:
    if outcome.verdict.decision == "evaluated":
        hold = next((check for check in outcome.verdict.checks if check.name == "hold" and not check.passed), None)
        return f"{hold.note}; {NOTHING}" if hold else OLDER
    return NOTHING if outcome.verdict.decision in CROWNING and not work.settings.mail_promoted else ""


def _withdraw(work: Work) -> None:
    """A mail that asks for an approval and has not left is out of date: the answer is there."""
    with open_ledger(work.settings) as connection:
        withdraw(connection, work.run_id, "outcome")


def _tell_fewer(failed: list[FailedTask], outcome: Outcome, inputs: Inputs, work: Work) -> Notice:
    """The run decided, on fewer candidates than it was asked for."""
    verdict, settings = outcome.verdict, work.settings
    sentence = (
        f"{verdict.sentence} Not all candidates were there to choose from: {failure.named(failed)} failed; "
        "the log says why."
    )
    links = failure.task_links(failed, settings, work.run_id)
    letter = letter_of(outcome, inputs, settings, work.run_id, sentence=sentence, links=links)
    return post(letter, "failed" if _needs_nobody(outcome, work) else "outcome", work)


def _tell_failure(spec: NotifySpec, failed: list[FailedTask], outcome: Outcome | None, work: Work) -> Notice:
    """Also writes the ledger's row, unless the run has decided all the same; row and mail are there together."""
    settings, run_id = work.settings, work.run_id
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        champion = champion_of(ledger)
        letter = failure.failure_letter(spec.month, failed, outcome, champion, settings, run_id)
        message = compose(letter, settings, run_id, "failed")
        if decision_of(ledger, run_id) is None:
            append(ledger, failure.entry(spec.month, failed, champion, run_id))
        enqueue(ledger, message, run_id=run_id, month=spec.month, kind="failed")
        left = not is_waiting(ledger, message.message_id)
    notice = _hand_on(letter, message, left, work)
    if settings.mlflow_tracking_uri:
        end_run(settings, run_id, "FAILED")  # after the mail: it must leave even where MLflow is what failed
    return notice


def post(letter: Letter, kind: Kind, work: Work) -> Notice:
    """Queues the mail, at most one of its kind a run, and hands it to whoever carries mails.

    A question and its answer have names of their own: mailboxes show one of two that have the same.
    """
    message = compose(letter, work.settings, work.run_id, kind, letter.outcome)
    with open_ledger(work.settings) as connection:
        enqueue(connection, message, run_id=work.run_id, month=letter.month, kind=kind)
        left = not is_waiting(connection, message.message_id)
    return _hand_on(letter, message, left, work)


def _hand_on(letter: Letter, message: Message, left: bool, work: Work) -> Notice:
    if left:
        work.events.log(f"a mail about this run has left before: {message.message_id}")
    else:
        work.events.mail(asdict(message))
    return Notice(letter.month, letter.outcome, message.message_id, message.to, left)


STAGE = Stage(name="notify", version=2, spec=NotifySpec, function=notify, effects=True)
