"""Runs on the session's stack that several files look at, each made once: training takes a minute."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from tests.pipeline.drive import theta, theta_json, until
from theta_ml.cli.airflow import WAITING, Airflow
from theta_ml.store import Store

FIRST, SECOND, DAMAGED = "2026-01", "2026-02", "2026-03"


@dataclass(frozen=True)
class Approval:
    """A run that asks for a person's yes."""

    stack: Any
    run_id: str

    @classmethod
    def begin(cls, stack: Any, hours: float | None = None) -> "Approval":
        deadline = () if hours is None else ("--approval-hours", str(hours))
        begun = theta_json(stack.env, "retrain", "--month", SECOND, "--approval", *deadline)
        return cls(stack, begun["run_id"])

    def until_it_waits(self) -> None:
        """And until the scheduler has noticed: Airflow 3.3.2 asks again where somebody answers within that second."""
        until(f"{self.run_id} waits for a person", lambda: self.states()["approve"] == WAITING or self._over(), 600)
        asked = re.compile(rf"Finished:.* task_id=approve, run_id={re.escape(self.run_id)},.* state=awaiting_input,")
        log = self.stack.home / "logs" / "scheduler.log"
        until("the scheduler notices", lambda: asked.search(log.read_text()), 60)

    def _over(self) -> bool:
        """Fails where the run has ended, which did not wait for anybody then."""
        with Airflow(self.stack.settings) as airflow:
            run = airflow.run(self.run_id)
        assert not run.finished, f"{run.state}: {run.tasks}"
        return False

    def states(self) -> dict[str, str | None]:
        with Airflow(self.stack.settings) as airflow:
            return airflow.run(self.run_id).tasks

    def verdict(self) -> dict[str, Any]:
        """What `decide` wrote."""
        with Airflow(self.stack.settings) as airflow:
            artifact = airflow.artifacts(self.run_id)["decide"]
        store = Store(self.stack.settings.artifacts, self.stack.home / "cache")
        found: dict[str, Any] = store.open(artifact["uri"]).document["value"]
        return found

    def question(self) -> dict[str, Any]:
        with Airflow(self.stack.settings) as airflow:
            return airflow.question(self.run_id, "approve")

    def answer(self, option: str) -> None:
        with Airflow(self.stack.settings) as airflow:
            airflow.answer(self.run_id, "approve", option)

    def page(self, task: str = "") -> str:
        """Where the answer is given, or another task's log."""
        with Airflow(self.stack.settings) as airflow:
            return f"{airflow.page(self.run_id)}/tasks/{task}" if task else airflow.action(self.run_id, "approve")

    def row(self) -> dict[str, Any]:
        """The ledger's, once the run is over."""
        with Airflow(self.stack.settings) as airflow:
            until(f"{self.run_id} ends", lambda: airflow.run(self.run_id).finished, 600)
            assert airflow.run(self.run_id).state == "success"
        (row,) = (each for each in theta_json(self.stack.env, "ledger") if each["run_id"] == self.run_id)
        found: dict[str, Any] = row
        return found


@pytest.fixture(scope="session")
def first(stack: Any) -> dict[str, Any]:
    """The first champion, of the first of three simulated months: the second is better, the third is damaged.

    From here on the session's stack trains short: what is looked at is what comes of it.
    """
    (stack.home / "recipes").mkdir()
    (stack.home / "recipes" / "continue.yaml").write_text("summary: Short\nstart: champion\nhyper:\n  max_steps: 80\n")
    theta(stack.env, "simulate", "--months", "3", "--seed", "7", "--start", FIRST)
    run: dict[str, Any] = theta_json(stack.env, "retrain", "--month", FIRST, "--bootstrap", "--wait")
    assert run["decision"]["decision"] == "bootstrap"
    return run


@pytest.fixture(scope="session")
def unanswered(stack: Any, first: dict[str, Any]) -> Approval:
    """A run of the second month that nobody answered by its deadline, some seconds after it asked."""
    run = Approval.begin(stack, hours=0.002)
    run.row()
    return run
