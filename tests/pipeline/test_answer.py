"""What comes of an answer, in the DAG as it stands, told by a stand-in for Airflow's supervisor."""

import runpy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskAwaitingInput
from theta_airflow import approval, evidence
from theta_airflow.approval import ANSWER, APPROVE, REJECT
from theta_airflow.evidence import Decided
from theta_airflow.stage_operator import StageOperator

from theta_ml.evaluation.verdict import Check, Verdict

DAG_FILE = Path(__file__).parents[2] / "dags" / "theta_retrain.py"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Began(Exception):
    """The stage's process would be started now."""


@pytest.fixture
def dag() -> Any:
    return runpy.run_path(str(DAG_FILE))["dag"]


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What each stage was told that began."""
    told: list[dict[str, str]] = []

    def begin(self: StageOperator, context: Any) -> None:
        told.append(self.told(context))
        raise Began

    monkeypatch.setattr(StageOperator, "execute", begin)
    return told


def verdict(decision: str = "promoted") -> Verdict:
    checks = [Check("interval_high", -0.0213, -0.01, True), Check("slice topic a|b <b>", None, 0.05, False, "*none*")]
    return Verdict("2026-02", decision, "Promoted: better by 2 %.", checks, candidate_version=7, champion_before=3)


@pytest.fixture
def context(dag: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Of a run with a verdict; `answer` is what `approve` noted."""

    def made(
        answer: dict[str, str] | None = None,
        decision: str = "promoted",
        wants: bool = True,
        decided: Decided | None = None,
    ) -> Any:
        for module in (approval, evidence):
            monkeypatch.setattr(module, "verdict_at", lambda _: verdict(decision))
        monkeypatch.setattr(approval, "decided_before", lambda run_id: decided)
        noted = {} if answer is None else {("approve", ANSWER): answer}
        ti = SimpleNamespace(
            id="ti",
            xcom_pull=lambda task_ids, key="return_value": noted.get((task_ids, key)),
            xcom_push=lambda key, value: noted.update({("approve", key): value}),
            noted=noted,
        )
        params = {"approval": wants, "approval_hours": 2, "month": "2026-02"}
        run = SimpleNamespace(run_id="run one", run_type="manual")
        return {"ti": ti, "task_instance": ti, "dag": dag, "dag_run": run, "params": params}

    return made


def test_the_branch_stands_between_the_verdict_and_what_it_does(dag: Any) -> None:
    upstream = {name: dag.get_task(name).upstream_task_ids for name in ("ask", "approve", "promote", "decline")}
    assert upstream == {"ask": {"decide"}, "approve": {"ask"}, "promote": {"approve"}, "decline": {"approve"}}
    approve, promote = dag.get_task("approve"), dag.get_task("promote")
    assert isinstance(approve, HITLBranchOperator)
    assert approve.defaults == [REJECT]
    assert approve.options_mapping == {APPROVE: "promote", REJECT: "decline"}
    assert approve.execution_timeout is None
    # Passed over with it, the decline is skipped, the promotion is not.
    assert promote.trigger_rule == TriggerRule.NONE_FAILED
    assert dag.get_task("decline").trigger_rule == TriggerRule.ALL_SUCCESS


def test_what_a_model_works_in_is_one_at_a_time_whatever_waits(dag: Any) -> None:
    assert {task.task_id for task in dag.tasks if task.pool == "gpu"} == {
        "preflight", "train", "select", "evaluate", "benchmark", "decide", "promote",
    }  # fmt: skip
    assert {dag.get_task(name).pool for name in ("ask", "approve", "decline")} == {"default_pool"}  # a wait holds none
    assert dag.max_active_runs == 16


def test_nobody_is_asked_where_the_run_wants_no_approval(dag: Any, context: Any, begun: list[Any]) -> None:
    with pytest.raises(AirflowSkipException):
        dag.get_task("ask").execute(context(wants=False))
    with pytest.raises(Began):
        dag.get_task("promote").execute(context(wants=False))
    assert begun == [{"approved_by": ""}]


