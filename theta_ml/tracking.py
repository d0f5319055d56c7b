"""MLflow as Theta uses it: one run for each retraining, found by its tag, written to by several stages and attempts.

Under it, one for each candidate that the retraining trained.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from theta_ml.settings import Settings, SettingsError
from theta_ml.stage import StageFailed, StageRetry
from theta_ml.store import explanation

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

Answer = TypeVar("Answer")
RUN_TAG = "theta.run_id"
MONTH_TAG = "theta.month"
RECIPE_TAG = "theta.recipe"
PARENT_TAG = "mlflow.parentRunId"  # MLflow's own: its pages show such a run under its parent
_CREATION_LOCK = 0x7468657461_04  # beside the numbers of theta_ml.landing.locks
_LONGEST_PARAM = 6000
_BATCH = 500
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",  # 15 s of patience; after that the task's own retry is the better one
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout carries what a stage made
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
_TRANSIENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}


def client(settings: Settings) -> "MlflowClient":
    """A client of the configured server. Importing MLflow takes about 2 s. Raises SettingsError where none is set."""
    return _client(settings.require_mlflow())


@lru_cache(maxsize=4)
def _client(uri: str) -> "MlflowClient":
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def mlflow_answers(settings: Settings) -> Iterator[None]:
    """Turns a server that is away into StageRetry, and what is wrong with the bucket of its files, where they go to one
    straight from here, into StageRetry or SettingsError; whatever else fails passes through."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in _TRANSIENT:
            raise
        raise StageRetry(f"MLflow did not answer: {str(error).splitlines()[0][:300]}") from error
    except Exception as error:
        known = _bucket_fault(error, settings.mlflow_artifacts_url)
        if known is None:
            raise
        raise known from error


def _bucket_fault(error: Exception, url: str | None) -> Exception | None:
    """None for what is no fault of the bucket at `url`: what fails on this machine names a file."""
    if url is None or getattr(error, "filename", None) is not None:
        return None
    return explanation(error, url, "use", "THETA_MLFLOW_ARTIFACTS_URL")


def if_there(settings: Settings, ask: Callable[[], Answer]) -> Answer | None:
    """What MLflow answers; None where it does not have it, or has it no more. Raises StageRetry where it is away."""
    from mlflow.exceptions import MlflowException

    try:
        with mlflow_answers(settings):
            return ask()
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def retraining_run(settings: Settings, run_id: str, month: str) -> str:
    """The MLflow run of the retraining `run_id`, made where there is none yet.

    MLflow cannot make a run under a unique name, so an advisory lock of the ledger's database serialises creation.
    Raises StageRetry where a server is away, StageFailed where the retraining had another month before.
    """
    mlflow = client(settings)
    with mlflow_answers(settings):
        found = _find(mlflow, settings, run_id)
        if found is None:
            with _creating(settings):
                found = _find(mlflow, settings, run_id) or _create(mlflow, settings, run_id, month)
    if found.data.tags.get(MONTH_TAG) != month:
        raise StageFailed(
            f"the run {run_id} retrained {found.data.tags.get(MONTH_TAG)}, not {month}; name another with --run"
        )
    return found.info.run_id


def candidate_run(settings: Settings, run_id: str, month: str, recipe: str) -> str:
    """The MLflow run of one candidate of the retraining `run_id`, nested under the retraining's own; made likewise.

    Raises as `retraining_run` does.
    """
    parent = retraining_run(settings, run_id, month)
    mlflow = client(settings)
    with mlflow_answers(settings):
        found = _find_candidate(mlflow, parent, recipe)
        if found is None:
            with _creating(settings):
                found = _find_candidate(mlflow, parent, recipe) or _create_candidate(mlflow, parent, month, recipe)
    return found.info.run_id


def end_run(settings: Settings, run_id: str, status: str) -> None:
    """Sets the status of the retraining's run, `FINISHED` or `FAILED`, where it has one.

    A candidate of it that still counts as running has failed: whoever is trained was ended by `end_candidate`.
    """
    mlflow = client(settings)
    with mlflow_answers(settings):
        found = _find(mlflow, settings, run_id)
        if found is None:
            return
        for candidate in _candidates(mlflow, found):
            if candidate.info.status == "RUNNING":
                mlflow.set_terminated(candidate.info.run_id, "FAILED")
        if found.info.status != status:
            mlflow.set_terminated(found.info.run_id, status)


def end_candidate(settings: Settings, mlflow_run: str, finished: float) -> None:
    """A candidate that is trained has finished, whatever became of an earlier attempt.

    `finished` is when, in seconds since 1970; a training that was found, and not made, ended as its run began.
    """
    mlflow = client(settings)
    with mlflow_answers(settings):
        info = mlflow.get_run(mlflow_run).info
        if info.status != "FINISHED":
            mlflow.set_terminated(mlflow_run, "FINISHED", max(int(finished * 1000), info.start_time))


def _find(mlflow: "MlflowClient", settings: Settings, run_id: str) -> "Run | None":
    experiment = mlflow.get_experiment_by_name(settings.experiment)
    if experiment is None:
        return None
    if experiment.lifecycle_stage != "active":
        raise StageFailed(
            f"the MLflow experiment {settings.experiment} was deleted; restore it, or set THETA_EXPERIMENT"
        )
    quote = '"' if "'" in run_id else "'"  # MLflow's filters know no escape
    filter_string = f"tags.`{RUN_TAG}` = {quote}{run_id}{quote}"
    return next(iter(mlflow.search_runs([experiment.experiment_id], filter_string, max_results=1)), None)


