"""The operator in the DAG as it stands, told of tasks' states and results by a stand-in for Airflow's supervisor."""

import runpy
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from theta_airflow import stage_operator
from theta_airflow.shards import BEFOREHAND

from theta_ml.cli.stage import load_stage
from theta_ml.code import code_version
from theta_ml.stage import parse_spec

DAG_FILE = Path(__file__).parents[2] / "dags" / "theta_retrain.py"


@pytest.fixture(scope="module")
def dag() -> Any:
    return runpy.run_path(str(DAG_FILE))["dag"]


def context(
    dag: Any, states: dict[str, str] | None = None, results: dict[str, list[Any]] | None = None, map_index: int = -1
) -> Any:
    """As Airflow names things: the state of an instance as TASK_INDEX, `results` by task in the order of indexes."""

    def get_task_states(task_ids: list[str] | None, **_: Any) -> dict[str, dict[str, str]]:
        wanted = [name for name in states or {} if not task_ids or name.rpartition("_")[0] in task_ids]
        return {"run": {name: (states or {})[name] for name in wanted}}

    def xcom_pull(task_ids: str, map_indexes: int | None = None) -> Any:
        found = [{"code": code_version(), **artifact} for artifact in (results or {}).get(task_ids, [])]
        return found if map_indexes is None else found[map_indexes]

    ti = SimpleNamespace(get_task_states=get_task_states, xcom_pull=xcom_pull, map_index=map_index)
    return {"ti": ti, "dag": dag, "dag_run": SimpleNamespace(dag_id=dag.dag_id, run_id="run")}


def test_a_candidate_takes_its_own_corpus_and_the_choice_takes_all(dag: Any) -> None:
    results = {"prepare": [{"uri": "p0"}, {"uri": "p1"}], "train": [{"uri": "t0"}, {"uri": "t1"}]}
    results |= {"preflight": [{"uri": "f0"}, {"uri": "f1"}], "snapshot": [{"uri": "s"}]}
    assert dag.get_task("train")._input_uris(context(dag, None, results, 1)) == ["p1", "f1"]
    assert dag.get_task("select")._input_uris(context(dag, None, results)) == ["s", "t0", "t1"]
    assert dag.get_task("evaluate")._input_uris(context(dag, None, results)) == ["s"]


def test_a_run_goes_on_with_the_code_that_began_it_and_tells_of_others_all_the_same(dag: Any) -> None:
    """Raised is what Airflow tries again, perhaps on a worker that has that code."""
    results = {"snapshot": [{"uri": "s"}], "select": [{"uri": "c", "code": "0123456789ab", "host": "worker-2"}]}
    with pytest.raises(
        AirflowException, match=f"by code 0123456789ab on worker-2, and .* has code {code_version()}"
    ) as e:
        dag.get_task("evaluate")._input_uris(context(dag, None, results))
    assert not isinstance(e.value, AirflowFailException)
    assert "clear the run from its first task" in str(e.value)
    results["select"][0]["host"] = socket.gethostname()
    with pytest.raises(AirflowFailException, match="Clear the run from its first task"):  # no other try would help
        dag.get_task("evaluate")._input_uris(context(dag, None, results))
    assert dag.get_task("notify")._input_uris(context(dag, None, results)) == ["c"]


@pytest.mark.parametrize(("train_on", "queue"), [("here", "default"), ("queue", "gpu"), ("kubernetes", "default")])
def test_one_setting_says_which_workers_take_what_needs_the_gpu(
    train_on: str, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_TRAIN_ON", train_on)
    tasks = runpy.run_path(str(DAG_FILE))["dag"].tasks
    assert {task.queue for task in tasks if task.pool == "gpu"} == {queue}
    assert {task.queue for task in tasks if task.pool != "gpu"} == {"default"}


def test_the_choice_ends_as_the_candidates_did(dag: Any) -> None:
    require = stage_operator._require_success
    require("train", context(dag, {"train_0": "failed", "train_1": "success", "train_2": "skipped"}))
    with pytest.raises(AirflowSkipException):
        require("train", context(dag, {"train_0": "skipped", "train_1": "skipped"}))
    with pytest.raises(AirflowFailException):
        require("train", context(dag, {"train_0": "upstream_failed", "train_1": "skipped"}))


def test_only_what_failed_of_itself_is_told_and_of_each_candidate(dag: Any) -> None:
    states = {"snapshot": "success", "prepare_0": "success", "prepare_1": "success", "preflight_0": "failed"}
    states |= {"preflight_1": "success", "train_0": "upstream_failed", "train_1": "failed", "select": "failed"}
    assert dag.get_task("notify")._failed_tasks(context(dag, states)) == ["preflight[0]", "train[1]"]


def test_what_works_beforehand_fails_no_run_and_excuses_nobody(dag: Any) -> None:
    """Indexes of shards are those of no recipe."""
    states = {"extract_0": "success", "extract_1": "failed", "tokenizer_0": "failed", "spool_0": "upstream_failed"}
    states |= {"spool_1": "failed", "snapshot": "success", "prepare_0": "success", "prepare_1": "success"}
    notify = dag.get_task("notify")
    assert notify._failed_tasks(context(dag, states)) == []
    assert notify._failed_tasks(context(dag, {"shards": "failed", "extract": "upstream_failed"})) == []
    assert notify._failed_tasks(context(dag, states | {"snapshot": "failed"})) == ["snapshot"]
    assert notify._failed_tasks(context(dag, states | {"prepare_1": "failed"})) == ["prepare[1]"]
    after = {name for task in BEFOREHAND for name in dag.get_task(task).downstream_task_ids} - set(BEFOREHAND)
    assert {name: dag.get_task(name).trigger_rule for name in after} == dict.fromkeys(
        ("snapshot", "spooled"), "all_done"
    )


@pytest.mark.parametrize("accepted", [True, False])
def test_a_feed_that_a_person_accepted_is_accepted_by_drift_and_by_no_other_stage(dag: Any, accepted: bool) -> None:
    task = dag.get_task("drift")
    told = task.render_template(task.values, {"params": {"accept_feed": accepted}})
    assert parse_spec(load_stage("drift"), {"month": "2026-02", **told}).accepted is accepted
    assert [other.task_id for other in dag.tasks if "accepted" in getattr(other, "values", {})] == ["drift"]
    assert dag.params["accept_feed"] is False
