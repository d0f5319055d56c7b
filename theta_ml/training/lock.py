"""One training at a time on a machine: an OS file lock, which the kernel gives back when its holder dies."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from theta_ml.events import Events

LOOK_SECONDS = 0.2


@contextmanager
def training_lock(home: Path, run_id: str, key: str, events: Events) -> Iterator[None]:
    """Waits for the training that holds the lock, if there is one, and says for whom."""
    folder = home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "training.json"
    lock = FileLock(folder / "training.lock")
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


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"process {who['pid']} of run {who['run']}, since {who['since']}"
    except (FileNotFoundError, json.JSONDecodeError):  # it is just coming or going
        return "it has just begun, or is about to end"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
