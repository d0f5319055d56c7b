"""A real MLflow server for the whole session, and settings that point at it and at a fresh database."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import free_ports
from tests.registry.pipeline import Pipeline
from theta_ml.settings import Settings

READY_SECONDS = 120


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"http://127.0.0.1:{free_ports(1)[0]}"
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PYTHONUNBUFFERED"] = "1"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", uri.rpartition(":")[2]]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(uri, server, folder / "log")
        yield uri
    finally:
        os.killpg(server.pid, 15)  # uvicorn's worker is a child of its own
        server.wait(30)


def _wait(uri: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the MLflow server ended: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{uri}/health", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)  # a server says by answering that it is ready, and in no other way
    pytest.fail(f"the MLflow server did not answer within {READY_SECONDS} s: {log.read_text()[-2000:]}")


@pytest.fixture
def settings(mlflow_uri: str, database_url: str, tmp_path: Path) -> Settings:
    """Each test has a database, an experiment and a registered model of its own."""
    name = f"theta-{uuid.uuid4().hex[:8]}"
    return Settings(
        home=tmp_path,
        database_url=database_url,  # type: ignore[arg-type]
        mlflow_tracking_uri=mlflow_uri,
        experiment=name,
        registered_model=name,
        airflow_url="http://airflow.test",
        mail_to="engineers@theta.test",
        mail_from="theta@theta.test",
    )


@pytest.fixture
def pipeline(settings: Settings) -> Pipeline:
    return Pipeline(settings)
