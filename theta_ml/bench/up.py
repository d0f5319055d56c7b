"""How long until a stack is healthy, and what it holds in memory, beside `airflow standalone` on the same machine."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from theta_ml.bench import row
from theta_ml.bench.stack import clean_environment, free_ports, own_environment
from theta_ml.local import strays
from theta_ml.local.layout import MARKER, Layout, StackError
from theta_ml.local.status import memory

FIRST_TARGET = 90.0
AGAIN_TARGET = 60.0
"""Seconds."""

REST_TARGET = 3.0
"""GB (10⁹ bytes)."""

ROUNDS = 3
PEER = "airflow standalone (SQLite; no MLflow, PostgreSQL or mailbox)"
_PEER_DEADLINE = 300.0


def bench_up() -> list[dict[str, Any]]:
    """Rows of `theta bench up`, medians of several rounds. Raises StackError where either does not come up."""
    folder = Path(tempfile.mkdtemp(prefix="theta-bench-"))
    try:
        ours = [_ours(folder / f"theta{number}") for number in range(ROUNDS)]
        theirs = [_peer(folder / f"airflow{number}") for number in range(ROUNDS)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    first, again, resident, proportional = (statistics.median(column) for column in zip(*ours, strict=True))
    peer, peer_resident, peer_proportional = (statistics.median(column) for column in zip(*theirs, strict=True))
    return [
        _row("theta up, first time", first, "s", peer, FIRST_TARGET),
        _row("theta up, after theta down", again, "s", peer, AGAIN_TARGET),
        _row("at rest, shared pages counted in each process", resident / 1e9, "GB", peer_resident / 1e9, REST_TARGET),
        _row("at rest, shared pages counted once", proportional / 1e9, "GB", peer_proportional / 1e9, REST_TARGET),
    ]


def _row(name: str, value: float, unit: str, peer_value: float, target: float) -> dict[str, Any]:
    return row(
        name, value, unit, peer=PEER, peer_value=peer_value, ratio=value / peer_value, target=target, ok=value <= target
    )


def _ours(home: Path) -> tuple[float, float, int, int]:
    """Seconds of the first and of a later `theta up`; resident and proportional bytes at rest."""
    env = own_environment(home)
    try:
        first = _seconds(lambda: _theta("up", env))
        _theta("down", env)
        again = _seconds(lambda: _theta("up", env))
        resident, proportional = _at_rest(Layout(home))
    finally:
        _theta("down", env)
    return first, again, resident, proportional


def _seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _theta(command: str, env: dict[str, str]) -> None:
    code = f"from theta_ml.local.commands import {command}; {command}()"
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise StackError(f"`theta {command}` failed:\n{result.stdout}{result.stderr}")


def _at_rest(layout: Layout) -> tuple[int, int]:
    """Memory once start-up's garbage is gone and the first parse is over."""
    _settle()
    return memory(strays.everything(layout))


def _settle() -> None:
    time.sleep(20)  # rest is what is measured: there is no event to wait for


def _peer(home: Path) -> tuple[float, int, int]:
    """Seconds until `airflow standalone` calls its scheduler healthy; resident and proportional bytes at rest."""
    layout = Layout(home)
    with _standalone(layout) as url:
        seconds = _seconds(lambda: _await_scheduler(url))
        _settle()
        resident, proportional = memory(strays.marked(layout))
    return seconds, resident, proportional


@contextmanager
def _standalone(layout: Layout) -> Iterator[str]:
    """A fresh `airflow standalone`, ended with its whole tree (it leaves its services behind when it is killed)."""
    port, logs, triggers = (str(port) for port in free_ports(3))
    env = {
        **clean_environment(),
        MARKER: str(layout.home),
        "SPT_NOENV": "1",
        # It starts its services as `airflow`.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "AIRFLOW_HOME": str(layout.home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": logs,
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": triggers,
    }
    layout.home.mkdir(parents=True)
    with (layout.home / "standalone.log").open("wb") as log:
        process = psutil.Popen([sys.executable, "-m", "airflow", "standalone"], env=env, stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{port}/api/v2/monitor/health"
        finally:
            strays.end_marked(layout)
            process.wait(10)


def _await_scheduler(url: str) -> None:
    deadline = time.monotonic() + _PEER_DEADLINE
    while not _scheduler_healthy(url):
        if time.monotonic() > deadline:
            raise StackError(f"`airflow standalone` was not healthy within {_PEER_DEADLINE:.0f} s")
        time.sleep(0.25)


def _scheduler_healthy(url: str) -> bool:
    try:
        health = httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return False
    return health.is_success and health.json()["scheduler"]["status"] == "healthy"
