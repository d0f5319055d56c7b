"""Several processes for one training, started by its stage, heard by it, and ended with it.

The stage writes a job into a folder and starts torchrun, whose workers (`theta_ml.training.worker`) read it:

    job.json            what to train
    events              a FIFO: what the first worker says, line by line; torchrun hands no open file on
    alive               a FIFO that nobody writes to: its end tells the workers that the stage is gone
    begun-0, …          by number on this machine: they are up, for which all nodes must have come
    outcome-0.json, …   how each ended

On several machines (`THETA_TRAIN_NODES`) the stage runs on each, and starts the workers of its own (see `nodes`).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import TypeAdapter

from theta_ml.events import EVENTS_FD, Events
from theta_ml.settings import SettingsError
from theta_ml.stage import Inputs, StageFailed, StageRetry, Work
from theta_ml.training.lock import checkpoints_lock
from theta_ml.training.nodes import did_not_meet, meeting
from theta_ml.training.stop import Stopped

JOB, EVENTS, ALIVE, BEGUN = "job.json", "events", "alive", "begun"
GRACE_SECONDS = 10
"""From SIGTERM to SIGKILL, for workers that hang."""
RAISED: dict[str, type[Exception]] = {"failed": StageFailed, "retry": StageRetry, "setting": SettingsError}
"""By the kind of a worker's outcome."""


@dataclass(frozen=True)
class Job:
    """All that a worker must know; its settings it finds where the stage found them."""

    spec: dict[str, Any]
    inputs: list[str]
    """URIs."""
    run_id: str
    key: str
    path: str
    """Where the first worker writes the model."""

    @classmethod
    def read(cls, folder: Path) -> "Job":
        return cls(**json.loads((folder / JOB).read_text()))


def train_together(
    spec: Any, inputs: Inputs, work: Work, processes: int, stop: threading.Event
) -> dict[str, Any] | None:
    """The noun that the first worker made, as JSON has it; its files are in `work.path`. None where that worker is
    another node's. Call it in the main thread, inside of `stop_on_sigterm`, whose event is `stop`.

    Raises Stopped after SIGTERM, when the workers wrote a checkpoint; what the first worker to fail raised; StageRetry
    where one broke or was killed, or a node did not come; and SettingsError where it is not said how nodes meet.
    """
    together = meeting(work.settings)
    dumped = TypeAdapter(type(spec)).dump_python(spec, mode="json")
    job = Job(dumped, [artifact.uri for artifact in inputs.values()], work.run_id, work.key, str(work.path))
    with checkpoints_lock(work.settings.home / "checkpoints" / work.key, stop, work.events.log):
        pass  # a killed attempt's workers are gone, who would tell their outcome in this attempt's folder
    with job_folder(work.settings.home / "jobs" / f"{work.key}-{work.settings.train_node}", job) as folder:
        command = (sys.executable, "-m", "torch.distributed.run", *together, f"--nproc-per-node={processes}")
        options = ("--max-restarts=0", f"--shutdown-timeout={GRACE_SECONDS}", "-m", "theta_ml.training.worker")
        with _listening(folder / EVENTS, work.events), _alive(folder / ALIVE):
            _run([*command, *options, str(folder)], environment(work.settings.home, processes), stop)
        if work.settings.train_nodes > 1 and not stop.is_set() and not any(folder.glob(f"{BEGUN}-*")):
            raise did_not_meet(work.settings)
        return outcome(folder, processes, stop.is_set())


@contextmanager
def job_folder(folder: Path, job: Job) -> Iterator[Path]:
    """The job, written; an earlier attempt's is in the way only if it was killed, as the training's lock says."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / JOB).write_text(json.dumps(asdict(job)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def environment(home: Path, processes: int) -> dict[str, str]:
    """Of the workers: they share the processor's cores."""
    threads = str(max(1, (os.cpu_count() or 1) // processes))
    own = {name: value for name, value in os.environ.items() if name != EVENTS_FD}
    return {"OMP_NUM_THREADS": threads, **own, "THETA_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def outcome(folder: Path, processes: int, asked: bool) -> dict[str, Any] | None:
    """What the workers of this machine came to; `asked`: to end, which those that were not yet up do without a word."""
    files = {rank: folder / f"outcome-{rank}.json" for rank in range(processes)}
    ended = {rank: json.loads(file.read_text()) for rank, file in files.items() if file.exists()}
    kinds = {rank: how["kind"] for rank, how in ended.items()}
    if list(kinds.values()) == ["done"] * processes:
        noun: dict[str, Any] | None = ended[0]["value"]
        return noun
    for how in sorted(ended.values(), key=lambda how: float(how["time"])):
        if how["kind"] in RAISED:
            raise RAISED[how["kind"]](how["message"])
    if "error" not in kinds.values() and (asked or "stopped" in kinds.values()):
        raise Stopped
    raise StageRetry(_broken(ended, processes))


def _broken(ended: dict[int, dict[str, Any]], processes: int) -> str:
    killed = [str(rank) for rank in range(processes) if rank not in ended]
    errors = sorted((how["time"], rank, how["message"]) for rank, how in ended.items() if how["kind"] == "error")
    said = [f"process {rank} of {processes} broke: {message}" for _, rank, message in errors[:1]]
    if killed:
        said.insert(0, f"process {', '.join(killed)} of {processes} was killed (for lack of memory? `dmesg` may say)")
    return "; ".join(said) + "; the next attempt goes on from the last checkpoint"


def _run(command: list[str], env: dict[str, str], stop: threading.Event) -> None:
    """Until it ends, however it does; SIGTERM is passed on to it."""
    # Its standard output is none of the stage's, which is the artifact's URI.
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=2) as child:
        before = signal.getsignal(signal.SIGTERM)

        def pass_on(number: int, frame: FrameType | None) -> None:
            child.terminate()
            if callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, pass_on)
        if stop.is_set():
            child.terminate()  # asked before there was anything to pass it on to
        try:
            child.wait()
        finally:
            signal.signal(signal.SIGTERM, before)
            if child.poll() is None:
                child.terminate()


@contextmanager
def _listening(fifo: Path, events: Events) -> Iterator[None]:
    """Passes the first worker's events on."""
    os.mkfifo(fifo, 0o600)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    held = os.open(fifo, os.O_WRONLY)  # or reading would end before the first worker is there
    os.set_blocking(reading, True)

    def listen() -> None:
        with os.fdopen(reading) as lines:
            for line in lines:
                events.pass_on(json.loads(line))

    thread = threading.Thread(target=listen, name="workers-events")
    thread.start()
    try:
        yield
    finally:
        os.close(held)
        thread.join()


@contextmanager
def _alive(fifo: Path) -> Iterator[None]:
    os.mkfifo(fifo, 0o600)
    held = os.open(fifo, os.O_RDWR)
    try:
        yield
    finally:
        os.close(held)
