"""The first process of a container."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from theta_ml.compose import watch
from theta_ml.local.programs import Program


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that says all is well; everything happens fifty times as often."""
    for name, value in {"INTERVAL": 0.2, "START_UP": 5.0, "UNWELL": 1.0, "HEALTHY": tmp_path / "healthy"}.items():
        monkeypatch.setattr(watch, name, value)
    return tmp_path / "healthy"


def program(code: str) -> Program:
    return Program("scheduler", [sys.executable, "-c", code], dict(os.environ))


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "import time, signal" in " ".join(each.cmdline())]


def test_what_hangs_is_ended_and_what_waits_for_another_is_not(quick: Path) -> None:
    begun = time.monotonic()
    away = ["Postgres is away"]

    def look() -> str | None:
        return None if not quick.exists() else "no heartbeat for 100 s"

    def excuse() -> str | None:
        return away[0] if time.monotonic() - begun < 4 else None

    assert watch.run(program("import time, signal; time.sleep(60)"), look, excuse) == 1
    assert time.monotonic() - begun > 5
    assert quick.exists()
    assert not children()


def test_it_ends_as_its_program_does_and_passes_on_that_it_shall_end(quick: Path) -> None:
    assert watch.run(program("raise SystemExit(7)"), lambda: "starting", lambda: None) == 7
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        code = "import time, signal; signal.signal(15, lambda *_: exit(9)); time.sleep(60)"
        assert watch.run(program(code), lambda: None, lambda: None) == 9
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_every_stage_is_told_to_write_its_checkpoint_though_a_zombie_stands_before_it() -> None:
    code = (
        "import os, subprocess, sys\n"
        "ended = subprocess.Popen(['true'])\n"
        "os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)\n"
        "stage = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', 'theta_ml'])\n"
        "print('ready', flush=True)\n"
        "sys.exit(-stage.wait())\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        assert worker.stdout.readline() == b"ready\n"
        assert any(each.status() == psutil.STATUS_ZOMBIE for each in psutil.Process(worker.pid).children())
        watch._checkpoint(worker, time.monotonic() - watch.CHECKPOINT)
        assert worker.wait(30) == signal.SIGTERM
