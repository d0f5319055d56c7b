"""Waiting for processes that are no children of ours."""

import time
from collections.abc import Iterable

import psutil


def wait_gone(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until they are gone; returns those still there.

    psutil.wait_procs waits for zombies too, and where nobody reaps them (a container's first process) for ever.
    """
    deadline = time.monotonic() + seconds
    left = [process for process in processes if _alive(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        left = [process for process in left if _alive(process)]
    return left


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
