"""Stage `notify`: one mail where a person is needed, none where not."""

from dataclasses import asdict, dataclass, replace
from functools import partial

from theta_ml.evaluation.verdict import Verdict
from theta_ml.mail.message import Link, airflow_run
from theta_ml.mail.outbox import enqueue, unsent, waiting
from theta_ml.notify.message import Letter, compose
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
from theta_ml.stage import Inputs, Stage, StageFailed, StageSkipped, Work
from theta_ml.tracking import end_run

NOTHING = "nothing that needs a person"
_SILENT = {
    **dict.fromkeys(CROWNING, NOTHING),
    "evaluated": f"a backfilled month is measured for the record; {NOTHING}",
}


@dataclass(frozen=True)
class NotifySpec:
    month: str
    """Month of the run."""
    failed: str = ""
    """Names of the tasks that failed, separated by commas; of one with an instance for each recipe, as TASK[NUMBER]."""
    recipes: str = ""
    """Names of the run's recipes in that order, separated by commas."""


@dataclass(frozen=True)
class FailedTask:
    """A task, or the instance of it that belongs to one of the run's candidates."""

    task: str
    number: int | None
    recipe: str

    def __str__(self) -> str:
        return f"{self.task} of {self.recipe}" if self.recipe else self.task


@dataclass(frozen=True)
class Notice:
    """The mail about a run."""

    month: str
    decision: str
    message_id: str
    to: str
    sent_before: bool


def notify(spec: NotifySpec, inputs: Inputs, work: Work) -> Notice:
    failed = failed_tasks(spec.failed, spec.recipes)
    verdict = inputs.optional("decide", Verdict)
    if failed and verdict and all(task.recipe for task in failed):
        letter = _fewer(failed, verdict, work)
    elif failed:
        letter = _failure(spec, failed, verdict, work)
    elif verdict is None:
        raise StageFailed(
            "there is neither a verdict nor a failed task to write about; pass --input or --set failed=TASK"
        )
    elif verdict.decision in _SILENT:
        _send_what_waits(work)
        raise StageSkipped(f"{verdict.decision}: {_SILENT[verdict.decision]}")
    else:
        letter = _no(verdict, work)
    return _post(letter, work)


def failed_tasks(failed: str, recipes: str) -> list[FailedTask]:
    """What `NotifySpec` says, taken apart."""
    names = recipes.split(",")
    found = []
    for text in filter(None, map(str.strip, failed.split(","))):
        task, _, number = text.removesuffix("]").partition("[")
        if number:
            found.append(FailedTask(task, int(number), dict(enumerate(names)).get(int(number), "")))
        else:
            found.append(FailedTask(task, None, ""))
    return found


def _send_what_waits(work: Work) -> None:
    """The run's mails that have not left; those of a training may have met a mail server that was away."""
    with open_ledger(work.settings) as connection:
        left = waiting(connection, work.run_id)
    for message in left:
        work.events.mail(asdict(message))


def _post(letter: Letter, work: Work) -> Notice:
    settings = work.settings
    message = compose(letter, settings.mail_from, settings.mail_to)
    with open_ledger(settings) as connection:
        enqueue(connection, work.run_id, message)
        left = unsent(connection, message.message_id)
    _send_what_waits(work)
    if left is None:
        work.events.log(f"{message.message_id} has left before")
    if letter.decision == "failed" and settings.mlflow_tracking_uri:
        end_run(settings, work.run_id, "FAILED")  # after the mail: it must leave even where MLflow is what failed
    return Notice(letter.month, letter.decision, message.message_id, message.to, left is None)


def _no(verdict: Verdict, work: Work) -> Letter:
    links = [Link("The run in Airflow", airflow_run(work.settings.airflow, work.run_id))]
    if verdict.comparison_url:
        title = "Candidate and champion in MLflow" if verdict.champion_mlflow_run_id else "The run in MLflow"
        links.append(Link(title, verdict.comparison_url))
    if verdict.candidates_url:
        links.append(Link("The candidates in MLflow", verdict.candidates_url))
    champion = verdict.champion_before
    return Letter(verdict.month, verdict.decision, verdict.sentence, work.run_id, champion, verdict.checks, links)


def _fewer(failed: list[FailedTask], verdict: Verdict, work: Work) -> Letter:
    """The run decided, on fewer candidates than it was asked for."""
    tasks = ", ".join(map(str, failed))
    letter = _no(verdict, work)
    sentence = f"{letter.sentence} Not all candidates were there to choose from: {tasks} failed; the log says why."
    champion = verdict.candidate_version if verdict.decision in CROWNING else letter.champion
    return replace(letter, sentence=sentence, champion=champion, links=[*_task_links(failed, work), *letter.links])


def _failure(spec: NotifySpec, failed: list[FailedTask], verdict: Verdict | None, work: Work) -> Letter:
    """Also writes the ledger's row, unless the run has decided all the same."""
    tasks = ", ".join(map(str, failed))
    sentence = f"Failed: the run of {spec.month} stopped in {tasks}; the task's log says why."
    champion = _record(spec.month, sentence, list(map(str, failed)), work)
    links = [*_task_links(failed, work), Link("The run in Airflow", airflow_run(work.settings.airflow, work.run_id))]
    return Letter(spec.month, "failed", sentence, work.run_id, champion, verdict.checks if verdict else [], links)


def _task_links(failed: list[FailedTask], work: Work) -> list[Link]:
    page = partial(airflow_run, work.settings.airflow, work.run_id)
    return [Link(f"{task} in Airflow", page(task.task, task.number)) for task in failed]


def _record(month: str, sentence: str, failed: list[str], work: Work) -> int | None:
    """The champion that stands."""
    with open_ledger(work.settings) as ledger:
        lock_champion(ledger)
        newest = last_crowning(ledger)
        champion = newest.champion_after if newest else None
        if decision_of(ledger, work.run_id):
            return champion
        append(
            ledger,
            Entry(
                run_id=work.run_id,
                month=month,
                decision="failed",
                sentence=sentence,
                candidate_version=None,
                champion_before=champion,
                champion_after=champion,
                actor=ACTOR,
                numbers={"failed": failed},
            ),
        )
    return champion


STAGE = Stage(name="notify", version=1, spec=NotifySpec, function=notify, effects=True)
