"""The operator's child: real processes and pipes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from theta_airflow import child
from theta_airflow.child import StageProcess, stage_environment

from theta_ml.cli.stage import EXIT_CONFIG
from theta_ml.code import code_version

WAITING_STAGE = """
import signal, sys, threading
from theta_ml.cli import stage
from theta_ml.events import Events
stage._end_with_our_parent()
signal.signal(signal.SIGTERM, stage._terminate)
with Events("wait") as events:
    print("plain output")
    events.log("ready")
    events.progress(1, 2, "steps", "half")
    threading.Event().wait()
"""


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "COMMAND", (sys.executable, "-c", WAITING_STAGE))


def test_a_stage_gets_what_it_needs_and_no_secret_of_airflow() -> None:
    given = {
        "PATH": "/bin",
        "THETA_HOME": "/h",
        "AIRFLOW__API_AUTH__JWT_SECRET": "s",
        "AIRFLOW_CONN_X": "s",
        "AWS_X": "1",
        "THETA_CELERY_BROKER": "redis://:s@redis:6379/0",
        "THETA_AIRFLOW_PASSWORD": "s",
    }
    assert stage_environment(given) == {"PATH": "/bin", "THETA_HOME": "/h", "AWS_X": "1"}


def test_what_a_stage_says_arrives_while_it_works(waiting: None) -> None:
    with StageProcess([]) as process:
        events = process.events()
        first = sorted((next(events) for _ in range(3)), key=lambda event: event["event"])
        assert [event["event"] for event in first] == ["log", "output", "progress"]
        process.stop()
        assert list(events) == []
        assert process.returncode == 128 + signal.SIGTERM


def test_leaving_early_ends_the_stage(waiting: None) -> None:
    with StageProcess([]) as process:
        next(process.events())
        pid = process._child.pid
    assert not psutil.pid_exists(pid)


def test_a_stage_shares_its_task_s_process_group(waiting: None) -> None:
    with StageProcess([]) as process:
        next(process.events())
        assert os.getpgid(process._child.pid) == os.getpgid(0)


def test_a_stage_ends_when_its_operator_is_killed(tmp_path: Path) -> None:
    operator = f"""
import sys
from theta_airflow import child
child.COMMAND = (sys.executable, "-c", {WAITING_STAGE!r})
with child.StageProcess([]) as process:
    next(process.events())
    print(process._child.pid, flush=True)
    for _ in process.events(): pass
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", operator]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout
        stage = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert psutil.wait_procs([stage], timeout=10)[1] == []


def test_a_stage_of_other_code_than_its_caller_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THETA_CODE", "0123456789ab")
    heard: list[dict[str, Any]] = []
    assert StageProcess(["select", "--month", "2026-01"]).run(heard.append) == EXIT_CONFIG
    (error,) = (event for event in heard if event["event"] == "error")
    assert error["kind"] == "setting" and f"has code {code_version()}" in error["message"]
    assert "0123456789ab" in error["message"] and "THETA_IMAGE" in error["message"]


def test_wrong_usage_is_told_by_its_exit_code() -> None:
    with StageProcess(["snapshot", "--month", "2026-13"]) as process:
        said = "".join(event["message"] for event in process.events())
        assert process.returncode == 2
    assert "write it as YYYY-MM" in said
