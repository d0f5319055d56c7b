"""One of the processes that train together: `torchrun … -m theta_ml.training.worker JOB`, JOB a folder that `launch`
describes."""

import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import theta_ml.threads  # noqa: F401  before torch

from torch import distributed  # isort: skip

from theta_ml.events import EVENTS_FD, Events
from theta_ml.settings import load_settings
from theta_ml.stage import Inputs, Work, parse_spec
from theta_ml.store import Store
from theta_ml.training.launch import ALIVE, BEGUN, EVENTS, GRACE_SECONDS, RAISED, Job
from theta_ml.training.nodes import call_roll, node_count
from theta_ml.training.processes import is_first
from theta_ml.training.stop import Stopped, stop_on_sigterm


class Silent(Events):
    """Of all but the first process: they say nothing."""

    def __init__(self) -> None:
        self._console = None

    def _emit(self, event: str, **fields: Any) -> None:
        pass


def main() -> None:
    folder, rank = Path(sys.argv[1]), os.environ["LOCAL_RANK"]
    (folder / f"{BEGUN}-{rank}").touch()
    end_with_the_stage(folder)
    how = run(folder)
    partial = folder / f".outcome-{rank}"
    partial.write_text(json.dumps(how | {"time": time.time()}))
    partial.rename(folder / f"outcome-{rank}.json")
    if how["kind"] == "stopped":
        sys.stderr.flush()
        os._exit(0)  # of the 5 seconds after SIGTERM, none is for torch to unload
    if how["kind"] != "done":
        sys.exit(1)  # torchrun ends the others
    if distributed.is_initialized():
        distributed.destroy_process_group()


def run(folder: Path) -> dict[str, Any]:
    """How it ended: a `kind`, with a `value` or a `message`."""
    try:
        with events_of(folder) as events, stop_on_sigterm() as stop:
            return {"kind": "done", "value": train(Job.read(folder), events, stop)}
    except Stopped:
        return {"kind": "stopped"}
    except tuple(RAISED.values()) as error:
        kind = next(kind for kind, known in RAISED.items() if isinstance(error, known))
        return {"kind": kind, "message": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever it was: the stage must hear why this process ends
        traceback.print_exc()
        return {
            "kind": "error",
            "message": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        }


def train(job: Job, events: Events, stop: threading.Event) -> dict[str, Any] | None:
    """The candidate's noun, of the first process."""
    from theta_ml.training.train import STAGE, train_here

    if node_count() > 1:
        call_roll(job.key)
    settings = load_settings()
    store = Store(settings.artifacts, settings.home / "cache")
    inputs = Inputs((artifact.stage, artifact) for artifact in map(store.open, job.inputs))
    work = Work(job.run_id, job.key, Path(job.path), settings, store, events)
    model = train_here(parse_spec(STAGE, job.spec), inputs, work, stop)
    return asdict(model) if model else None


def events_of(folder: Path) -> Events:
    """The first process speaks, to the stage where there is one that listens."""
    if not is_first():
        return Silent()
    if (folder / EVENTS).exists():
        # For reading too: a stage that is gone breaks no pipe before a last checkpoint is written.
        os.environ[EVENTS_FD] = str(os.open(folder / EVENTS, os.O_RDWR))
    return Events("train")


def end_with_the_stage(folder: Path) -> None:
    """A stage that is gone, however it went, can neither keep the result nor the lock."""
    if not (folder / ALIVE).exists():
        return  # started by hand

    def watch() -> None:
        with (folder / ALIVE).open("rb") as alive:
            alive.read(1)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE_SECONDS)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="stage-watch", daemon=True).start()


if __name__ == "__main__":
    main()
