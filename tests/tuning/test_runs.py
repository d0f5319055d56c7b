"""A study in MLflow: nested runs, once each, and what was missing when the server was away."""

import json
from pathlib import Path

import pytest

from tests.tuning.small import Home, shrink
from theta_ml.settings import Settings
from theta_ml.tracking import client
from theta_ml.tuning.runs import STATE_TAG, STUDY_TAG, TRIAL_TAG
from theta_ml.tuning.winner import find_winner


def test_trials_are_nested_runs_and_those_that_were_missed_come_later(
    tmp_path: Path, database_url: str, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    shrink(monkeypatch)
    home = Home(tmp_path, database_url)
    uri = home.study(minutes=30, trials=3, sampler="random")
    home.tuning(uri).next_trial()  # no server is set
    home.settings = Settings(home=tmp_path, database_url=database_url, mlflow_tracking_uri=mlflow_uri)  # type: ignore[arg-type]
    tuning = home.tuning(uri)
    tuning.next_trial()
    tuning.next_trial()
    found = find_winner(tuning)
    experiment = client(home.settings).get_experiment_by_name("theta-tuning")
    assert experiment is not None
    runs = client(home.settings).search_runs([experiment.experiment_id], f"tags.`{STUDY_TAG}` = '{found.study}'")
    (parent,) = [run for run in runs if TRIAL_TAG not in run.data.tags]
    children = {int(run.data.tags[TRIAL_TAG]): run for run in runs if TRIAL_TAG in run.data.tags}
    assert sorted(children) == [0, 1, 2]
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_validation_loss"] == pytest.approx(found.loss)
    for trial in tuning.study().trials:
        run = children[trial.number]
        assert run.data.tags[STATE_TAG] == trial.state.name.lower()
        assert float(run.data.params["rate"]) == pytest.approx(trial.params["rate"])
        curve = client(home.settings).get_metric_history(run.info.run_id, "validation_loss")
        lines = [line for line in json.loads(trial.user_attrs["history"]) if "validation_loss" in line]
        assert [(point.step, point.value) for point in curve] == [(x["step"], x["validation_loss"]) for x in lines]


def test_a_deleted_experiment_ends_no_search(
    tmp_path: Path, database_url: str, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THETA_HOME", str(tmp_path))
    monkeypatch.setenv("THETA_EXPERIMENT", "away")  # the server's other runs are other tests'
    shrink(monkeypatch)
    home = Home(tmp_path, database_url, mlflow_uri)
    uri = home.study(minutes=30, trials=2, sampler="random")
    mlflow = client(home.settings)
    experiment = mlflow.get_experiment_by_name("away-tuning")
    assert experiment is not None
    mlflow.delete_experiment(experiment.experiment_id)
    tuning = home.tuning(uri)
    assert tuning.next_trial().state == "complete"
    mlflow.restore_experiment(experiment.experiment_id)
    tuning.next_trial()
    runs = mlflow.search_runs([experiment.experiment_id], f"tags.`{TRIAL_TAG}` != ''")
    assert sorted(run.data.tags[TRIAL_TAG] for run in runs) == ["0", "1"]
