"""How a tuning's run ends where its trials, or what stands before them, did not."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from theta_airflow import stage_operator


class Began(Exception):
    """The stage's process would be started now."""


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin(*_: Any) -> None:
        raise Began

    monkeypatch.setattr(stage_operator.StageOperator, "_arguments", begin)
    return runpy.run_path(str(Path(__file__).parents[2] / "dags" / "theta_tune.py"))["dag"]


@pytest.mark.parametrize(
    ("study", "outcome"),
    [
        ("success", Began),
        ("skipped", AirflowSkipException),
        ("failed", AirflowFailException),
        ("upstream_failed", AirflowFailException),
    ],
)
def test_without_a_study_the_winner_ends_as_it_did_whatever_the_trials_did(
    dag: Any, study: str, outcome: type[AirflowException]
) -> None:
    winner = dag.get_task("winner")
    assert winner.trigger_rule == TriggerRule.ALL_DONE
    states = {"study": study, "trial_0": "failed"}

    def asked(task_ids: list[str], **_: Any) -> dict[str, dict[str, str]]:
        return {"run": {name: state for name, state in states.items() if name in task_ids}}

    run = SimpleNamespace(dag_id="theta_tune", run_id="run")
    with pytest.raises(outcome):
        winner.execute({"dag_run": run, "dag": dag, "ti": SimpleNamespace(get_task_states=asked)})
