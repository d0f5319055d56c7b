"""Processes of one stack, found by the marker in their environment; nothing else is ever touched."""

import os
import signal
from collections.abc import Callable, Iterable, Set

import psutil

from theta_ml.local import postgres
from theta_ml.local.layout import MARKER, Layout
from theta_ml.local.processes import wait_gone

PATIENCE = 10.0
"""Seconds from SIGTERM to SIGKILL; a training stage needs up to five to write its checkpoint."""


def marked(layout: Layout) -> list[psutil.Process]:
    """Processes of this stack but for PostgreSQL's; this process and those it descends from are left out."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own and _carries(process, layout)]


def _carries(process: psutil.Process, layout: Layout) -> bool:
    try:
        return process.environ().get(MARKER) == str(layout.home) and process.name() != "postgres"
    except (psutil.Error, OSError):
        return False  # gone meanwhile, a zombie, or another user's: not ours


def everything(layout: Layout) -> list[psutil.Process]:
    """All processes of this stack."""
    return [*marked(layout), *postgres.processes(layout.postgres)]


def end_marked(layout: Layout, patience: float = PATIENCE, but: Set[int] = frozenset()) -> int:
    """End all but PostgreSQL and the pids in `but`, politely first, and again until none is left.

    Returns how many there were.
    """
    ended = 0
    while found := [process for process in marked(layout) if process.pid not in but]:
        ended += len(found)
        _signal(found, psutil.Process.terminate)
        _signal(wait_gone(found, patience), psutil.Process.kill)
        wait_gone(found, 5)
    return ended


def end_postgres(layout: Layout) -> int:
    """End PostgreSQL: fast shutdown, then SIGKILL. Returns how many processes there were."""
    found = list(postgres.processes(layout.postgres))
    pids = {process.pid for process in found}
    postmasters = [process for process in found if _parent(process) not in pids]
    _signal(postmasters, lambda process: process.send_signal(signal.SIGINT))
    _signal(wait_gone(found, 15), psutil.Process.kill)
    wait_gone(found, 5)
    return len(found)


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def _signal(processes: Iterable[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        try:
            send(process)
        except psutil.NoSuchProcess:
            continue


def await_end(pid: int, seconds: float = PATIENCE) -> None:
    """Wait for the end of a process that was told to end; it may be gone already."""
    if psutil.pid_exists(pid):
        try:
            wait_gone([psutil.Process(pid)], seconds)
        except psutil.NoSuchProcess:
            return
