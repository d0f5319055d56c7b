"""Settings of an installation of the test's own, and a pipeline that runs in it."""

import uuid
from pathlib import Path

import pytest

from tests.registry.pipeline import Pipeline, script
from theta_ml.settings import Settings


@pytest.fixture
def settings(request: pytest.FixtureRequest, mlflow_uri: str, database_url: str, tmp_path: Path) -> Settings:
    """Each test has a database, an experiment and a registered model of its own; the files are in a bucket for a test
    that is parametrized so."""
    bucket = request.getfixturevalue("bucket") if getattr(request, "param", "") == "bucket" else None
    name = f"theta-{uuid.uuid4().hex[:8]}"
    return Settings(
        home=tmp_path,
        database_url=database_url,  # type: ignore[arg-type]
        mlflow_tracking_uri=mlflow_uri,
        artifacts_url=f"{bucket}/artifacts" if bucket else None,
        mlflow_artifacts_url=f"{bucket}/mlflow" if bucket else None,
        experiment=name,
        registered_model=name,
        airflow_url="http://airflow.test",
        mail_to="engineers@theta.test",
        mail_from="theta@theta.test",
    )


@pytest.fixture
def pipeline(settings: Settings) -> Pipeline:
    return Pipeline(settings)


@pytest.fixture
def measuring(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """A pipeline whose evaluations can be asked for anew; see `Pipeline.measured`."""
    script(monkeypatch)
    return pipeline


@pytest.fixture
def hand(measuring: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """An installation that `theta` finds."""
    settings = measuring.settings
    monkeypatch.setenv("THETA_HOME", str(settings.home))
    monkeypatch.setenv("THETA_DATABASE_URL", settings.require_database())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.require_mlflow())
    monkeypatch.setenv("THETA_REGISTERED_MODEL", settings.registered_model)
    monkeypatch.setenv("THETA_EXPERIMENT", settings.experiment)
    if settings.artifacts_url and settings.mlflow_artifacts_url:
        monkeypatch.setenv("THETA_ARTIFACTS_URL", settings.artifacts_url)
        monkeypatch.setenv("THETA_MLFLOW_ARTIFACTS_URL", settings.mlflow_artifacts_url)
    monkeypatch.setenv("COLUMNS", "200")
    return measuring