def test_who_asks_tells_how_long_and_where(dag: Any, context: Any, begun: list[dict[str, str]]) -> None:
    with pytest.raises(Began):
        dag.get_task("ask").execute(context())
    assert begun[0]["hours"] == "2"
    assert begun[0]["url"].endswith("/dags/theta_retrain/runs/run%20one/tasks/approve/required_actions")


@pytest.mark.parametrize(
    ("task", "option", "name"), [("promote", APPROVE, "approved_by"), ("decline", REJECT, "answered_by")]
)
def test_only_its_own_answer_lets_a_stage_work_and_it_is_told_whose_it_was(
    dag: Any, context: Any, begun: list[dict[str, str]], task: str, option: str, name: str
) -> None:
    with pytest.raises(Began):
        dag.get_task(task).execute(context({"option": option, "by": "ada"}))
    assert begun[0][name] == "ada"
    other = {APPROVE: REJECT, REJECT: APPROVE}[option]
    for answer in (None, {"option": other, "by": "ada"}):  # a task marked as done, or skipped, by hand
        with pytest.raises(AirflowFailException, match="clear `approve`"):
            dag.get_task(task).execute(context(answer))


def test_a_no_of_the_gate_is_no_question(dag: Any, context: Any, begun: list[Any]) -> None:
    with pytest.raises(AirflowSkipException):
        dag.get_task("promote").execute(context(decision="rejected"))
    assert begun == []


def test_the_question_holds_sentence_checks_and_deadline_and_its_markup_is_its_own(
    dag: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **row: asked.update(row))
    with pytest.raises(TaskAwaitingInput) as waiting:
        dag.get_task("approve").execute(context())
    assert waiting.value.timeout == timedelta(hours=2)
    assert "2026-02" in asked["subject"]
    assert "version 7" in asked["subject"]
    assert "**The gate says yes: better by 2 %.**" in asked["body"]
    assert "| ✓ | interval high | \\-0.0213 | \\-0.01 |  |" in asked["body"]
    assert "| ✗ | slice topic a\\|b \\<b\\> | missing | 0.05 | \\*none\\* |" in asked["body"]


def test_people_are_asked_although_mlflow_is_away_and_are_told_that_links_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    known = replace(verdict(), comparison_url="http://mlflow/#/compare", mlflow_run_id="4f")
    body = evidence.approval_body(known, NOW)
    assert "- [The candidate in MLflow](http://mlflow/#/compare)\n- Reports are not linked here: MLflow did not" in body
    assert "| ✓ | interval high |" in body


def test_cleared_after_the_run_has_decided_it_follows_the_ledger_and_asks_nobody(
    dag: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches: list[Any] = []
    monkeypatch.setattr(HITLBranchOperator, "do_branch", lambda *_: branches.append(_[-1]))
    now = context(decided=Decided(False, "Rejected: ada said no.", "ada"))
    dag.get_task("approve").execute(now)
    assert branches == [["decline"]]
    assert now["ti"].noted["approve", ANSWER] == {"option": REJECT, "by": "ada"}


@pytest.mark.parametrize(
    ("late", "person", "noted"),
    [
        (timedelta(0), {"id": "1", "name": "ada"}, {"option": APPROVE, "by": "ada"}),
        (timedelta(hours=3), {"id": "1", "name": "ada"}, {"option": REJECT, "by": ""}),
    ],
)
def test_an_answer_is_noted_with_its_name_unless_it_came_too_late(
    dag: Any,
    context: Any,
    monkeypatch: pytest.MonkeyPatch,
    late: timedelta,
    person: dict[str, str],
    noted: dict[str, str],
) -> None:
    branches: list[Any] = []
    monkeypatch.setattr(
        HITLBranchOperator, "do_branch", lambda self, context, branches_to_execute: branches.append(branches_to_execute)
    )
    now = context()
    event = {"chosen_options": [APPROVE], "params_input": {}, "responded_at": NOW + late, "responded_by_user": person}
    dag.get_task("approve").execute_complete(now, event, (NOW + timedelta(hours=2)).isoformat())
    assert now["ti"].noted["approve", ANSWER] == noted
    assert branches == [["promote" if noted["option"] == APPROVE else "decline"]]
