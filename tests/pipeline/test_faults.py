"""What dies in the middle of a run comes back, and the run ends as it would have."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import psycopg
import pytest

from tests.pipeline.drive import idle_worker, stage_processes, theta, theta_json, until
from theta_ml.cli.airflow import Airflow
from theta_ml.store import Store

pytestmark = [pytest.mark.stack, pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def months(stack: Any) -> Iterator[str]:
    """Names of simulated months, each used by one test: a run must not find what another one trained."""
    theta(stack.env, "simulate", "--months", "6", "--seed", "11", "--start", "2025-01")
    return iter(["2025-01", "2025-02", "2025-04", "2025-05", "2025-06"])


class OneTrainingAtATime:
    """Watches the process table and remembers the most trainings that were past the lock at once."""

    def __init__(self, stack: Any) -> None:
        self._stack = stack
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self.most = 0

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            self.most = max(self.most, sum(map(_is_training, stage_processes(self._stack.home, "train"))))

    def __enter__(self) -> "OneTrainingAtATime":
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()


def _is_training(process: psutil.Process) -> bool:
    """Past the lock: it keeps the lock's file open, where a waiting attempt opens it for an instant at a time."""
    try:
        return all(_has_lock_open(process, pause) for pause in (0, 0.05, 0.05))
    except psutil.NoSuchProcess:
        return False


def _has_lock_open(process: psutil.Process, pause: float) -> bool:
    time.sleep(pause)
    return any(file.path.endswith("/training.lock") for file in process.open_files())


def start(stack: Any, month: str) -> str:
    begun = theta_json(stack.env, "retrain", "--month", month, "--bootstrap")
    return str(begun["run_id"])


def training(stack: Any) -> psutil.Process:
    """The training process, once it has written its first checkpoint."""
    checkpoints = stack.home / "checkpoints"
    before = set(checkpoints.glob("*/*"))
    until("training begins", lambda: stage_processes(stack.home, "train"), 240)
    until("a checkpoint is written", lambda: set(checkpoints.glob("*/step-*")) - before, 120)
    return stage_processes(stack.home, "train")[0]


def service(stack: Any, name: str) -> psutil.Process:
    services = theta_json(stack.env, "status")["services"]
    return psutil.Process(next(each["pid"] for each in services if each["name"] == name))


def decision(stack: Any, run_id: str, seconds: float = 600) -> dict[str, Any]:
    def rows() -> list[dict[str, Any]]:
        done = theta(stack.env, "ledger", "--json", check=False)
        return [row for row in json.loads(done.stdout) if row["run_id"] == run_id] if done.returncode == 0 else []

    found: list[dict[str, Any]] = until(f"{run_id} is decided", rows, seconds)
    assert len(found) == 1
    return found[0]


def trained(stack: Any, run_id: str) -> dict[str, Any]:
    """The TrainedModel of a run."""
    with Airflow(stack.settings) as airflow:
        artifact = airflow.artifacts(run_id)["train[continue]"]
    found: dict[str, Any] = (
        Store(stack.settings.artifacts, stack.home / "cache").open(artifact["uri"]).document["value"]
    )
    return found


def test_a_killed_training_resumes(stack: Any, months: Iterator[str]) -> None:
    run_id = start(stack, next(months))
    with OneTrainingAtATime(stack) as watched:
        training(stack).send_signal(signal.SIGKILL)
        row = decision(stack, run_id)
    assert row["decision"] in {"bootstrap", "promoted", "rejected"}
    assert trained(stack, run_id)["resumed_from"] > 0
    assert watched.most == 1


@pytest.mark.parametrize("name", ["postgres", "scheduler", "api-server", "an idle worker"])
def test_a_killed_service_comes_back(stack: Any, months: Iterator[str], name: str) -> None:
    landed = conversations(stack)
    run_id = start(stack, next(months))
    with OneTrainingAtATime(stack) as watched:
        training(stack)
        victim = idle_worker(stack.home) if name == "an idle worker" else service(stack, name)
        victim.send_signal(signal.SIGKILL)
        row = decision(stack, run_id)
    assert row["decision"] != "failed"
    assert watched.most == 1
    until("the stack is healthy", lambda: theta_json_or_none(stack.env), 120)
    assert conversations(stack) == landed


def conversations(stack: Any) -> int:
    with psycopg.connect(stack.settings.require_database()) as connection:
        row = connection.execute("SELECT count(*) FROM conversations").fetchone()
    assert row
    return int(row[0])


def theta_json_or_none(env: dict[str, str]) -> Any:
    done = theta(env, "status", "--json", check=False)
    return done.returncode == 0 and json.loads(done.stdout)["healthy"]
