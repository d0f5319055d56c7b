"""Drives a running stack the way a person does: through the `theta` command and the process table."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import run_theta
from theta_ml.store import MARKER, Store


def theta(env: dict[str, str], *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs `theta …` against the stack of `env`."""
    done = run_theta(env, *arguments, timeout=900)
    if check:
        assert done.returncode == 0, f"theta {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def theta_json(env: dict[str, str], *arguments: str) -> Any:
    return json.loads(theta(env, *arguments, "--json").stdout)


def files(store: Store, uri: str) -> dict[str, bytes]:
    """Bytes of what lies at `uri`, by name; but for the marker, which holds times."""
    folder = store.open(uri).path
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != MARKER}


def until(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """Polls until `condition()` is true and returns it; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")


def stage_processes(home: Path, name: str) -> list[psutil.Process]:
    """Live `theta stage NAME` processes of the stack at `home`."""
    return [process for process in _processes_of(home) if _stage_of(process) == name]


def idle_worker(home: Path) -> psutil.Process:
    """A worker of the LocalExecutor that waits for work."""
    title = "LocalExecutor: <idle>"
    return next(process for process in _processes_of(home) if title in " ".join(process.cmdline()))


def _processes_of(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get("THETA_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended while we looked, or is not ours


def _stage_of(process: psutil.Process) -> str | None:
    try:
        words = process.cmdline()
    except psutil.NoSuchProcess:
        return None
    return words[words.index("stage") + 1] if "theta_ml" in words and "stage" in words else None
