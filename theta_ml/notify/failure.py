"""Which tasks of a run failed, and what is said and written down about it."""

from dataclasses import dataclass
from functools import partial

from theta_ml.mail.letter import Letter
from theta_ml.mail.message import Link, airflow_run
from theta_ml.notify.outcome import Outcome, footer, line_of
from theta_ml.registry.ledger import ACTOR, Entry
from theta_ml.settings import Settings


@dataclass(frozen=True)
class FailedTask:
    """A task, or the instance of it that belongs to one of the run's candidates."""

    task: str
    number: int | None
    recipe: str

    def __str__(self) -> str:
        return f"{self.task} of {self.recipe}" if self.recipe else self.task


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


def named(failed: list[FailedTask]) -> str:
    return ", ".join(map(str, failed))


def task_links(failed: list[FailedTask], settings: Settings, run_id: str) -> list[Link]:
    page = partial(airflow_run, settings.airflow, run_id)
    return [Link(f"{task} in Airflow", page(task.task, task.number)) for task in failed]


def failure_letter(
    month: str, failed: list[FailedTask], outcome: Outcome | None, champion: int | None, settings: Settings, run_id: str
) -> Letter:
    """`outcome` is what the gate said before, if it did."""
    return Letter(
        month=month,
        outcome="failed",
        headline=f"in {named(failed)}",
        tone="bad",
        sentence=sentence(month, failed),
        links=[
            *task_links(failed, settings, run_id),
            Link("The run in Airflow", airflow_run(settings.airflow, run_id)),
        ],
        footer=footer(month, run_id, champion),
        lines=[line_of(check) for check in outcome.verdict.checks] if outcome else [],
    )


def sentence(month: str, failed: list[FailedTask]) -> str:
    return f"Failed: the run of {month} stopped in {named(failed)}; the task's log says why."


def entry(month: str, failed: list[FailedTask], champion: int | None, run_id: str) -> Entry:
    """The ledger's row of a failure."""
    return Entry(
        run_id=run_id,
        month=month,
        decision="failed",
        sentence=sentence(month, failed),
        candidate_version=None,
        champion_before=champion,
        champion_after=champion,
        actor=ACTOR,
        numbers={"failed": list(map(str, failed))},
    )
