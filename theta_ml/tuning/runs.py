"""A study in MLflow: a run for the tuning, and a nested one for each trial, made from what Postgres holds of it.

The study is what counts: where MLflow is away, the next call brings what is missing.
"""

import json
from typing import TYPE_CHECKING, Any

from theta_ml import tracking
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from optuna.trial import FrozenTrial

STUDY_TAG, TRIAL_TAG, STATE_TAG = "theta.tuning", "theta.trial", "theta.state"
HISTORY = "history"
"""User attribute of a trial: its lines of history, as in history.jsonl."""
LOSS = "validation_loss"
BEST = "best_validation_loss"
_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def mirror(settings: Settings, study: "optuna.Study", params: dict[str, Any], ended: bool = False) -> str:
    """Brings MLflow up to date; returns the id of the tuning's run, whose parameters are `params`.

    Raises StageRetry where MLflow is away, StageFailed where the experiment was deleted.
    """
    mlflow = tracking.client(settings)
    with tracking.mlflow_answers(settings):
        experiment = _experiment(settings, f"{settings.experiment}-tuning")
        runs = _runs(mlflow, experiment, study.study_name)
        parent = runs.get("") or mlflow.create_run(
            experiment, tags={STUDY_TAG: study.study_name}, run_name=study.study_name
        )
    tracking.log_params(settings, parent.info.run_id, params)
    for trial in study.get_trials(deepcopy=False):
        run = runs.get(str(trial.number))
        if trial.state.is_finished() and (run is None or run.info.status == "RUNNING"):
            _log_trial(settings, mlflow, experiment, parent, study, trial, run)
    tracking.log_metrics(settings, parent.info.run_id, _best_so_far(study))
    with tracking.mlflow_answers(settings):
        if ended and parent.info.status != "FINISHED":
            mlflow.set_terminated(parent.info.run_id, "FINISHED")
        elif not ended and parent.info.status == "FINISHED":
            mlflow.update_run(parent.info.run_id, "RUNNING")
    return parent.info.run_id


def _experiment(settings: Settings, name: str) -> str:
    found = tracking.client(settings).get_experiment_by_name(name)
    if found and found.lifecycle_stage != "active":
        raise StageFailed(f"the MLflow experiment {name} was deleted; restore it, or set THETA_EXPERIMENT")
    return tracking.found_experiment(settings, found) or tracking.create_experiment(settings, name)


def _runs(mlflow: "MlflowClient", experiment: str, study: str) -> dict[str, "Run"]:
    """The study's runs by the number of their trial; the tuning's own under an empty one."""
    runs: dict[str, Run] = {}
    token: str | None = None
    while True:
        page = mlflow.search_runs([experiment], f"tags.`{STUDY_TAG}` = '{study}'", page_token=token)
        runs |= {run.data.tags.get(TRIAL_TAG, ""): run for run in page}
        token = page.token
        if not token:
            return runs


def _log_trial(
    settings: Settings,
    mlflow: "MlflowClient",
    experiment: str,
    parent: "Run",
    study: "optuna.Study",
    trial: "FrozenTrial",
    run: "Run | None",
) -> None:
    history = json.loads(trial.user_attrs.get(HISTORY, "[]"))
    with tracking.mlflow_answers(settings):
        if run is None:
            tags = {tracking.PARENT_TAG: parent.info.run_id, STUDY_TAG: study.study_name, TRIAL_TAG: str(trial.number)}
            run = mlflow.create_run(experiment, _millis(trial.datetime_start), tags, f"trial {trial.number}")
    number = run.info.run_id
    said: dict[str, Any] = {key: trial.user_attrs[key] for key in ("start", "note") if key in trial.user_attrs}
    tracking.log_params(settings, number, trial.params)
    tracking.set_tags(settings, number, {STATE_TAG: trial.state.name.lower(), **said})
    losses = [line[LOSS] for line in history if LOSS in line]
    summary = [{"step": history[-1]["step"], BEST: min(losses)}] if losses else []
    tracking.log_metrics(settings, number, [*history, *summary])
    with tracking.mlflow_answers(settings):
        mlflow.set_terminated(number, _STATUS[trial.state.name], _millis(trial.datetime_complete))


def _best_so_far(study: "optuna.Study") -> list[dict[str, Any]]:
    """A point for each finished trial: the best loss that was known by then."""
    rows: list[dict[str, Any]] = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "COMPLETE" and trial.value is not None:
            assert trial.datetime_complete
            best = min([trial.value, *(row[BEST] for row in rows)])
            rows.append({"step": trial.number, "time": trial.datetime_complete.timestamp(), BEST: best})
    return rows


def _millis(instant: Any) -> int | None:
    return int(instant.timestamp() * 1000) if instant else None
