"""Reports of corpora that were put into MLflow as evidence, replaced by what the store has of them now."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from theta_ml.corpus.report import PAGE
from theta_ml.settings import Settings
from theta_ml.store import Store
from theta_ml.tracking import client, mlflow_answers

_PLACE = "prepare"


def replace_reports(settings: Settings, store: Store, corpora: frozenset[str]) -> int:
    """How many runs had an older report of one of these corpora. Raises StageRetry where MLflow is away."""
    if not corpora or not settings.mlflow_tracking_uri:
        return 0
    with mlflow_answers(settings):
        return sum(_replace(settings, store, run, corpora) for run in _runs(settings))


def _runs(settings: Settings) -> Iterator[str]:
    """Ids of all runs of the experiment, deleted ones too: their files stay."""
    from mlflow.entities import ViewType

    mlflow = client(settings)
    experiment = mlflow.get_experiment_by_name(settings.experiment)
    token = None
    while experiment:
        page = mlflow.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, page_token=token)
        yield from (run.info.run_id for run in page)
        token = page.token
        if not token:
            return


def _replace(settings: Settings, store: Store, run: str, corpora: frozenset[str]) -> bool:
    mlflow = client(settings)
    names = {file.path for file in mlflow.list_artifacts(run, _PLACE)}
    page, description = f"{_PLACE}/{PAGE}", f"{_PLACE}/{_PLACE}.json"
    if not {page, description} <= names:
        return False
    with tempfile.TemporaryDirectory() as folder:
        key = json.loads(Path(mlflow.download_artifacts(run, description, folder)).read_text())["key"]
        if key not in corpora:
            return False
        before = Path(mlflow.download_artifacts(run, page, folder)).read_bytes()
        with store.rewriting(store.uri(_PLACE, key)) as files:
            if before == files.path(PAGE).read_bytes():
                return False
            mlflow.log_artifact(run, str(files.path(PAGE)), _PLACE)
    return True
