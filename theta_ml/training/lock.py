"""One training at a time on a machine, and one attempt at a time on its checkpoints.

OS file locks, which the kernel gives back when their holder dies. The stage holds the first. Where it is killed, its
workers live on for some seconds, to write a last checkpoint; the second is theirs.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from theta_ml.events import Events
from theta_ml.training.processes import is_first
from theta_ml.training.stop import look

LOOK_SECONDS = 0.2


@contextmanager
def training_lock(home: Path, run_id: str, key: str, events: Events, node: int = 0) -> Iterator[None]:
    """Waits for the training that holds the lock, if there is one, and says for whom. `node`: of several that train
    together, and may share a home."""
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"training-{node}" if node else "training"
    holder = folder / f"{name}.json"
    lock = FileLock(folder / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        events.log(f"waiting for another training to end: {_describe(holder)}")
        lock.acquire(poll_interval=LOOK_SECONDS)
        events.log("the other training ended")
    try:
        holder.write_text(json.dumps({"pid": os.getpid(), "run": run_id, "key": key, "since": _now()}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def checkpoints_lock(folder: Path, stop: threading.Event, log: Callable[[str], None]) -> Iterator[None]:
    """Held by the first of a training's processes, all of which must ask; waits for an earlier attempt's to be gone.

    Raises Stopped where `stop` is set meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    if is_first():
        _await(lock, stop, log)
    try:
        look(stop)  # here the other processes wait for the first
        yield
    finally:
        lock.release()


def _await(lock: BaseFileLock, stop: threading.Event, log: Callable[[str], None]) -> None:
    """Comes back without the lock where it is asked to stop."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log("waiting for the processes of an earlier attempt, which was killed, to write their last checkpoint")
        with suppress(Timeout):
            lock.acquire(poll_interval=LOOK_SECONDS, cancel_check=stop.is_set)


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"process {who['pid']} of run {who['run']}, since {who['since']}"
    except (FileNotFoundError, json.JSONDecodeError):  # it is just coming or going
        return "it has just begun, or is about to end"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
