"""The stack with Celery workers: a month goes through them while Redis is restarted, and outlives a killed worker."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Stack, run_theta, settings_of
from tests.local.test_stack import assert_nothing_left, await_health, look, pid_of
from tests.pipeline.drive import files, stage_processes, theta, theta_json, until
from theta_ml.bench.scale_overhead import end_redis, redis_url, start_redis
from theta_ml.bench.stack import free_ports, own_environment
from theta_ml.cli.airflow import Airflow
from theta_ml.local.workers import QUEUES
from theta_ml.store import Store

pytestmark = [
    pytest.mark.own_stack,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed"),
]

FIRST, SECOND, LAST = "2025-01", "2025-02", "2025-04"
"""What lies between is simulated as a broken month."""


@dataclass
class Redis:
    """On one port for all its lives."""

    folder: Path
    port: int
    server: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, folder: Path) -> "Redis":
        port = free_ports(1)[0]
        return cls(folder, port, start_redis(port, folder))

    def end(self) -> None:
        end_redis(self.server)

    def forget(self) -> None:
        """Killed, with all it held."""
        self.server.kill()
        self.server.wait()
        (self.folder / "dump.rdb").unlink(missing_ok=True)

    def start_again(self) -> None:
        self.server = start_redis(self.port, self.folder)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    running = Redis.start(tmp_path_factory.mktemp("redis"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def celery(tmp_path_factory: pytest.TempPathFactory, redis: Redis) -> Iterator[Stack]:
    """A stack whose trainings are short and run on the queue `gpu`."""
    home = tmp_path_factory.mktemp("celery") / "theta"
    env = own_environment(home) | {"THETA_CELERY_BROKER": redis_url(redis.port), "THETA_TRAIN_ON": "queue"}
    try:
        started = run_theta(env, "up")
        assert started.returncode == 0, started.stdout + started.stderr
        (home / "recipes").mkdir()
        short = "summary: Short\nstart: champion\nhyper:\n  max_steps: 80\n"
        (home / "recipes" / "continue.yaml").write_text(short)
        theta(env, "simulate", "--months", "4", "--seed", "11", "--start", FIRST)
        yield Stack(home, settings_of(env), env)
    finally:
        run_theta(env, "down")


def begin(stack: Stack, month: str, *arguments: str) -> str:
    return str(theta_json(stack.env, "retrain", "--month", month, "--bootstrap", *arguments)["run_id"])


def row(stack: Stack, run_id: str) -> dict[str, Any]:
    """The ledger's, once the run is over."""
    with Airflow(stack.settings) as airflow:
        until(f"{run_id} ends", lambda: airflow.run(run_id).finished, 900)
        run = airflow.run(run_id)
    assert run.state == "success", run.tasks
    (found,) = (each for each in theta_json(stack.env, "ledger") if each["run_id"] == run_id)
    return dict(found)


def queues(stack: Stack, run_id: str) -> dict[str, str]:
    """Of each task that ran."""
    airflow = psycopg.conninfo.make_conninfo(stack.settings.require_database(), dbname="airflow")
    with psycopg.connect(airflow) as connection:
        tasks = connection.execute(
            "SELECT task_id, queue FROM task_instance WHERE run_id = %s AND pid IS NOT NULL", [run_id]
        )
        return {str(task): str(queue) for task, queue in tasks}


def test_a_broker_that_is_not_there_ends_up_at_once(tmp_path: Path) -> None:
    env = own_environment(tmp_path / "theta") | {"THETA_CELERY_BROKER": f"redis://:secret@127.0.0.1:{free_ports(1)[0]}"}
    refused = run_theta(env, "up", timeout=30)
    assert refused.returncode == 1
    assert "does not answer" in refused.stderr
    assert "THETA_CELERY_BROKER" in refused.stderr
    assert "secret" not in refused.stderr
    assert run_theta(env, "status").returncode == 3


@pytest.mark.faults
def test_a_month_goes_through_workers_while_redis_forgets_and_comes_back(celery: Stack, redis: Redis) -> None:
    assert {each["name"] for each in look(celery)["services"] if each["healthy"]} >= set(QUEUES)
    run_id = begin(celery, FIRST)
    until("a stage is under way", lambda: stage_processes(celery.home, "snapshot"), 240)
    redis.forget()
    until("the stage ends", lambda: not stage_processes(celery.home, "snapshot"), 240)
    faults = [each["fault"] for each in look(celery)["services"] if each["name"] in QUEUES]
    assert all("does not answer" in str(fault) for fault in faults)
    redis.start_again()
    assert row(celery, run_id)["decision"] == "bootstrap"
    assert queues(celery, run_id) | {"train": "gpu", "snapshot": "default", "validate": "default"} == queues(
        celery, run_id
    )
    await_health(celery, 120, but={})


@pytest.mark.faults
def test_a_killed_worker_changes_nothing_but_the_time(celery: Stack) -> None:
    run_id = begin(celery, SECOND)
    until("training begins", lambda: stage_processes(celery.home, "train"), 600)
    killed = {"worker-gpu": pid_of(celery, "worker-gpu")}
    os.kill(killed["worker-gpu"], signal.SIGKILL)
    assert row(celery, run_id)["decision"] in {"bootstrap", "promoted", "rejected"}
    await_health(celery, 120, but=killed)


@pytest.mark.faults
def test_a_worker_killed_inside_a_shard_leaves_no_half_of_it(celery: Stack) -> None:
    worker = pid_of(celery, "worker-default")
    run_id = begin(celery, LAST, "--shards", "2")
    shard = until("a shard is under way", lambda: stage_processes(celery.home, "spool"), 300)[0]
    os.kill(worker, signal.SIGKILL)
    shard.kill()
    row(celery, run_id)
    await_health(celery, 120, but={"worker-default": worker})
    store = Store(celery.settings.artifacts, celery.home / "cache")
    assert store.places("extract") == store.places("spool") == []
    with Airflow(celery.settings) as airflow:
        places = [airflow.artifacts(run_id)["snapshot"]["uri"], *store.places("pack")]
    sharded = {place: files(store, place) for place in places}
    for place in places:
        shutil.rmtree(store.open(place).path)
    row(celery, begin(celery, LAST))
    assert {place: files(store, place) for place in places} == sharded


@pytest.mark.faults
def test_down_leaves_nothing(celery: Stack) -> None:
    assert celery.theta("down").returncode == 0
    assert_nothing_left(celery)