def _create(mlflow: "MlflowClient", settings: Settings, run_id: str, month: str) -> "Run":
    experiment = mlflow.get_experiment_by_name(settings.experiment)
    experiment_id = found_experiment(settings, experiment) or create_experiment(settings, settings.experiment)
    return mlflow.create_run(experiment_id, tags={RUN_TAG: run_id, MONTH_TAG: month}, run_name=month)


def _candidates(mlflow: "MlflowClient", parent: "Run", recipe: str | None = None) -> "list[Run]":
    of_recipe = "" if recipe is None else f" and tags.`{RECIPE_TAG}` = '{recipe}'"  # a file's name: without quotes
    filter_string = f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'{of_recipe}"
    return list(mlflow.search_runs([parent.info.experiment_id], filter_string))


def _find_candidate(mlflow: "MlflowClient", parent: str, recipe: str) -> "Run | None":
    return next(iter(_candidates(mlflow, mlflow.get_run(parent), recipe)), None)


def _create_candidate(mlflow: "MlflowClient", parent: str, month: str, recipe: str) -> "Run":
    tags = {PARENT_TAG: parent, RECIPE_TAG: recipe, MONTH_TAG: month}
    experiment = mlflow.get_run(parent).info.experiment_id
    return mlflow.create_run(experiment, tags=tags, run_name=f"{month} {recipe}")


def found_experiment(settings: Settings, found: "Experiment | None") -> str | None:
    """Its id. Raises SettingsError where its files go elsewhere than the settings say: MLflow cannot move it."""
    if found is None:
        return None
    root = settings.mlflow_artifacts_url
    if root and not found.artifact_location.startswith(root.rstrip("/") + "/"):
        raise SettingsError(
            f"the MLflow experiment {found.name} keeps its files at {found.artifact_location}, which cannot change: "
            f"set THETA_EXPERIMENT to a new name to have them at {root}, or take THETA_MLFLOW_ARTIFACTS_URL back"
        )
    return str(found.experiment_id)


def create_experiment(settings: Settings, name: str) -> str:
    """Its id."""
    root = settings.mlflow_artifacts_url
    # The kind spares the reader a page that asks whether this is about prompts.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    location = f"{root.rstrip('/')}/{name}" if root else None
    return str(client(settings).create_experiment(name, artifact_location=location, tags=tags))


@contextmanager
def _creating(settings: Settings) -> Iterator[None]:
    import psycopg

    try:
        connection = psycopg.connect(settings.require_database(), connect_timeout=10)
    except psycopg.OperationalError as error:
        raise StageRetry(f"Postgres did not answer: {error}") from error
    with connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
        yield


def run_url(settings: Settings, mlflow_run: str) -> str | None:
    """The run's page; None where the server has no pages. Raises StageRetry where it is away."""
    base = settings.mlflow_pages
    if base is None:
        return None
    with mlflow_answers(settings):
        experiment = client(settings).get_run(mlflow_run).info.experiment_id
    return f"{base}/#/experiments/{experiment}/runs/{mlflow_run}"


def log_params(settings: Settings, mlflow_run: str, params: Mapping[str, Any]) -> None:
    """Parameters of the run. MLflow's are immutable: one that a later attempt changed becomes the tag `param.NAME`."""
    from mlflow.entities import Param, RunTag

    mlflow = client(settings)
    with mlflow_answers(settings):
        there = mlflow.get_run(mlflow_run).data.params
        texts = {name: str(value)[:_LONGEST_PARAM] for name, value in params.items()}
        new = [Param(name, text) for name, text in texts.items() if name not in there]
        changed = [RunTag(f"param.{n}", text) for n, text in texts.items() if n in there and there[n] != text]
        for start in range(0, max(len(new), len(changed)), 100):  # the most that one request may hold
            mlflow.log_batch(mlflow_run, params=new[start : start + 100], tags=changed[start : start + 100])


def set_tags(settings: Settings, mlflow_run: str, tags: Mapping[str, Any]) -> None:
    from mlflow.entities import RunTag

    with mlflow_answers(settings):
        client(settings).log_batch(mlflow_run, tags=[RunTag(name, str(value)[:5000]) for name, value in tags.items()])


def log_metrics(settings: Settings, mlflow_run: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Metrics by step: each row holds `step` and numbers by name; `time` (seconds since 1970) where it is known.

    What is no number is left out. Raises StageRetry where the server is away: history.jsonl is what counts, and
    `replay` adds later what did not arrive.
    """
    import time

    from mlflow.entities import Metric

    metrics = [
        Metric(name, float(value), int(row.get("time", time.time()) * 1000), int(row["step"]))
        for row in rows
        for name, value in _numbers(row)
    ]
    with mlflow_answers(settings):
        for start in range(0, len(metrics), _BATCH):
            client(settings).log_batch(mlflow_run, metrics=metrics[start : start + _BATCH])


def replay(settings: Settings, mlflow_run: str, rows: list[dict[str, Any]]) -> int:
    """Logs the points of `rows` that live logging lost, and says how many they were."""
    mlflow = client(settings)
    names = {name for row in rows for name, _ in _numbers(row)}
    with mlflow_answers(settings):
        there = {name: {point.step for point in mlflow.get_metric_history(mlflow_run, name)} for name in names}
    missing = [
        {"step": row["step"], **({"time": row["time"]} if "time" in row else {}), **left}
        for row in rows
        if (left := {name: value for name, value in _numbers(row) if row["step"] not in there[name]})
    ]
    log_metrics(settings, mlflow_run, missing)
    return sum(1 for row in missing for _ in _numbers(row))


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if name in ("step", "time") or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):  # MLflow draws an infinity as 1.8e308
            yield name, value
