"""The whole stack, killed piece by piece."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import Stack, run_theta, settings_of
from theta_ml.bench.stack import own_environment
from theta_ml.local import strays
from theta_ml.local.layout import Layout
from theta_ml.local.processes import wait_gone
from theta_ml.local.status import Status

pytestmark = pytest.mark.own_stack


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """A stack that a test may break."""
    env = own_environment(tmp_path / "theta")
    try:
        started = run_theta(env, "up")
        assert started.returncode == 0, started.stdout + started.stderr
        yield Stack(tmp_path / "theta", settings_of(env), env)
    finally:
        run_theta(env, "down")


def look(stack: Stack) -> Status:
    return json.loads(stack.theta("status", "--json").stdout)


def pid_of(stack: Stack, service: str) -> int:
    return next(s["pid"] for s in look(stack)["services"] if s["name"] == service)


def await_health(stack: Stack, seconds: float, but: dict[str, int]) -> None:
    """Until every service is healthy, and none of those in `but` is still the process that was killed."""
    begun = time.monotonic()
    while True:
        found = look(stack)
        old = any(but.get(service["name"]) == service["pid"] for service in found["services"])
        if found["healthy"] and not old:
            return
        assert time.monotonic() - begun < seconds, json.dumps(found, indent=1)
        time.sleep(1)


def assert_nothing_left(stack: Stack) -> None:
    assert strays.everything(Layout(stack.home)) == []
    for name in ("THETA_AIRFLOW_PORT", "THETA_MLFLOW_PORT", "THETA_MAILBOX_PORT"):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", int(stack.env[name]))) != 0, name


def test_up_is_repeatable_kills_are_survived_and_down_leaves_nothing(own: Stack) -> None:
    again = own.theta("up")
    assert again.returncode == 0
    assert "already up" in again.stdout

    for services in (("postgres",), ("scheduler", "api-server", "mailbox")):
        killed = {service: pid_of(own, service) for service in services}
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        await_health(own, 150, but=killed)

    supervisor = int((own.home / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    wait_gone([psutil.Process(supervisor)] if psutil.pid_exists(supervisor) else [], 10)
    status = own.theta("status")
    assert status.returncode == 3
    assert "left over" in status.stdout

    assert own.theta("down").returncode == 0
    assert_nothing_left(own)
