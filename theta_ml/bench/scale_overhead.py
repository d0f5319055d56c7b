"""What Celery adds to a run: a DAG of theta_retrain's shape whose tasks do nothing, with either executor in turn.

Both stacks are up all the while, so that what else the machine does falls on both alike.
"""

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from theta_ml.bench import row
from theta_ml.bench.pipeline import PEER, _measure, _peer_bundle
from theta_ml.bench.stack import free_ports, own_stack
from theta_ml.cli.airflow import Airflow
from theta_ml.local.workers import Broker

ROUNDS = 5
TARGET_RATIO = 1.5
LOCAL = "LocalExecutor"
_PATIENCE = 15.0
"""Seconds that Redis has to start."""


def overhead_rows() -> list[dict[str, Any]]:
    """Raises ClickException where there is no redis-server."""
    with own_redis() as url, _stack({}) as one, _stack({"THETA_CELERY_BROKER": url}) as other:
        # The first of each warms up what loads once.
        local, celery = zip(*[(one(), other()) for _ in range(ROUNDS + 1)][1:], strict=True)
    value, peer = statistics.median(celery), statistics.median(local)
    title = "a run of empty tasks with Celery"
    return [
        row(
            f"{title}, median", value, "s", peer=LOCAL, peer_value=peer, ratio=value / peer, target=TARGET_RATIO,
            ok=value / peer <= TARGET_RATIO,
        ),
        *(
            row(f"{title}, round {number}", mine, "s", peer=LOCAL, peer_value=its, ratio=mine / its)
            for number, (mine, its) in enumerate(zip(celery, local, strict=True), 1)
        ),
    ]  # fmt: skip


@contextmanager
def _stack(extra: dict[str, str]) -> Iterator[Callable[[], float]]:
    """One that is up; what it yields runs the DAG there once, and tells the seconds."""
    with own_stack(_peer_bundle() | extra) as (settings, _), Airflow(settings) as airflow:
        yield lambda: _measure(airflow, settings, PEER, {}).overhead


def require_redis() -> str:
    """The program. Raises ClickException where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise click.ClickException("needs redis-server: install it (Debian: apt-get install redis-server)")
    return program


@contextmanager
def own_redis() -> Iterator[str]:
    """A Redis on loopback for as long as it is needed; its URL."""
    folder, port = Path(tempfile.mkdtemp(prefix="theta-redis-")), free_ports(1)[0]
    server = start_redis(port, folder)
    try:
        yield redis_url(port)
    finally:
        end_redis(server)
        shutil.rmtree(folder)


def redis_url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def start_redis(port: int, folder: Path, *more: str) -> "subprocess.Popen[bytes]":
    """One that answers, and keeps in `folder` what it holds when it is told to end. Raises ClickException."""
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "3600 1", *more]
    server = subprocess.Popen([require_redis(), *where], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + _PATIENCE
    while (fault := Broker(redis_url(port)).fault()) and "refuses the login" not in fault:
        if time.monotonic() > deadline:
            end_redis(server)
            raise click.ClickException(fault)
        time.sleep(0.05)
    return server


def end_redis(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    server.wait()
