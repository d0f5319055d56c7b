"""A real MLflow server for the whole session, started when the first test asks for it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

READY_SECONDS = 120


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the server's database and files."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def mlflow_gc(mlflow_uri: str, mlflow_folder: Path) -> Callable[[str], None]:
    """Takes a run away for good, as `mlflow gc` does."""

    def gc(run: str) -> None:
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=mlflow_uri).delete_run(run)
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", f"sqlite:///{mlflow_folder}/mlflow.db"]
        subprocess.run(
            [*command, "--run-ids", run],
            env={**os.environ, "MLFLOW_TRACKING_URI": mlflow_uri, "MLFLOW_DISABLE_TELEMETRY": "true"},
            check=True,
        )

    return gc


@pytest.fixture(scope="session")
def mlflow_uri(mlflow_folder: Path) -> Iterator[str]:
    folder = mlflow_folder
    uri = f"http://127.0.0.1:{_free_port()}"
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
